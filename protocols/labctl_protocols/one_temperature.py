"""The one temperature that a protocol measures at, where it is given: go there, wait, measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from labctl.quantities import DurationS, TemperatureK, TemperatureRateKPerMin, kelvin
from labctl.run.protocol import Parameters, PlannedStep
from labctl.run.settle import SettleCriterion
from labctl.run.settling import settle_duration_s

if TYPE_CHECKING:
    from labctl.run.run import Run

_ROOM_K = kelvin(25.0)
_LONGEST_WAY_S = 4 * 3600.0
_KEY = "settle"


class OneTemperatureParameters(Parameters):
    """Where to measure.

    Attributes:
        temperature: of the stage; without it the stage stays as it is, heater off.
        ramp_rate: on the way there.
        dwell: how long to wait once the stage stands there.
    """

    temperature: TemperatureK | None = None
    ramp_rate: Annotated[TemperatureRateKPerMin, Field(gt=0)] = 2.0
    dwell: Annotated[DurationS, Field(ge=0)] = 3600.0

    def criterion(self) -> SettleCriterion:
        """Return when the temperature counts as reached."""
        return SettleCriterion(dwell_s=self.dwell, timeout_s=self.dwell + _LONGEST_WAY_S)


def planned_settle(parameters: OneTemperatureParameters) -> list[PlannedStep]:
    """Return the step that goes to the temperature; none where none is given."""
    if parameters.temperature is None:
        return []
    duration_s = settle_duration_s(
        _ROOM_K, parameters.temperature, parameters.ramp_rate, parameters.criterion()
    )
    return [
        PlannedStep(
            key=_KEY,
            kind="settle",
            expected_duration_s=duration_s,
            temperature_k=parameters.temperature,
            rate_k_per_min=parameters.ramp_rate,
        )
    ]


async def settle(run: Run, parameters: OneTemperatureParameters) -> list[str]:
    """Go to the temperature, if there is one; return a warning if it was not reached in time."""
    if parameters.temperature is None:
        return []
    settled = await run.settle(
        key=_KEY,
        temperature_k=parameters.temperature,
        rate_k_per_min=parameters.ramp_rate,
        criterion=parameters.criterion(),
    )
    return [] if settled.is_settled else [f"not settled: {settled.reason}"]
