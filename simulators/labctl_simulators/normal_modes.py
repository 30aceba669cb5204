"""Normal modes of relaxations that share one current.

Capacitors in series, each beside its resistor, behind a source with a resistance: the states obey
dv_j/dt = -d_j v_j + b_j i with i = a - g sum(v). The matrix diag(d) + g b 1^T is a diagonal plus
rank one, and symmetric after scaling: its eigenvalues lie one between each two rates, at the roots
of 1 + g sum b_j / (d_j - lambda) = 0. Each is found as its distance from the nearest rate, so that
rates over thirty decades keep all their digits, which a general eigenvalue routine loses.

The roots by osculating rational functions: Bunch, Nielsen and Sorensen, Numer. Math. 1978, 31, 31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

_MAX_ITERATIONS = 60
_TOLERANCE = 1e-14
_APART = 1e-9  # rates that are equal are taken as this much apart


@dataclass(frozen=True, eq=False)
class NormalModes:
    """The modes of n relaxations behind a conductance.

    Attributes:
        rate_per_s: the rates of the modes, ascending, shape (n,).
        weight: mode k adds weight_k z_k exp(-rate_k t) to the current, shape (n,).
        into: deviations of the states from where they end are z = deviation @ into, (n, n).
        out: and back: deviation = out @ z, (n, n).
    """

    rate_per_s: Numbers
    weight: Numbers
    into: Numbers
    out: Numbers


def normal_modes(elastance: Numbers, rate_per_s: Numbers, conductance_s: float) -> NormalModes:
    """Return the modes of states in any order, for a conductance above 0."""
    order = np.argsort(rate_per_s, kind="stable")
    d, b = _apart(rate_per_s[order]), conductance_s * elastance[order]
    origin, distance = _roots(d, b)
    inverse = 1.0 / ((d[:, None] - d[origin][None, :]) - distance[None, :])  # 1 / (d_j - lambda_k)
    weight = 1.0 / np.sqrt(elastance[order] @ inverse**2)
    into, out = np.empty_like(inverse), np.empty_like(inverse)
    into[order] = inverse * weight
    out[order] = elastance[order][:, None] * into[order]
    return NormalModes(d[origin] + distance, weight, into, out)


def _apart(rates: Numbers) -> Numbers:
    """Return ascending rates with equal ones moved apart by what no measurement sees."""
    if np.all(rates[1:] > rates[:-1] * (1.0 + _APART)):
        return rates
    moved = rates.copy()
    for k in range(1, len(moved)):
        moved[k] = max(moved[k], moved[k - 1] * (1.0 + _APART))
    return moved


def _roots(d: Numbers, b: Numbers) -> tuple[NDArray[np.intp], Numbers]:
    """Return for each root the index of its nearest rate and its distance from there."""
    index = np.arange(len(d))
    half_gap = 0.5 * np.append(np.diff(d), 2.0 * np.sum(b))  # the last root has nothing above it
    at_middle = 1.0 + b @ (1.0 / ((d[:, None] - d[None, :]) - half_gap[None, :]))
    is_left = at_middle >= 0.0
    is_left[-1] = True
    origin = np.where(is_left, index, index + 1)
    return origin, _distances(d, b, origin, half_gap)


def _distances(d: Numbers, b: Numbers, origin: NDArray[np.intp], half_gap: Numbers) -> Numbers:
    """Return the distances of the roots from their origins.

    The terms of the rates on the origin's side are fitted, in value and slope, by a constant and a
    pole at the origin, the others by a constant and a pole at the interval's other end; the root of
    this model is that of a quadratic equation, and the next guess.
    """
    index = np.arange(len(d))
    is_left = origin == index
    to_other = np.where(is_left, 2.0, -2.0) * half_gap
    is_near = ((index[:, None] <= index[None, :]) == is_left[None, :]).astype(float)
    gap = d[:, None] - d[origin][None, :]
    distance = 0.5 * to_other
    for _ in range(_MAX_ITERATIONS):
        to_rate = gap - distance[None, :]
        terms = b[:, None] / to_rate
        slopes = terms / to_rate
        near, near_slope = np.sum(terms * is_near, 0), np.sum(slopes * is_near, 0)
        far, far_slope = np.sum(terms, 0) - near, np.sum(slopes, 0) - near_slope
        left = to_other - distance
        pole = near_slope * distance**2
        constant = 1.0 + near + near_slope * distance + far - far_slope * left
        linear = constant * to_other + pole + far_slope * left**2
        root = np.sqrt(np.maximum(linear**2 - 4.0 * constant * pole * to_other, 0.0))
        guess = 2.0 * pole * to_other / (linear + root)
        guess[-1] = pole[-1] / constant[-1]
        is_done = np.all(np.abs(guess - distance) <= _TOLERANCE * np.abs(guess))
        distance = guess
        if is_done:
            break
    return distance
