"""One temperature for a whole protocol, or the laboratory's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from labctl.quantities import DurationS, TemperatureK, TemperatureRateKPerMin
from labctl.run.protocol import Parameters, PlannedStep
from labctl_protocols.temperatures import TemperatureParameters, settle, settle_step

if TYPE_CHECKING:
    from labctl.run.run import Run


class HeldTemperature(Parameters):
    """Where the stage is sent first, if anywhere; it stays there until the protocol ends.

    Attributes:
        temperature: where to; without it the stage is left alone, its heater off.
        ramp_rate: how fast.
        dwell: how long to wait there once the stage stands.
    """

    temperature: TemperatureK | None = None
    ramp_rate: TemperatureRateKPerMin = Field(default=2.0, gt=0)
    dwell: Annotated[DurationS, Field(ge=0)] = 3600.0

    def _way(self) -> TemperatureParameters | None:
        if self.temperature is None:
            return None
        return TemperatureParameters(
            temperatures=(self.temperature,),
            ramp_rate=self.ramp_rate,
            dwell=self.dwell,
            settle_timeout=7200.0 + self.dwell,
        )

    def settle_steps(self) -> list[PlannedStep]:
        """Return the step that goes there, if there is one."""
        way = self._way()
        return [] if way is None else [settle_step(way, way.setpoints()[0])]

    async def reach(self, run: Run) -> None:
        """Go there and wait; errors as for `Run.settle`."""
        way = self._way()
        if way is not None:
            await settle(run, way, way.setpoints()[0])
