"""Cycling with spectra on the way: which processes change with charge, and whether they come back.

The current is interrupted at intervals, the cell rests at open circuit, and a spectrum is measured
around the potential it has come to; its distribution of relaxation times tells the processes apart
(as in J. Am. Chem. Soc. 2024, 146, 29335: four cycles, 2.6-4.8 V against Li+/Li, 0.09 mA/cm2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from labctl.analysis.cycling import Cycle, HalfCycle, cycle_from, together
from labctl.instruments.capabilities import CanCp, CanEis, CanOcp
from labctl.instruments.techniques import Ocp
from labctl.quantities import DurationS, ShareOfOne, VoltageV
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.currents import SIGN, CurrentParameters, Direction
from labctl_protocols.half_cycles import (
    HalfCycleSettings,
    summary,
)
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle
from labctl_protocols.potential_window import PotentialWindow
from labctl_protocols.spectra import SpectrumParameters, processes

if TYPE_CHECKING:
    from labctl.config import SampleConfig
    from labctl.run.run import Run

_DIRECTIONS: tuple[Direction, Direction] = ("charge", "discharge")


class CyclingEisParameters(
    CurrentParameters, PotentialWindow, SpectrumParameters, OneTemperatureParameters
):
    """Parameters of `cycling_eis`.

    Attributes:
        n_cycles: how many cycles.
        eis_every: time of current between two spectra; or
        eis_every_soc: share of the nominal capacity between two spectra.
        rest: at open circuit before a spectrum, at most.
        rest_change: the rest ends early once the potential changes by less than this in
            `rest_window`.
        rest_window: see there.
        interval: time between two points.
    """

    n_cycles: int = Field(default=4, ge=1)
    eis_every: DurationS | None = Field(default=None, gt=0)
    eis_every_soc: ShareOfOne | None = Field(default=None, gt=0, le=1)
    rest: DurationS = Field(default=1800.0, gt=0)
    rest_change: VoltageV = Field(default=1e-3, gt=0)
    rest_window: DurationS = Field(default=300.0, gt=0)
    interval: DurationS = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _one_spacing(self) -> Self:
        if (self.eis_every is None) == (self.eis_every_soc is None):
            raise ValueError("expected one of eis_every, eis_every_soc")
        if self.eis_every is not None and self.eis_every < self.interval:
            raise ValueError("eis_every: expected at least one interval")
        if self.rest < self.interval:
            raise ValueError("rest: expected at least one interval")
        return self

    def settings(self, sample: SampleConfig) -> HalfCycleSettings:
        """Return how halves are taken."""
        return HalfCycleSettings(
            current_a=self.current_a(sample),
            window_v=self.window_v(sample),
            nominal_capacity_c=sample.nominal_capacity,
            interval_s=self.interval,
        )

    def segment_s(self, sample: SampleConfig) -> float:
        """Return for how long current flows between two spectra.

        Raises:
            BadInputError: it is given by the state of charge, and the sample does not tell what it
                can hold.
        """
        if self.eis_every is not None:
            return self.eis_every
        rate = CurrentParameters(c_rate=self.eis_every_soc)
        return rate.current_a(sample) * 3600.0 / self.current_a(sample)

    def resting(self) -> Ocp:
        """Return the rest before a spectrum."""
        return Ocp(
            duration_s=self.rest,
            interval_s=self.interval,
            stop_change_v=self.rest_change,
            stop_window_s=self.rest_window,
        )

    def most_segments(self, sample: SampleConfig) -> int:
        """Return how many pieces a half-cycle may have."""
        return max(1, math.ceil(self.settings(sample).longest_s / self.segment_s(sample)))


def plan(parameters: CyclingEisParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `cycling_eis` may take; the first piece of each half for sure."""
    steps = planned_settle(parameters)
    for place in _places(parameters, sample):
        steps += _piece_steps(place, parameters, sample)
    return steps


@dataclass(frozen=True)
class _Place:
    """One piece of a half-cycle."""

    cycle: int
    direction: Direction
    piece: int

    def key(self, kind: str) -> str:
        """Return the key of one of its steps."""
        return f"c{self.cycle:02d}/{self.direction}-{self.piece:03d}/{kind}"


def _places(parameters: CyclingEisParameters, sample: SampleConfig) -> list[_Place]:
    return [
        _Place(cycle, direction, piece)
        for cycle in range(1, parameters.n_cycles + 1)
        for direction in _DIRECTIONS
        for piece in range(1, parameters.most_segments(sample) + 1)
    ]


def _piece_steps(
    place: _Place, parameters: CyclingEisParameters, sample: SampleConfig
) -> list[PlannedStep]:
    segment_s = parameters.segment_s(sample)
    current = parameters.settings(sample).current(place.direction, longest_s=segment_s)
    is_optional = place.piece > 1
    return [
        step(place.key("cp"), current, is_optional=is_optional),
        step(place.key("rest"), parameters.resting(), is_optional=is_optional),
        step(place.key("eis"), parameters.sweep(), is_optional=is_optional),
    ]


async def cycling_eis(run: Run, parameters: CyclingEisParameters) -> None:
    """Cycle with a spectrum at every interruption; record processes and capacities."""
    await settle(run, parameters)
    balance = _Balance(run.sample.nominal_capacity)
    reference: Cycle | None = None
    for number in range(1, parameters.n_cycles + 1):
        halves = {
            direction: await _half(run, number, direction, parameters, balance)
            for direction in _DIRECTIONS
        }
        cycle = cycle_from(
            number,
            halves["charge"],
            halves["discharge"],
            reference=reference,
            active_mass_kg=run.sample.active_mass,
        )
        reference = reference or cycle
        await run.record("cycle", cycle.model_dump(mode="json"))


@dataclass
class _Balance:
    """The charge in the cell since the protocol began with a discharged one."""

    nominal_c: float | None
    charge_c: float = 0.0

    @property
    def state_of_charge(self) -> float:
        """Share of the nominal capacity; NaN where that is not known."""
        return math.nan if self.nominal_c is None else self.charge_c / self.nominal_c


async def _half(
    run: Run,
    cycle: int,
    direction: Direction,
    parameters: CyclingEisParameters,
    balance: _Balance,
) -> HalfCycle:
    """Take one half-cycle piece by piece, a spectrum after each, and return it whole."""
    settings, segment_s = parameters.settings(run.sample), parameters.segment_s(run.sample)
    parts: list[HalfCycle] = []
    for piece in range(1, parameters.most_segments(run.sample) + 1):
        place = _Place(cycle, direction, piece)
        current = settings.current(direction, longest_s=segment_s)
        parts.append(summary(await run.cp(key=place.key("cp"), parameters=current)))
        balance.charge_c += SIGN[direction] * parts[-1].charge_c
        await _spectrum(run, place, parameters, balance)
        if parts[-1].ended_by:
            break
    return together(parts)


async def _spectrum(
    run: Run, place: _Place, parameters: CyclingEisParameters, balance: _Balance
) -> None:
    """Rest, measure a spectrum, and record its processes with the state of charge."""
    rested = await run.ocp(key=place.key("rest"), parameters=parameters.resting())
    potential_v = float(rested.column("potential_v")[-1])
    key = place.key("eis")
    measured = await run.eis(key=key, parameters=parameters.sweep(potential_v))
    found = processes(measured)
    if not rested.ended_by:
        changing = "the cell had not come to rest: its potential still changed"
        found["warnings"] = [*found["warnings"], changing]
    await run.record(
        "drt",
        {
            "key": key,
            "step": measured.step,
            "cycle": place.cycle,
            "direction": place.direction,
            "charge_c": balance.charge_c,
            "state_of_charge": balance.state_of_charge,
            "potential_v": potential_v,
            "temperature_k": measured.temperature_k,
            **found,
        },
    )


PROTOCOL = Protocol(
    name="cycling_eis",
    script=cycling_eis,
    parameters=CyclingEisParameters,
    plan=plan,
    capabilities=(CanCp, CanOcp, CanEis),
    summary="cycling with spectra on the way: processes against state of charge",
)
