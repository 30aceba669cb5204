"""Intermittent current interruption: diffusion from short interruptions of a constant current.

Chien et al., Nat. Commun. 2023, 14, 2289. While a current flows for long, the potential moves as
fast as the potential at rest would; when it is interrupted, the potential goes back along sqrt(t)
with the slope that a pulse would have shown. Both together give the D of a titration without its
long rests. What the current would have done meanwhile is taken off first: a response to the step
alone is left, which is exact as long as the cell is linear.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from labctl.analysis.circuits import FloatArray
from labctl.analysis.diffusion import (
    Diffusion,
    Rate,
    Shape,
    diffusion,
    diffusion_m2_per_s,
    effective_length_m,
    line_objections,
    no_diffusion,
    rate_objections,
    time_objections,
)
from labctl.analysis.gitt import line_of, mean_current_a
from labctl.analysis.sqrt_time import SqrtTimeLine
from labctl.analysis.traces import checked_trace, straight_line

SHORTEST_FLOW = 0.4  # of L^2/D: before, the current's begin is still felt: 2 exp(-pi^2 0.4) = 4 %
_LAST_SHARE = 1 / 3
_SAME_PERIOD = 0.02


class EndOfFlow(BaseModel):
    """The last of a period of current.

    Attributes:
        potential_v: at its end, of a line through its last third.
        u_potential_v: standard uncertainty of that, of the points' scatter.
        slope_v_per_s: how fast the potential moves there.
        duration_s: of the period.
        current_a: its mean; positive if it charges a cathode.
    """

    model_config = ConfigDict(frozen=True)

    potential_v: float
    u_potential_v: float
    slope_v_per_s: float
    duration_s: float
    current_a: float


class Interruption(BaseModel):
    """What one interruption of a current says.

    Attributes:
        current_a: that was interrupted.
        r_ohm: from the line's value at the interruption: ohmic and charge transfer together.
        u_r_ohm: its standard uncertainty, of the points' scatter.
        k_ohm_per_sqrt_s: slope against sqrt(t) over the current: the diffusion resistance.
        u_k_ohm_per_sqrt_s: its standard uncertainty.
        rate_v_per_s: dE/dt of the current: between the ends of this period and the one before.
        u_rate_v_per_s: its standard uncertainty.
        flowed_s: for how long the current has flowed since its begin, interruptions left out.
        line: the straight line in sqrt(t); None with too few points.
        diffusion: the coefficient, or why there is none.
    """

    model_config = ConfigDict(frozen=True)

    current_a: float
    r_ohm: float
    u_r_ohm: float
    k_ohm_per_sqrt_s: float
    u_k_ohm_per_sqrt_s: float
    rate_v_per_s: float
    u_rate_v_per_s: float
    flowed_s: float
    line: SqrtTimeLine | None
    diffusion: Diffusion


def end_of_flow(elapsed_s: ArrayLike, potential_v: ArrayLike, current_a: ArrayLike) -> EndOfFlow:
    """Return how a period of current ended, from arrays of shape (n_points,).

    Raises:
        AnalysisError: fewer than three points, or no current.
    """
    elapsed, potential = checked_trace(elapsed_s, potential_v, fewest=3)
    count = max(3, math.ceil(_LAST_SHARE * elapsed.size))
    after, last_v = elapsed[-count:] - elapsed[-1], potential[-count:]
    at_end, slope, covariance = straight_line(after, last_v)
    return EndOfFlow(
        potential_v=at_end,
        u_potential_v=float(np.sqrt(covariance[0, 0])),
        slope_v_per_s=slope,
        duration_s=float(elapsed[-1]),
        current_a=mean_current_a(current_a),
    )


def analyze_interruption(
    elapsed_s: ArrayLike,
    potential_v: ArrayLike,
    *,
    flow: EndOfFlow,
    before: EndOfFlow | None,
    flowed_s: float,
    diffusion_length_m: float | None,
    shape: Shape = "plane",
) -> Interruption:
    """Return what an interruption says.

    Args:
        elapsed_s: since the current was interrupted, shape (n_points,).
        potential_v: shape (n_points,).
        flow: the period of current that was interrupted.
        before: the one before it, of the same current; None if it was the first.
        flowed_s: for how long the current has flowed since its begin, interruptions left out.
        diffusion_length_m: L of a plane, or the radius of spheres; None if unknown.
        shape: of what the ions diffuse in.

    Raises:
        AnalysisError: no points.
    """
    elapsed, potential = checked_trace(elapsed_s, potential_v, fewest=1)
    line = line_of(elapsed, _step_alone_v(elapsed, potential, flow))
    rate = _rate(flow, before)
    length_m = effective_length_m(diffusion_length_m or math.nan, shape)
    current_a, nan = flow.current_a, math.nan
    return Interruption(
        current_a=current_a,
        r_ohm=line.intercept_v / current_a if line else nan,
        u_r_ohm=abs(line.u_intercept_v / current_a) if line else nan,
        k_ohm_per_sqrt_s=line.slope_v_per_sqrt_s / current_a if line else nan,
        u_k_ohm_per_sqrt_s=abs(line.u_slope_v_per_sqrt_s / current_a) if line else nan,
        rate_v_per_s=rate.v_per_s,
        u_rate_v_per_s=rate.u_v_per_s,
        flowed_s=flowed_s,
        line=line,
        diffusion=_diffusion(
            line, rate, flow, flowed_s, length_m, objections=_period_objections(flow, before)
        ),
    )


def _period_objections(flow: EndOfFlow, before: EndOfFlow | None) -> list[str]:
    """Return that two ends cannot be compared: after its begin a current runs ahead of its rate."""
    if before is None or abs(flow.duration_s / before.duration_s - 1.0) < _SAME_PERIOD:
        return []
    return ["the current flowed for another time than in the period before"]


def _step_alone_v(elapsed: FloatArray, potential: FloatArray, flow: EndOfFlow) -> FloatArray:
    """Return what the current alone would have added since a step like that at the interruption."""
    return flow.potential_v + flow.slope_v_per_s * elapsed - potential


def _rate(flow: EndOfFlow, before: EndOfFlow | None) -> Rate:
    if before is None:
        return Rate(math.nan, math.nan)
    change_v = flow.potential_v - before.potential_v
    u_change_v = math.hypot(flow.u_potential_v, before.u_potential_v)
    return Rate(change_v / flow.duration_s, u_change_v / flow.duration_s)


def _diffusion(
    line: SqrtTimeLine | None,
    rate: Rate,
    flow: EndOfFlow,
    flowed_s: float,
    length_m: float,
    *,
    objections: list[str],
) -> Diffusion:
    """Return the coefficient with every condition checked."""
    if line is None:
        return no_diffusion("too few points in the interruption")
    if math.isnan(rate.v_per_s):
        return no_diffusion("the first interruption: nothing tells how fast the potential moves")
    current_a = flow.current_a
    said = [*objections, *line_objections(line, current_a=current_a)]
    said += rate_objections(rate, current_a=current_a)
    if math.isnan(length_m):
        return no_diffusion("no diffusion length", *said)
    d = diffusion_m2_per_s(rate, line, length_m)
    said += time_objections("an interruption", line.end_s, d, length_m)
    if flowed_s * d < SHORTEST_FLOW * length_m**2:
        share = flowed_s * d / length_m**2
        said.append(
            f"the current had flowed for {share:.2g} L^2/D only: expected {SHORTEST_FLOW:g}"
        )
    return diffusion(rate, line, length_m, objections=said)
