"""Peaks of a distribution of relaxation times: where processes are and what they resist."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Reals = NDArray[np.float64]

_SMALLEST_SHARE = 0.03  # of the polarisation resistance; less is ringing of the regularisation
_SAME_DECADES = 0.5  # how far the same process may move when lambda changes


class Peak(BaseModel):
    """One process of a distribution.

    Attributes:
        tau_s: relaxation time at the peak.
        r_ohm: its resistance, the integral from the minimum before it to the one after.
        share: of the polarisation resistance.
        capacitance_f: tau / R.
        r_spread_ohm: how much the resistance moves with lambda; NaN where it has no counterpart.
    """

    model_config = ConfigDict(frozen=True)

    tau_s: float
    r_ohm: float
    share: float
    capacitance_f: float
    r_spread_ohm: float = math.nan


def find_peaks(tau_s: Reals, gamma_ohm: Reals) -> list[Peak]:
    """Return the peaks with more than 3 % of the whole, fastest first."""
    d_ln_tau = float(np.log(tau_s[1] / tau_s[0]))
    total_ohm = float(gamma_ohm.sum() * d_ln_tau)
    if total_ohm <= 0:
        return []
    peaks = [
        _peak(tau_s, gamma_ohm, low, high, d_ln_tau, total_ohm) for low, high in _hills(gamma_ohm)
    ]
    return [peak for peak in peaks if peak.share > _SMALLEST_SHARE]


def _hills(gamma_ohm: Reals) -> list[tuple[int, int]]:
    """Return where each hill begins and ends: from valley to valley."""
    padded = np.concatenate([[0.0], gamma_ohm, [0.0]])
    rising = np.diff(padded) > 0
    valleys = [i for i in range(1, gamma_ohm.size) if not rising[i] and rising[i + 1]]
    return list(pairwise([0, *valleys, gamma_ohm.size]))


def _peak(
    tau_s: Reals, gamma_ohm: Reals, low: int, high: int, d_ln_tau: float, total_ohm: float
) -> Peak:
    hill = gamma_ohm[low:high]
    r_ohm = float(hill.sum() * d_ln_tau)
    at_s = float(tau_s[low + int(np.argmax(hill))])
    return Peak(
        tau_s=at_s,
        r_ohm=r_ohm,
        share=r_ohm / total_ohm,
        capacitance_f=at_s / r_ohm if r_ohm else math.inf,
    )


def with_spread(peak: Peak, others: Sequence[Sequence[Peak]]) -> Peak:
    """Return a peak with how far its counterparts at other lambdas are from it."""
    found = [_counterpart(peak, each) for each in others]
    if any(each is None for each in found):
        return peak
    spread = max(abs(each.r_ohm - peak.r_ohm) for each in found if each is not None)
    return peak.model_copy(update={"r_spread_ohm": spread})


def _counterpart(peak: Peak, others: Sequence[Peak]) -> Peak | None:
    def away(other: Peak) -> float:
        return abs(math.log10(other.tau_s / peak.tau_s))

    nearest = min(others, key=away, default=None)
    return nearest if nearest is not None and away(nearest) < _SAME_DECADES else None
