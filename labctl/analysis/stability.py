"""Whether a cell at rest stays what it is: its spectra against the first one, and their trend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtrit

from labctl.errors import AnalysisError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_S_PER_H = 3600.0
_SAME = 1e-3  # relative, of the frequencies of two spectra
_FEWEST = 3
_SURE = 0.99865  # on each side: three standard deviations of a normal distribution


class SpectrumChange(BaseModel):
    """How far a spectrum is from the first one.

    Attributes:
        rms_relative_change: root mean square of |Z - Z_first| / |Z_first| over the frequencies.
        largest_relative_change: its largest value.
        frequency_hz: where that is.
    """

    model_config = ConfigDict(frozen=True)

    rms_relative_change: float
    largest_relative_change: float
    frequency_hz: float


class Trend(BaseModel):
    """How a resistance moves with time.

    Attributes:
        relative_rate_per_h: slope over the mean, in 1/h.
        u_relative_rate_per_h: its standard uncertainty from the scatter about the line.
        is_significant: whether scatter alone would give such a slope in 0.3 % of all cases at most.
    """

    model_config = ConfigDict(frozen=True)

    relative_rate_per_h: float
    u_relative_rate_per_h: float
    is_significant: bool


def spectrum_change(
    frequency_hz: NDArray[np.float64],
    first_z_ohm: NDArray[np.complex128],
    z_ohm: NDArray[np.complex128],
    *,
    other_frequency_hz: NDArray[np.float64] | None = None,
) -> SpectrumChange:
    """Return how far a spectrum is from the first one, point by point.

    Args:
        frequency_hz: of the first one, shape (n_points,).
        first_z_ohm: the first one, shape (n_points,).
        z_ohm: the other one, shape (n_points,).
        other_frequency_hz: its frequencies, where they were measured apart.

    Raises:
        AnalysisError: the two were not measured at the same frequencies.
    """
    other_hz = frequency_hz if other_frequency_hz is None else other_frequency_hz
    if other_hz.shape != frequency_hz.shape or first_z_ohm.shape != z_ohm.shape:
        raise AnalysisError("spectra of different length cannot be compared")
    if np.max(np.abs(other_hz / frequency_hz - 1)) > _SAME:
        raise AnalysisError("spectra at different frequencies cannot be compared")
    away = np.abs(z_ohm - first_z_ohm) / np.abs(first_z_ohm)
    return SpectrumChange(
        rms_relative_change=float(np.sqrt(np.mean(away**2))),
        largest_relative_change=float(away.max()),
        frequency_hz=float(frequency_hz[int(np.argmax(away))]),
    )


def trend(time_s: Sequence[float], value: Sequence[float]) -> Trend:
    """Return the straight line through values against time.

    Raises:
        AnalysisError: fewer than three values.
    """
    if len(value) < _FEWEST:
        raise AnalysisError(f"{len(value)} values: a trend needs {_FEWEST} at least")
    times_h, values = np.asarray(time_s) / _S_PER_H, np.asarray(value)
    away_h = times_h - times_h.mean()
    spread = float(away_h @ away_h)
    slope = float(away_h @ values) / spread
    scatter = values - values.mean() - slope * away_h
    u_slope = math.sqrt(float(scatter @ scatter) / (len(values) - 2) / spread)
    mean = float(values.mean())
    return Trend(
        relative_rate_per_h=slope / mean,
        u_relative_rate_per_h=u_slope / abs(mean),
        is_significant=abs(slope) > float(stdtrit(len(values) - 2, _SURE)) * u_slope,
    )
