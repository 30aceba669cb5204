"""Titration with pulses of current: diffusion, overpotentials and coulombic efficiency of a cell.

The cell is charged, and then discharged, pulse by pulse, each followed by a rest (Weppner and
Huggins, J. Electrochem. Soc. 1977, 124, 1569), or by constant current with short interruptions
(Chien et al., Nat. Commun. 2023, 14, 2289). Each branch ends with the pulse that reaches its
potential.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from labctl.analysis.gitt import coulombic_efficiency
from labctl.errors import BadInputError
from labctl.instruments.capabilities import CanCp, CanOcp
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle
from labctl_protocols.titration import (
    Mode,
    TitrationParameters,
    pulse_steps,
)
from labctl_protocols.titration_pulses import PulseTaken, Titration

if TYPE_CHECKING:
    from labctl.config import SampleConfig
    from labctl.run.run import Run
    from labctl_protocols.currents import Direction

_SPARE = 1.25  # a cell may hold more than its nominal capacity
_MOST_PULSES = 5000
_MOST_OFF = 0.005  # of the charge: how far from its begin a cell may end
_MAH_PER_G = 1.0 / 3.6 / 1000.0  # of C/kg
_BRANCHES: dict[str, tuple[Direction, ...]] = {
    "charge": ("charge",),
    "discharge": ("discharge",),
    "charge, discharge": ("charge", "discharge"),
}


class GittParameters(TitrationParameters, OneTemperatureParameters):
    """Parameters of `gitt`, besides those of its pulses and rests and of a temperature to hold.

    Attributes:
        mode: "gitt": the potential comes to rest after each pulse; "ici": the current is only
            interrupted.
        branches: which way the cell is taken, and in which order.
        max_pulses: of each branch; without it what the nominal capacity needs and a quarter more.
    """

    mode: Mode = "gitt"
    branches: Literal["charge", "discharge", "charge, discharge"] = "charge, discharge"
    max_pulses: Annotated[int, Field(ge=1, le=_MOST_PULSES)] | None = None

    def mode_of_rests(self) -> Mode:
        """Return whether the potential comes to rest between pulses, or they are interruptions."""
        return self.mode

    def directions(self) -> tuple[Direction, ...]:
        """Return the branches in order."""
        return _BRANCHES[self.branches]

    def rests_before(self, index: int) -> bool:
        """Return whether a rest comes before a branch; after a titration's pulse there was one."""
        return index == 0 or self.mode == "ici"

    def most_pulses(self, sample: SampleConfig) -> int:
        """Return how many pulses a branch has at most.

        Raises:
            BadInputError: neither parameters nor sample tell.
        """
        if self.max_pulses is not None:
            return self.max_pulses
        if sample.nominal_capacity is None:
            message = "nominal_capacity: missing; without it the parameter max_pulses is needed"
            raise BadInputError(f"sample: {message}")
        pulse_c = self.current_a(sample) * self.pulse_s()
        count = math.ceil(_SPARE * sample.nominal_capacity / pulse_c)
        if count > _MOST_PULSES:
            raise BadInputError(
                f"{count} pulses for the nominal capacity: expected at most {_MOST_PULSES}; take a "
                "longer pulse_duration or set max_pulses"
            )
        return count


def place_of(direction: Direction, number: int) -> str:
    """Return where a pulse stands: "charge-001"."""
    return f"{direction}-{number:03d}"


def plan(parameters: GittParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `gitt` may take; how many pulses a branch needs only shows later."""
    steps = planned_settle(parameters)
    for index, direction in enumerate(parameters.directions()):
        if parameters.rests_before(index):
            steps.append(step(f"{direction}/rest", parameters.rest()))
        for number in range(1, parameters.most_pulses(sample) + 1):
            place = place_of(direction, number)
            steps += pulse_steps(parameters, place, direction, sample, is_optional=number > 1)
    return steps


async def gitt(run: Run, parameters: GittParameters) -> None:
    """Titrate the cell branch by branch, and say what came of each pulse and of the whole."""
    await settle(run, parameters)
    titration = Titration(run, parameters)
    for index, direction in enumerate(parameters.directions()):
        if parameters.rests_before(index):
            await titration.rest(f"{direction}/rest")
        await _take_branch(titration, parameters, direction)
    await run.record("gitt_summary", _summary(run, parameters, titration))


async def _take_branch(
    titration: Titration, parameters: GittParameters, direction: Direction
) -> None:
    """Take pulses until one reaches the branch's potential."""
    for number in range(1, parameters.most_pulses(titration.run.sample) + 1):
        taken = await titration.take(place_of(direction, number), direction)
        if taken.ended_by:
            return


def _summary(run: Run, parameters: GittParameters, titration: Titration) -> dict[str, Any]:
    """Return what the whole titration says."""
    sample, taken = run.sample, titration.taken
    branches = {
        direction: _branch(run, [each for each in taken if each.direction == direction])
        for direction in parameters.directions()
    }
    efficiency, warnings = _efficiency(branches)
    lost = (
        _back_c(titration) / branches["charge"]["charge_c"]
        if math.isfinite(efficiency)
        else math.nan
    )
    below = efficiency - 1.0 + lost
    if abs(below) > _MOST_OFF:
        side = "below" if below > 0 else "above"
        warnings.append(
            f"at rest the cell ended {abs(below):.1%} of the charge {side} where it began: so much "
            "of the coulombic efficiency is neither loss nor gain; see lost_share"
        )
    if sample.reference_potential is None:
        warnings.append("no reference_potential: potentials against Li+/Li are not known")
    return {
        "mode": parameters.mode,
        "current_a": parameters.current_a(sample),
        "diffusion_length_m": parameters.length_m(sample),
        "diffusion_shape": parameters.diffusion_shape,
        "reference_potential_v": sample.reference_potential,
        "coulombic_efficiency": efficiency,
        "lost_share": lost,
        "branches": branches,
        "warnings": warnings,
    }


def _branch(run: Run, taken: list[PulseTaken]) -> dict[str, Any]:
    """Return what one branch says."""
    charge_c = sum(each.charge_c for each in taken)
    found = [each.diffusion.d_m2_per_s for each in taken if each.diffusion is not None]
    trusted = [d for d in found if math.isfinite(d)]
    mass_kg = run.sample.active_mass
    return {
        "n_pulses": len(taken),
        "n_diffusion": len(trusted),
        "d_median_m2_per_s": float(np.median(trusted)) if trusted else math.nan,
        "charge_c": charge_c,
        "capacity_mah_per_g": math.nan if mass_kg is None else charge_c / mass_kg * _MAH_PER_G,
        "ended_by": taken[-1].ended_by or "the largest number of pulses",
        "reached_its_potential": bool(taken[-1].ended_by),
    }


def _back_c(titration: Titration) -> float:
    """Return the net charge where a discharge came back to the potential at rest of the begin.

    Between two rests, or beyond the last of them where it ended before; NaN if nothing tells. What
    has been charged and has not come back by then is lost.
    """
    first = titration.first_rest
    net_c = np.cumsum([each.charge_c for each in titration.taken])
    back = [
        (each.rest.potential_v, charge_c)
        for each, charge_c in zip(titration.taken, net_c, strict=True)
        if each.direction == "discharge" and each.rest is not None
    ]
    if first is None or len(back) < 2 or titration.is_interrupted:
        return math.nan
    rest_v, passed_c = np.array(back).T
    if not np.all(np.diff(rest_v) < 0):
        return math.nan
    if first.potential_v >= rest_v[-1]:
        return float(np.interp(first.potential_v, rest_v[::-1], passed_c[::-1]))
    slope_c_per_v = (passed_c[-1] - passed_c[-2]) / (rest_v[-1] - rest_v[-2])
    return float(passed_c[-1] + slope_c_per_v * (first.potential_v - rest_v[-1]))


def _efficiency(branches: dict[str, dict[str, Any]]) -> tuple[float, list[str]]:
    """Return the coulombic efficiency, and why it is NaN if it is."""
    if set(branches) != {"charge", "discharge"}:
        return math.nan, ["one branch only: no coulombic efficiency"]
    for direction, branch in branches.items():
        if not branch["reached_its_potential"]:
            return math.nan, [
                f"the {direction} did not reach its potential: no coulombic efficiency"
            ]
    charge_c, discharge_c = (branches[each]["charge_c"] for each in ("charge", "discharge"))
    return coulombic_efficiency(charge_c, discharge_c), []


PROTOCOL = Protocol(
    name="gitt",
    script=gitt,
    parameters=GittParameters,
    plan=plan,
    capabilities=(CanCp, CanOcp),
    summary="pulses of current and rests: diffusion, overpotential, coulombic efficiency",
)
