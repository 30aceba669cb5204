"""Potentials against time at open circuit: where a rest has got to, and how far it still has to go.

Also the checks that an array against time is what it should be.
"""

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from labctl.analysis.circuits import FloatArray
from labctl.errors import AnalysisError

_LAST_SHARE = 0.1
_FEWEST_AT_END = 5


class RestEnd(BaseModel):
    """Where a rest at open circuit has got to.

    Attributes:
        potential_v: at its end, of a line through its last tenth: the pseudo-OCV.
        u_potential_v: standard uncertainty of that, of the points' scatter.
        slope_v_per_s: how fast the potential still changes there.
        u_slope_v_per_s: its standard uncertainty.
        duration_s: of the rest.
    """

    model_config = ConfigDict(frozen=True)

    potential_v: float
    u_potential_v: float
    slope_v_per_s: float
    u_slope_v_per_s: float
    duration_s: float


def rest_end(elapsed_s: ArrayLike, potential_v: ArrayLike) -> RestEnd:
    """Return where a rest has got to, from arrays of shape (n_points,).

    Raises:
        AnalysisError: fewer than three points, or no time passes.
    """
    elapsed, potential = checked_trace(elapsed_s, potential_v, fewest=3)
    count = max(_FEWEST_AT_END, round(_LAST_SHARE * elapsed.size))
    after, last_v = elapsed[-count:] - elapsed[-1], potential[-count:]
    at_end, slope, covariance = straight_line(after, last_v)
    return RestEnd(
        potential_v=at_end,
        u_potential_v=float(np.sqrt(covariance[0, 0])),
        slope_v_per_s=slope,
        u_slope_v_per_s=float(np.sqrt(covariance[1, 1])),
        duration_s=float(elapsed[-1]),
    )


def checked_trace(
    elapsed_s: ArrayLike, values: ArrayLike, *, fewest: int
) -> tuple[FloatArray, FloatArray]:
    """Return a trace's finite points as arrays.

    Raises:
        AnalysisError: too few of them, unequal lengths, or times that do not rise.
    """
    elapsed = np.asarray(elapsed_s, dtype=np.float64)
    value = np.asarray(values, dtype=np.float64)
    if elapsed.ndim != 1 or elapsed.shape != value.shape:
        raise AnalysisError("a trace needs one value for each time")
    is_finite = np.isfinite(elapsed) & np.isfinite(value)
    elapsed, value = elapsed[is_finite], value[is_finite]
    if elapsed.size < fewest:
        raise AnalysisError(f"{elapsed.size} points: expected at least {fewest}")
    if np.any(np.diff(elapsed) <= 0):
        raise AnalysisError("the times of a trace must rise")
    return elapsed, value


def straight_line(x: FloatArray, y: FloatArray) -> tuple[float, float, FloatArray]:
    """Return value at x = 0, slope, and their covariance of the points' scatter, shape (2, 2)."""
    design = np.vander(x, 2, increasing=True)
    size = np.linalg.norm(design, axis=0)
    scaled = design / size
    inverse = np.linalg.inv(scaled.T @ scaled)
    values = inverse @ (scaled.T @ y)
    variance = float(((y - scaled @ values) ** 2).sum()) / max(1, x.size - 2)
    covariance = inverse * variance / np.outer(size, size)
    return float(values[0] / size[0]), float(values[1] / size[1]), covariance
