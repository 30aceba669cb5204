"""Diffusion coefficients from potentials: the formula, and the conditions under which it holds.

Weppner and Huggins, J. Electrochem. Soc. 1977, 124, 1569: under a constant current

    D = (4/pi) L^2 [(dEs/dt) / (dE/d sqrt(t))]^2

where dEs/dt is the rate at which the potential at rest moves for the charge that flows, and
dE/d sqrt(t) the slope after the current was stepped, for as long as diffusion does not feel the end
of its path. The conditions are checked with the D that is found.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from labctl.analysis.sqrt_time import SqrtTimeLine

Shape = Literal["plane", "sphere"]

LONGEST_STEP = 0.1  # of L^2/D: so long may a current flow, or be interrupted, for the line's sake
LOWEST_R_SQUARED = 0.99
FEWEST_U = 5.0  # standard uncertainties that a change must differ from 0 by


class Diffusion(BaseModel):
    """A diffusion coefficient, or why there is none.

    Attributes:
        d_m2_per_s: NaN if it cannot be trusted.
        u_d_m2_per_s: its standard uncertainty, of the potentials alone: the one of the diffusion
            length counts twice, and is common to all results on one sample.
        d_cm2_per_s, u_d_cm2_per_s: the same in the unit that people read.
        diffusion_time_s: L^2/D.
        objections: why it is NaN, in words; empty if it is a number.
    """

    model_config = ConfigDict(frozen=True)

    d_m2_per_s: float
    u_d_m2_per_s: float
    d_cm2_per_s: float
    u_d_cm2_per_s: float
    diffusion_time_s: float
    objections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rate:
    """How fast the potential at rest moves for the charge that flows, and how well it is known."""

    v_per_s: float
    u_v_per_s: float


def effective_length_m(diffusion_length_m: float, shape: Shape) -> float:
    """Return the length that stands in the formula: of spheres, a third of their radius.

    It is volume over surface: what of a particle lies behind each unit of its surface.
    """
    return diffusion_length_m / 3.0 if shape == "sphere" else diffusion_length_m


def diffusion_m2_per_s(rate: Rate, line: SqrtTimeLine, length_m: float) -> float:
    """Return D by the formula, whether its conditions hold or not; NaN without a slope."""
    slope = line.slope_v_per_sqrt_s
    return 4.0 / math.pi * length_m**2 * (rate.v_per_s / slope) ** 2 if slope else math.nan


def diffusion(
    rate: Rate, line: SqrtTimeLine, length_m: float, *, objections: Iterable[str]
) -> Diffusion:
    """Return D with its uncertainty; NaN if there are objections."""
    said = tuple(objections)
    if said:
        return no_diffusion(*said)
    d = diffusion_m2_per_s(rate, line, length_m)
    u_slope = line.u_slope_v_per_sqrt_s / line.slope_v_per_sqrt_s
    u = 2.0 * d * math.hypot(rate.u_v_per_s / rate.v_per_s, u_slope)
    return Diffusion(
        d_m2_per_s=d,
        u_d_m2_per_s=u,
        d_cm2_per_s=1e4 * d,
        u_d_cm2_per_s=1e4 * u,
        diffusion_time_s=length_m**2 / d,
    )


def no_diffusion(*objections: str) -> Diffusion:
    """Return that there is no coefficient, and why."""
    return Diffusion(
        d_m2_per_s=math.nan,
        u_d_m2_per_s=math.nan,
        d_cm2_per_s=math.nan,
        u_d_cm2_per_s=math.nan,
        diffusion_time_s=math.nan,
        objections=objections,
    )


def line_objections(line: SqrtTimeLine, *, current_a: float) -> list[str]:
    """Return what speaks against a line being that of diffusion after a step of `current_a`."""
    said: list[str] = []
    if not line.is_straight:
        said.append(f"no straight line in sqrt(t): its slope is uncertain by {line.bending:.0%}")
    if not line.r_squared > LOWEST_R_SQUARED:
        said.append(f"R^2 = {line.r_squared:.4f} in sqrt(t): expected > {LOWEST_R_SQUARED:g}")
    if line.slope_v_per_sqrt_s * current_a <= 0:
        said.append("the potential does not move with the current")
    return said


def rate_objections(rate: Rate, *, current_a: float) -> list[str]:
    """Return what speaks against a change of the potential at rest."""
    if abs(rate.v_per_s) <= FEWEST_U * rate.u_v_per_s:
        return ["the potential at rest moved no further than its noise: two phases?"]
    if rate.v_per_s * current_a <= 0:
        return ["the potential at rest moved against the current"]
    return []


def time_objections(what: str, time_s: float, d_m2_per_s: float, length_m: float) -> list[str]:
    """Return that something took too long for diffusion into a layer without an end."""
    share = time_s * d_m2_per_s / length_m**2
    if share <= LONGEST_STEP:
        return []
    return [f"{what} of {time_s:.3g} s is {share:.2g} L^2/D: expected at most {LONGEST_STEP:g}"]
