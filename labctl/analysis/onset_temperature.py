"""How an onset moves with temperature: a weighted straight line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from labctl.errors import AnalysisError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class OnsetTrend(BaseModel):
    """The line through onsets at several temperatures.

    Attributes:
        slope_v_per_k, u_slope_v_per_k: how far the onset moves per kelvin.
        onset_25c_v, u_onset_25c_v: the line at 25 degC.
        reduced_chi2: squared scatter in units of the onsets' uncertainties; None for two points.
    """

    model_config = ConfigDict(frozen=True)

    n_points: int
    slope_v_per_k: float
    u_slope_v_per_k: float
    onset_25c_v: float
    u_onset_25c_v: float
    reduced_chi2: float | None


def onset_trend(temperature_k: ArrayLike, onset_v: ArrayLike, u_onset_v: ArrayLike) -> OnsetTrend:
    """Return how onsets move with temperature.

    Args:
        temperature_k: shape (n_points,).
        onset_v: shape (n_points,).
        u_onset_v: their standard uncertainties, positive, shape (n_points,).

    Raises:
        AnalysisError: fewer than two temperatures.
    """
    t, e, u = (np.asarray(each, dtype=np.float64) for each in (temperature_k, onset_v, u_onset_v))
    if t.size < 2 or np.ptp(t) < 1.0:
        raise AnalysisError("fewer than two temperatures with an onset: no trend")
    weighted = np.column_stack((np.ones_like(t), t - 298.15)) / u[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    values = covariance @ (weighted.T @ (e / u))
    freedom = t.size - 2
    chi2 = float(((e / u - weighted @ values) ** 2).sum()) / freedom if freedom else None
    u_values = np.sqrt(np.diag(covariance) * max(1.0, chi2 or 1.0))
    return OnsetTrend(
        n_points=t.size,
        slope_v_per_k=float(values[1]),
        u_slope_v_per_k=float(u_values[1]),
        onset_25c_v=float(values[0]),
        u_onset_25c_v=float(u_values[0]),
        reduced_chi2=chi2,
    )
