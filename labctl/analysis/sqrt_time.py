"""A potential that follows the square root of time: the sign of diffusion into a thick layer.

After a step of current the potential first jumps by the ohmic drop, then charge transfer relaxes,
and what follows is diffusion: a straight line against sqrt(t) as long as it does not feel the end
of its path. The line here begins where the data have become straight.
"""

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from labctl.analysis.circuits import FloatArray
from labctl.errors import AnalysisError

FEWEST_POINTS = 10
MOST_BENDING = 0.05  # relative error of the slope, by bending, up to which a line is straight
_SIGNIFICANT = 3.0  # standard uncertainties
_LATEST_BEGIN = 0.25  # of the last time: the line keeps half of the range in sqrt(t)
_CANDIDATES_PER_E = 4.0


class SqrtTimeLine(BaseModel):
    """A straight line through a potential against the square root of time.

    Attributes:
        slope_v_per_sqrt_s: dE/d sqrt(t).
        u_slope_v_per_sqrt_s: its standard uncertainty; what is left of bending counts in it.
        intercept_v: the line at t = 0: the potential without what diffusion adds.
        u_intercept_v: its standard uncertainty, of the points' scatter alone.
        r_squared: share of the variance that the line explains.
        bending: about how far the slope is from that at the begin of the step, relative to it: how
            much the local slope differs along the line, for as far as the line's middle is from
            t = 0. An open-circuit curve that bends within a pulse, or a resistance that changes
            with the charge, shows here.
        is_straight: whether the bending is small, or not beyond the points' scatter.
        begin_s: first time that the line uses: jump and charge transfer lie before.
        end_s: last time that it uses.
        n_points: points that it uses.
    """

    model_config = ConfigDict(frozen=True)

    slope_v_per_sqrt_s: float
    u_slope_v_per_sqrt_s: float
    intercept_v: float
    u_intercept_v: float
    r_squared: float
    bending: float
    is_straight: bool
    begin_s: float
    end_s: float
    n_points: int


def sqrt_time_line(
    elapsed_s: ArrayLike, potential_v: ArrayLike, *, begin_s: float | None = None
) -> SqrtTimeLine:
    """Return the line, begun as early as the data are straight.

    Args:
        elapsed_s: since the current was stepped, ascending, shape (n_points,).
        potential_v: shape (n_points,).
        begin_s: where to begin; without it, the earliest time from which on the data are straight,
            and if there is none, the time that bends the least.

    Raises:
        AnalysisError: too few points.
    """
    elapsed = np.asarray(elapsed_s, dtype=np.float64)
    potential = np.asarray(potential_v, dtype=np.float64)
    begins = _candidates(elapsed) if begin_s is None else np.array([begin_s])
    lines: list[SqrtTimeLine] = []
    for begin in begins:
        is_used = elapsed >= begin
        if int(is_used.sum()) < FEWEST_POINTS:
            break
        lines.append(_line(elapsed[is_used], potential[is_used]))
        if lines[-1].is_straight:
            return lines[-1]
    if not lines:
        raise AnalysisError(f"fewer than {FEWEST_POINTS} points for a line against sqrt(t)")
    return min(lines, key=lambda line: line.bending)


def _candidates(elapsed: FloatArray) -> FloatArray:
    """Return the times at which a line may begin, evenly spaced in their logarithm."""
    positive = elapsed[elapsed > 0]
    if not positive.size:
        return positive
    first, latest = float(positive[0]), _LATEST_BEGIN * float(elapsed[-1])
    if latest <= first:
        return np.array([first])
    count = max(2, round(_CANDIDATES_PER_E * float(np.log(latest / first))) + 1)
    return np.geomspace(first, latest, count)


def _line(elapsed: FloatArray, potential: FloatArray) -> SqrtTimeLine:
    root = np.sqrt(elapsed)
    middle, half = (root[0] + root[-1]) / 2, (root[-1] - root[0]) / 2
    x = (root - middle) / half
    (at_middle, slope), covariance, off = _polynomial(x, potential, 1)
    differs, u_differs = _slope_differs(x, potential, slope)
    lever = middle / (2.0 * half)
    bending, u_bending = lever * differs, lever * u_differs
    to_zero = np.array([1.0, -middle / half])
    spread = float(((potential - potential.mean()) ** 2).sum())
    u_bent = bending * abs(slope) / np.sqrt(3.0)
    return SqrtTimeLine(
        slope_v_per_sqrt_s=float(slope / half),
        u_slope_v_per_sqrt_s=float(np.hypot(np.sqrt(covariance[1, 1]), u_bent) / half),
        intercept_v=float(np.array([at_middle, slope]) @ to_zero),
        u_intercept_v=float(np.sqrt(to_zero @ covariance @ to_zero)),
        r_squared=1.0 - off / spread if spread > 0 else 0.0,
        bending=float(bending),
        is_straight=bool(bending <= max(MOST_BENDING, _SIGNIFICANT * u_bending)),
        begin_s=float(elapsed[0]),
        end_s=float(elapsed[-1]),
        n_points=int(elapsed.size),
    )


def _slope_differs(x: FloatArray, potential: FloatArray, slope: float) -> tuple[float, float]:
    """Return by how much the local slope differs along a line, relative to it, and how sure.

    Of a cubic, between any two of five places: an exponential of slow charge transfer has the same
    slope at both ends of the right stretch, and another one between.
    """
    if slope == 0:
        return np.inf, np.inf
    values, covariance, _ = _polynomial(x, potential, 3)
    places = np.linspace(-1.0, 1.0, 5)
    local = np.stack([0 * places, 1 + 0 * places, 2 * places, 3 * places**2], axis=1)
    slopes = local @ values
    low, high = int(np.argmin(slopes)), int(np.argmax(slopes))
    apart = local[high] - local[low]
    u = np.sqrt(max(0.0, float(apart @ covariance @ apart)))
    return float((slopes[high] - slopes[low]) / abs(slope)), float(u / abs(slope))


def _polynomial(x: FloatArray, y: FloatArray, degree: int) -> tuple[FloatArray, FloatArray, float]:
    """Return coefficients from degree 0 on, their covariance, and the sum of squared residuals."""
    design = np.vander(x, degree + 1, increasing=True)
    inverse = np.linalg.inv(design.T @ design)
    values = inverse @ (design.T @ y)
    off = float(((y - design @ values) ** 2).sum())
    return values, inverse * off / (x.size - degree - 1), off
