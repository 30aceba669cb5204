"""Charge and discharge, over and over: capacity, coulombic efficiency and retention by cycle.

Constant current between two potentials, or constant current and then the upper potential held until
the current has fallen (CC-CV); one current after the other, each for a number of cycles. The
coulombic efficiency of a cycle is its discharge over its charge, the retention its discharge over
that of a named cycle (definitions as in the Battery Data Format's glossary and in common use).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from labctl.analysis.cycling import Cycle, HalfCycle, cycle_from
from labctl.instruments.capabilities import CanCa, CanCp, CanOcp
from labctl.instruments.techniques import Ocp
from labctl.quantities import DurationS, ShareOfOne
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.currents import CurrentParameters, Direction
from labctl_protocols.half_cycles import (
    HalfCycleSettings,
    half_cycle_steps,
    take_half_cycle,
)
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle
from labctl_protocols.potential_window import PotentialWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labctl.config import SampleConfig
    from labctl.run.run import Run

_MOST_CYCLES = 100_000


class Rate(CurrentParameters):
    """A current, and for how many cycles.

    Attributes:
        n_cycles: how many.
    """

    n_cycles: int = Field(default=1, ge=1, le=_MOST_CYCLES)


class CyclingParameters(PotentialWindow, OneTemperatureParameters):
    """Parameters of `cycling`.

    Attributes:
        rates: the currents, one after the other, each with its number of cycles.
        first: what a cycle begins with.
        cv_until: share of the current at which a hold at the upper potential ends; without it there
            is no hold.
        cv_longest: how long such a hold may last.
        rest: at open circuit after each half-cycle; "0 s" for none.
        interval: time between two points.
        reference_cycle: the cycle that retention counts from.
        end_below: the retention at which the protocol ends; without it, it takes every cycle.
    """

    rates: tuple[Rate, ...] = Field(min_length=1)
    first: Direction = "charge"
    cv_until: ShareOfOne | None = Field(default=None, gt=0, lt=1)
    cv_longest: DurationS = Field(default=7200.0, gt=0)
    rest: DurationS = Field(default=600.0, ge=0)
    interval: DurationS = Field(default=60.0, gt=0)
    reference_cycle: int = Field(default=1, ge=1)
    end_below: ShareOfOne | None = Field(default=None, gt=0, lt=1)

    def cycles(self, sample: SampleConfig) -> Iterator[tuple[int, HalfCycleSettings]]:
        """Give every cycle's number, from 1, and how its halves are taken."""
        number = 0
        for rate in self.rates:
            settings = HalfCycleSettings(
                current_a=rate.current_a(sample),
                window_v=self.window_v(sample),
                nominal_capacity_c=sample.nominal_capacity,
                interval_s=self.interval,
                cv_until=self.cv_until,
                cv_longest_s=self.cv_longest,
            )
            for _ in range(rate.n_cycles):
                number += 1
                yield number, settings

    def directions(self) -> tuple[Direction, Direction]:
        """Return the two halves of a cycle in their order."""
        return ("charge", "discharge") if self.first == "charge" else ("discharge", "charge")

    def resting(self) -> Ocp | None:
        """Return the rest after a half-cycle, if there is one."""
        if self.rest < self.interval:
            return None
        return Ocp(duration_s=self.rest, interval_s=self.interval)


def plan(parameters: CyclingParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `cycling` will take."""
    steps = planned_settle(parameters)
    resting = parameters.resting()
    for number, settings in parameters.cycles(sample):
        key = f"c{number:04d}"
        for direction in parameters.directions():
            steps += half_cycle_steps(key, direction, settings)
            if resting is not None:
                steps.append(step(f"{key}/rest-after-{direction}", resting))
    return steps


async def cycling(run: Run, parameters: CyclingParameters) -> None:
    """Take every cycle and record its capacities, efficiencies and retention."""
    await settle(run, parameters)
    reference: Cycle | None = None
    for number, settings in parameters.cycles(run.sample):
        cycle = await take_cycle(run, number, settings, parameters, reference)
        await run.record("cycle", cycle.model_dump(mode="json"))
        if number == parameters.reference_cycle:
            reference = cycle
        if reference and parameters.end_below and cycle.retention < parameters.end_below:
            run.conclude(f"retention of {cycle.retention:.1%} after {number} cycles")
            return


async def take_cycle(
    run: Run,
    number: int,
    settings: HalfCycleSettings,
    parameters: CyclingParameters,
    reference: Cycle | None,
) -> Cycle:
    """Take one cycle and return it."""
    halves: dict[Direction, HalfCycle] = {}
    resting = parameters.resting()
    for direction in parameters.directions():
        key = f"c{number:04d}"
        halves[direction] = await take_half_cycle(run, key, direction, settings)
        if resting is not None:
            await run.ocp(key=f"{key}/rest-after-{direction}", parameters=resting)
    return cycle_from(
        number,
        halves["charge"],
        halves["discharge"],
        reference=reference,
        active_mass_kg=run.sample.active_mass,
    )


PROTOCOL = Protocol(
    name="cycling",
    script=cycling,
    parameters=CyclingParameters,
    plan=plan,
    capabilities=(CanCp, CanCa, CanOcp),
    summary="charge and discharge: capacity, coulombic efficiency and retention by cycle",
)
