"""The capacitive current of a sweep: a straight line through its first part, and how far it holds.

The interfaces of a cell take up charge all along a sweep. A constant phase element does so with a
current that rises less and less, a leakage with one that goes on rising: beyond the window that the
line was fitted in, the truth lies between the line going on and the current staying.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

FloatArray = NDArray[np.float64]

_WINDOW = (0.05, 0.25)  # of the sweep; it begins with the double layer's own transient
_CLIP = 4.0  # standard deviations beyond which a point is none of the line's
_ROUNDS = 5
_BENT = 5.0  # standard deviations by which the window's end may lie above its line
_MUCH = 0.3  # of the capacitive current: a bend below is that current's own


class Baseline(BaseModel):
    """The capacitive current.

    Attributes:
        sign: +1 where the potential rises along the sweep, -1 where it falls.
        from_v, to_v: potentials of the window, in the order of the sweep.
        current_a: in the middle of the window.
        slope_a_per_v: there.
        noise_a: standard deviation of a point in the window.
        range_a: the current range there.
        warnings: what a reader should know.
    """

    model_config = ConfigDict(frozen=True)

    sign: float
    from_v: float
    to_v: float
    current_a: float
    u_current_a: float
    slope_a_per_v: float
    noise_a: float
    range_a: float
    warnings: tuple[str, ...] = ()

    def at(self, potential_v: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the expected current and its standard uncertainty, same shape as the potentials.

        Beyond the window: midway between the line and staying, and half their distance is the
        largest error, spread evenly.
        """
        potential = np.asarray(potential_v, dtype=np.float64)
        low_v, high_v = sorted((self.from_v, self.to_v))
        inside = np.clip(potential, low_v, high_v)
        middle_v = (self.from_v + self.to_v) / 2
        beyond_a = self.slope_a_per_v * (potential - inside)
        expected_a = self.current_a + self.slope_a_per_v * (inside - middle_v) + beyond_a / 2
        return expected_a, np.hypot(self.u_current_a, np.abs(beyond_a) / 2 / math.sqrt(3))

    def is_past(self, potential_v: FloatArray) -> NDArray[np.bool_]:
        """Return whether the sweep has left the window, same shape as the potentials."""
        return self.sign * (potential_v - self.to_v) > 0

    def noise_of(self, range_a: FloatArray) -> FloatArray:
        """Return the noise of points from their current range: it goes with the range."""
        return self.noise_a * np.maximum(range_a / self.range_a, 1.0)


def fit_baseline(potential_v: FloatArray, current_a: FloatArray, range_a: FloatArray) -> Baseline:
    """Return the line through the first part of a sweep, points far from it left out.

    Args:
        potential_v: in the order of the sweep, shape (n_points,).
        current_a: shape (n_points,).
        range_a: current range of each point, shape (n_points,).
    """
    begin_v, end_v = float(potential_v[0]), float(potential_v[-1])
    low_v, high_v = (begin_v + share * (end_v - begin_v) for share in _WINDOW)
    inside = (potential_v - low_v) * (potential_v - high_v) <= 0
    x, y = potential_v[inside] - (low_v + high_v) / 2, current_a[inside]
    kept = np.ones(x.size, dtype=bool)
    slope = middle_a = noise_a = 0.0
    for _ in range(_ROUNDS):
        slope, middle_a = np.polyfit(x[kept], y[kept], 1)
        off_a = y - middle_a - slope * x
        # From the median: a few points of another kind are not to hide themselves.
        noise_a = 1.4826 * float(np.median(np.abs(off_a[kept])))
        now_kept = np.abs(off_a) <= _CLIP * noise_a
        if now_kept.sum() < x.size // 2 or np.array_equal(now_kept, kept):
            break
        kept = now_kept
    white_a = _white_noise_a(y)
    sign = math.copysign(1.0, end_v - begin_v)
    return Baseline(
        sign=sign,
        from_v=low_v,
        to_v=high_v,
        current_a=float(middle_a),
        u_current_a=noise_a / math.sqrt(max(1, int(kept.sum()))),
        slope_a_per_v=float(slope),
        noise_a=max(noise_a, white_a),
        range_a=float(np.median(range_a[inside])),
        warnings=_bent(sign * x, sign * (y - middle_a - slope * x), white_a, float(middle_a)),
    )


def _white_noise_a(current_a: FloatArray) -> float:
    """Return the noise of a point from its neighbours, which share what is no noise."""
    second_a = current_a[2:] - 2 * current_a[1:-1] + current_a[:-2]
    return float(np.sqrt(np.mean(second_a**2) / 6))


def _bent(x: FloatArray, off_a: FloatArray, noise_a: float, middle_a: float) -> tuple[str, ...]:
    """Return a warning if the window's end lies above its line: something begins within it."""
    last_a = off_a[x > x[-1] - (x[-1] - x[0]) / 10]
    above_a = float(np.median(last_a))
    is_bent = above_a > _BENT * noise_a / math.sqrt(last_a.size)
    if not is_bent or above_a < _MUCH * abs(middle_a):
        return ()
    return (
        "a current begins within the first quarter of the sweep: the baseline holds some of it",
    )
