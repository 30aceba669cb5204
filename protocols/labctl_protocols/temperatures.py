"""Temperatures to visit and when each counts as reached: shared by protocols against temperature.

A protocol's parameters inherit `TemperatureParameters`, or `ProbedTemperatureParameters` where an
impedance can be measured on the cell at every temperature. Its plan and its script then go through
`parameters.setpoints()`: plan `settle_step(parameters, setpoint)`, await `settle(run, parameters,
setpoint)`, and measure under `setpoint.key("eis")` or whatever it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from labctl.quantities import (
    DurationS,
    ShareOfOne,
    TemperatureDifferenceK,
    TemperatureK,
    TemperatureRateKPerMin,
    celsius,
    kelvin,
)
from labctl.run.protocol import Parameters, PlannedStep
from labctl.run.settle import OnTimeout, SettleCriterion, SettleResult
from labctl.run.settling import ProbeSettings, settle_duration_s

if TYPE_CHECKING:
    from labctl.run.run import Run

_WHOLE = 1e-6  # how far from a whole number a quotient of floats may be
_MOST_STEPS = 1000
_SAME_K = 1e-6
_ROOM_K = kelvin(25.0)
_AS_ROOM_K = 6.0  # what a laboratory's temperature may differ from that
_DWELL_S = 3600.0


class TemperatureRange(Parameters):
    """Equally spaced temperatures, both ends included."""

    start: TemperatureK
    stop: TemperatureK
    step: TemperatureDifferenceK = Field(gt=0)

    @model_validator(mode="after")
    def _stop_is_reached(self) -> TemperatureRange:
        steps = abs(self.stop - self.start) / self.step
        if abs(steps - round(steps)) > _WHOLE:
            raise ValueError("stop is not reached: expected a whole number of steps from start")
        if steps > _MOST_STEPS:
            raise ValueError(f"{steps:.0f} steps: expected at most {_MOST_STEPS}")
        return self

    def temperatures_k(self) -> tuple[float, ...]:
        """Return the temperatures in K, from start to stop."""
        span_k = self.stop - self.start
        count = round(abs(span_k) / self.step)
        return tuple(self.start + math.copysign(self.step, span_k) * i for i in range(count + 1))


@dataclass(frozen=True, kw_only=True)
class Setpoint:
    """One temperature on the way through all of them.

    Attributes:
        number: from 1 on.
        branch: "heating" or "cooling", whichever led to it.
        temperature_k: where the stage goes.
        from_k: where it comes from; for the first one, about where the laboratory is.
    """

    number: int
    branch: str
    temperature_k: float
    from_k: float

    def key(self, step: str) -> str:
        """Return the key of one of the temperature's steps: "02-heating-35.0C/eis"."""
        return f"{self.number:02d}-{self.branch}-{celsius(self.temperature_k):.1f}C/{step}"


def _shape(given: object) -> str:
    """Return which of the two ways to write temperatures this is, so that errors speak of it."""
    return "range" if isinstance(given, (dict, TemperatureRange)) else "list"


class TemperatureParameters(Parameters):
    """Temperatures, the way between them, and a fixed dwell once the stage stands at one.

    Attributes:
        temperatures: setpoints in the order to visit, a list or {start, stop, step}.
        cooling_branch: come back through the same temperatures, to see what heating changed.
        ramp_rate: of the stage between temperatures.
        settle_band: how far from its setpoint the stage may be.
        settle_slope: the stage's largest slope over the window.
        settle_window: for how long band and slope must hold.
        dwell: how long to wait once they have; 1 hour if not given.
        settle_timeout: how long to wait for one temperature at most, ramp and dwell included.
        on_settle_timeout: "measure" all the same and flag it, "skip" the temperature, or "fail".
    """

    temperatures: Annotated[
        Annotated[tuple[TemperatureK, ...], Field(min_length=1), Tag("list")]
        | Annotated[TemperatureRange, Tag("range")],
        Discriminator(_shape),
    ]
    cooling_branch: bool = False
    ramp_rate: TemperatureRateKPerMin = Field(default=2.0, gt=0)
    settle_band: TemperatureDifferenceK = Field(default=0.1, gt=0)
    settle_slope: TemperatureRateKPerMin = Field(default=0.01, gt=0)
    settle_window: DurationS = Field(default=600.0, gt=0)
    dwell: Annotated[DurationS, Field(ge=0)] | None = None
    settle_timeout: DurationS = Field(default=7200.0, gt=0)
    on_settle_timeout: OnTimeout = "measure"

    @model_validator(mode="after")
    def _fits_together(self) -> TemperatureParameters:
        for last_k, now_k in pairwise(self._there()):
            if abs(now_k - last_k) < _SAME_K:
                twice = f"{celsius(now_k):g} degC twice in a row"
                raise ValueError(f"temperatures: {twice}: expected to go somewhere else in between")
        dwell_s = self.criterion().dwell_s
        if self.settle_window >= self.settle_timeout:
            raise ValueError("settle_window: expected less than settle_timeout")
        if dwell_s is not None and self.settle_window + dwell_s >= self.settle_timeout:
            raise ValueError("settle_window + dwell: expected less than settle_timeout")
        return self

    def _there(self) -> tuple[float, ...]:
        given = self.temperatures
        return given.temperatures_k() if isinstance(given, TemperatureRange) else given

    def setpoints(self) -> list[Setpoint]:
        """Return every temperature to visit, in order, with the branch it belongs to."""
        there = self._there()
        visited = [*there, *(tuple(reversed(there))[1:] if self.cooling_branch else ())]
        branches = [_first_branch(visited)]
        branches += ["cooling" if now < last else "heating" for last, now in pairwise(visited)]
        ways = zip(branches, visited, [_ROOM_K, *visited], strict=False)
        return [
            Setpoint(number=number, branch=branch, temperature_k=to_k, from_k=from_k)
            for number, (branch, to_k, from_k) in enumerate(ways, start=1)
        ]

    def criterion(self) -> SettleCriterion:
        """Return when a temperature counts as reached."""
        return SettleCriterion(
            band_k=self.settle_band,
            slope_k_per_min=self.settle_slope,
            window_s=self.settle_window,
            dwell_s=_DWELL_S if self.dwell is None else self.dwell,
            timeout_s=self.settle_timeout,
            on_timeout=self.on_settle_timeout,
        )


class ProbedTemperatureParameters(TemperatureParameters):
    """Temperatures, where short probes of the sample may say when it has settled.

    Attributes:
        equilibration: "adaptive": the stage stands and probes show the sample at rest; "fixed": the
            stage stands, then the dwell, no probes.
        probe_tolerance: largest change of the sample's resistance between two probes, and largest
            change still to come.
        probe_interval: pause between two probes.
    """

    equilibration: Literal["adaptive", "fixed"] = "adaptive"
    probe_tolerance: ShareOfOne = Field(default=0.005, gt=0)
    probe_interval: DurationS = Field(default=180.0, gt=0)

    @model_validator(mode="after")
    def _dwell_is_used(self) -> ProbedTemperatureParameters:
        if self.equilibration == "adaptive" and self.dwell is not None:
            raise ValueError('dwell: expected only with equilibration = "fixed"')
        return self

    def criterion(self) -> SettleCriterion:
        """Return when a temperature counts as reached."""
        dwelling = super().criterion()
        return replace(
            dwelling,
            dwell_s=None if self.equilibration == "adaptive" else dwelling.dwell_s,
            probe_tolerance=self.probe_tolerance,
            probe_interval_s=self.probe_interval,
        )


def _first_branch(visited: list[float]) -> str:
    """Return the branch of the first temperature: how it is reached from the laboratory's.

    Where it is about the laboratory's own, it belongs to the branch that it begins.
    """
    if abs(visited[0] - _ROOM_K) > _AS_ROOM_K:
        return "cooling" if visited[0] < _ROOM_K else "heating"
    return "cooling" if len(visited) > 1 and visited[1] < visited[0] else "heating"


def settle_step(parameters: TemperatureParameters, setpoint: Setpoint) -> PlannedStep:
    """Return the step that goes to a temperature and waits there."""
    duration_s = settle_duration_s(
        setpoint.from_k, setpoint.temperature_k, parameters.ramp_rate, parameters.criterion()
    )
    return PlannedStep(
        key=setpoint.key("settle"),
        kind="settle",
        expected_duration_s=duration_s,
        longest_s=parameters.settle_timeout,
        temperature_k=setpoint.temperature_k,
        rate_k_per_min=parameters.ramp_rate,
    )


async def settle(
    run: Run,
    parameters: TemperatureParameters,
    setpoint: Setpoint,
    *,
    probe: ProbeSettings | None = None,
    activation_energy_ev: float | None = None,
) -> SettleResult:
    """Go to a temperature and return how it was reached; arguments and errors as `Run.settle`."""
    return await run.settle(
        key=setpoint.key("settle"),
        temperature_k=setpoint.temperature_k,
        rate_k_per_min=parameters.ramp_rate,
        criterion=parameters.criterion(),
        probe=probe,
        activation_energy_ev=activation_energy_ev,
    )
