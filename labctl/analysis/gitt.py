"""Galvanostatic intermittent titration: what a pulse of current and the rest after it say.

Weppner and Huggins, J. Electrochem. Soc. 1977, 124, 1569. The change dEs of the potential at rest
and the slope against sqrt(t) during the pulse give the diffusion coefficient of what the ions
enter, if the pulse is much shorter than L^2/D and the rests are long against it.
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
from labctl.analysis.sqrt_time import SqrtTimeLine, sqrt_time_line
from labctl.analysis.traces import RestEnd, checked_trace
from labctl.errors import AnalysisError

MOST_UNRELAXED = 0.05  # of dEs


class GittPulse(BaseModel):
    """What one pulse and the rest after it say.

    Attributes:
        tau_s: how long the current flowed.
        current_a: its mean; positive if it charges a cathode.
        r_ohm: from the first point of the pulse, `r_time_s` after its begin: the shorter, the purer
            an ohmic resistance it is.
        r_time_s: see there.
        r_10s_ohm: at 10 s; NaN if the pulse is shorter.
        r_tau_ohm: at the pulse's end.
        overpotential_v: potential at the pulse's end less that at the end of the rest after it.
        step_v: dEs, the change of the potential at rest.
        u_step_v: its standard uncertainty, what has not relaxed yet included.
        line: the straight line in sqrt(t); None with too few points.
        diffusion: the coefficient, or why there is none.
    """

    model_config = ConfigDict(frozen=True)

    tau_s: float
    current_a: float
    r_ohm: float
    r_time_s: float
    r_10s_ohm: float
    r_tau_ohm: float
    overpotential_v: float
    step_v: float
    u_step_v: float
    line: SqrtTimeLine | None
    diffusion: Diffusion


def analyze_pulse(
    elapsed_s: ArrayLike,
    potential_v: ArrayLike,
    current_a: ArrayLike,
    *,
    before: RestEnd,
    after: RestEnd,
    diffusion_length_m: float | None,
    shape: Shape = "plane",
) -> GittPulse:
    """Return what a pulse says.

    Args:
        elapsed_s: since the pulse began, shape (n_points,).
        potential_v: shape (n_points,).
        current_a: measured, shape (n_points,).
        before: the end of the rest before the pulse.
        after: the end of the rest after it.
        diffusion_length_m: L of a plane, or the radius of spheres; None if unknown.
        shape: of what the ions diffuse in.

    Raises:
        AnalysisError: no points, or no current.
    """
    elapsed, potential = checked_trace(elapsed_s, potential_v, fewest=1)
    mean_a = mean_current_a(current_a)
    tau_s = float(elapsed[-1])
    line = line_of(elapsed, potential)
    length_m = effective_length_m(diffusion_length_m or math.nan, shape)
    unrelaxed_v = _unrelaxed_v(line, before, after, tau_s, length_m)
    step_v = after.potential_v - before.potential_v
    u_step_v = math.hypot(before.u_potential_v, after.u_potential_v, unrelaxed_v)
    over_ohm = (potential - before.potential_v) / mean_a
    return GittPulse(
        tau_s=tau_s,
        current_a=mean_a,
        r_ohm=float(over_ohm[0]),
        r_time_s=float(elapsed[0]),
        r_10s_ohm=float(np.interp(10.0, elapsed, over_ohm, left=np.nan, right=np.nan)),
        r_tau_ohm=float(over_ohm[-1]),
        overpotential_v=float(potential[-1] - after.potential_v),
        step_v=step_v,
        u_step_v=u_step_v,
        line=line,
        diffusion=_diffusion(
            line, Rate(step_v / tau_s, u_step_v / tau_s), unrelaxed_v, mean_a, tau_s, length_m
        ),
    )


def mean_current_a(current_a: ArrayLike) -> float:
    """Return the mean of a measured current; AnalysisError if none flowed."""
    measured = np.asarray(current_a, dtype=np.float64)
    mean_a = float(measured[np.isfinite(measured)].mean()) if np.isfinite(measured).any() else 0.0
    if mean_a == 0:
        raise AnalysisError("no current flowed")
    return mean_a


def line_of(elapsed_s: FloatArray, potential_v: FloatArray) -> SqrtTimeLine | None:
    """Return the line in sqrt(t), or None with too few points for one."""
    try:
        return sqrt_time_line(elapsed_s, potential_v)
    except AnalysisError:
        return None


def _unrelaxed_v(
    line: SqrtTimeLine | None, before: RestEnd, after: RestEnd, tau_s: float, length_m: float
) -> float:
    """Return about how far dEs is from what infinite rests would give; 0 where nothing tells.

    The slowest mode of a layer relaxes with L^2/(pi^2 D). What the rest before had left over goes
    on relaxing, and takes its share out of the difference.
    """
    if line is None:
        return 0.0
    rate = Rate((after.potential_v - before.potential_v) / tau_s, 0.0)
    d = diffusion_m2_per_s(rate, line, length_m)
    slope = after.slope_v_per_s - before.slope_v_per_s
    u_slope = math.hypot(after.u_slope_v_per_s, before.u_slope_v_per_s)
    if not d > 0 or abs(slope) < 3.0 * u_slope:
        return 0.0
    return abs(slope) * length_m**2 / (math.pi**2 * d)


def _diffusion(
    line: SqrtTimeLine | None,
    rate: Rate,
    unrelaxed_v: float,
    current_a: float,
    tau_s: float,
    length_m: float,
) -> Diffusion:
    """Return the coefficient with every condition checked."""
    if line is None:
        return no_diffusion("too few points in the pulse")
    said = line_objections(line, current_a=current_a)
    said += rate_objections(rate, current_a=current_a)
    if math.isnan(length_m):
        return no_diffusion("no diffusion length", *said)
    share = unrelaxed_v / abs(rate.v_per_s * tau_s) if rate.v_per_s else 0.0
    if share > MOST_UNRELAXED:
        said.append(f"the rest was too short: {share:.0%} of the change was still to relax")
    d = diffusion_m2_per_s(rate, line, length_m)
    said += time_objections("a pulse", tau_s, d, length_m)
    return diffusion(rate, line, length_m, objections=said)


def coulombic_efficiency(charge_c: float, discharge_c: float) -> float:
    """Return what a discharge gave back of a charge, both in magnitude; NaN without a charge."""
    return abs(discharge_c / charge_c) if charge_c else math.nan
