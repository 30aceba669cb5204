"""Capacity against current: some cycles at each rate, and back to the first one.

What comes back at the first rate tells what the high currents have cost the cell, and what they
only could not reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from labctl.run.protocol import PlannedStep, Protocol
from labctl_protocols import cycling
from labctl_protocols.cycling import CyclingParameters, Rate
from labctl_protocols.one_temperature import settle

if TYPE_CHECKING:
    from labctl.analysis.cycling import Cycle
    from labctl.config import SampleConfig
    from labctl.run.run import Run


class RateCapabilityParameters(CyclingParameters):
    """Parameters of `rate_capability`: those of `cycling`, with rates that go up.

    Attributes:
        rates: the currents, each for its number of cycles.
        comes_back: measure the first rate once more at the end.
    """

    rates: tuple[Rate, ...] = Field(
        default=tuple(Rate(c_rate=each, n_cycles=5) for each in (0.1, 0.2, 0.5, 1.0)), min_length=2
    )
    comes_back: bool = True

    def all_rates(self) -> tuple[Rate, ...]:
        """Return every rate in its turn."""
        return (*self.rates, self.rates[0]) if self.comes_back else self.rates

    def as_cycling(self) -> CyclingParameters:
        """Return the same as parameters of `cycling`."""
        return self.model_copy(update={"rates": self.all_rates(), "end_below": None})


def plan(parameters: RateCapabilityParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `rate_capability` will take."""
    return cycling.plan(parameters.as_cycling(), sample)


async def rate_capability(run: Run, parameters: RateCapabilityParameters) -> None:
    """Cycle at every rate and record the capacity that each one leaves."""
    cycles_of = parameters.as_cycling()
    await settle(run, cycles_of)
    taken: list[Cycle] = []
    for number, settings in cycles_of.cycles(run.sample):
        reference = taken[0] if taken else None
        taken.append(await cycling.take_cycle(run, number, settings, cycles_of, reference))
        await run.record("cycle", taken[-1].model_dump(mode="json"))
    at = 0
    for rate in parameters.all_rates():
        await _record_rate(run, rate, taken[at : at + rate.n_cycles], taken[0])
        at += rate.n_cycles


async def _record_rate(run: Run, rate: Rate, cycles: list[Cycle], first: Cycle) -> None:
    """Record what is left of the first cycle's capacity at one rate, the rate's first cycle apart.

    In its first cycle a rate still discharges what another one has charged.
    """
    counted = cycles[1:] or cycles
    capacity_c = float(np.mean([cycle.discharge_capacity_c for cycle in counted]))
    await run.record(
        "rate",
        {
            "current_a": rate.current_a(run.sample),
            "n_cycles": len(counted),
            "discharge_capacity_c": capacity_c,
            "share_of_first_cycle": capacity_c / first.discharge_capacity_c
            if first.discharge_capacity_c
            else float("nan"),
            "warnings": sorted({warning for cycle in counted for warning in cycle.warnings}),
        },
    )


PROTOCOL = Protocol(
    name="rate_capability",
    script=rate_capability,
    parameters=RateCapabilityParameters,
    plan=plan,
    capabilities=cycling.PROTOCOL.capabilities,
    summary="capacity against current, and what comes back at the first one",
)
