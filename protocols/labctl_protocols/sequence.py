"""A list of techniques, settles and waits, straight from a file, for people who write no Python.

[[steps]]
do = "settle"
temperature = "25 degC"

[[steps]]
do = "ocp"
duration = "10 min"

[[steps]]
do = "eis"
at = "ocp"            # around the potential that the last step ended with

[[steps]]
do = "repeat"
times = 3
steps = [{ do = "cp", current = "1 mA", duration = "1 hour", potential_above = "4.2 V" }]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from labctl.instruments.techniques import Eis
from labctl.run.protocol import Parameters, PlannedStep, Protocol, step
from labctl_protocols.sequence_steps import Repeat, SettleStep, Step, WaitStep
from labctl_protocols.temperatures import TemperatureParameters, settle_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labctl.config import SampleConfig
    from labctl.run.run import Run


class SequenceParameters(Parameters):
    """Parameters of `sequence`.

    Attributes:
        steps: what to do, in turn; each names in `do` what it is.
    """

    steps: tuple[Step, ...] = Field(min_length=1)


@dataclass(frozen=True)
class _Placed:
    """One step in its place: repeats written out."""

    key: str
    step: Any


def _written_out(steps: tuple[Any, ...], prefix: str = "") -> Iterator[_Placed]:
    """Give every step with its key: "02-repeat.3/01-cp"."""
    for number, given in enumerate(steps, start=1):
        key = f"{prefix}{number:02d}-{given.do}"
        if isinstance(given, Repeat):
            for time in range(1, given.times + 1):
                yield from _written_out(given.steps, f"{key}.{time}/")
        else:
            yield _Placed(key, given)


def plan(parameters: SequenceParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `sequence` will take."""
    return [_planned(placed, sample) for placed in _written_out(parameters.steps)]


def _planned(placed: _Placed, sample: SampleConfig) -> PlannedStep:
    given = placed.step
    if isinstance(given, SettleStep):
        way = _way(given)
        return replace(settle_step(way, way.setpoints()[0]), key=placed.key)
    if isinstance(given, WaitStep):
        return PlannedStep(key=placed.key, kind="wait", expected_duration_s=given.duration)
    return step(placed.key, given.technique(sample))


def _way(step: SettleStep) -> TemperatureParameters:
    return TemperatureParameters(
        temperatures=(step.temperature,),
        ramp_rate=step.ramp_rate,
        dwell=step.dwell,
        settle_timeout=step.timeout,
    )


async def sequence(run: Run, parameters: SequenceParameters) -> None:
    """Do one step after the other."""
    last_v = 0.0
    for placed in _written_out(parameters.steps):
        given = placed.step
        if isinstance(given, SettleStep):
            await run.settle(
                key=placed.key,
                temperature_k=given.temperature,
                rate_k_per_min=given.ramp_rate,
                criterion=_way(given).criterion(),
            )
        elif isinstance(given, WaitStep):
            await run.wait(key=placed.key, duration_s=given.duration)
        else:
            last_v = await _measure(run, placed.key, given, last_v)


async def _measure(run: Run, key: str, given: Any, last_v: float) -> float:
    """Take one technique; return the potential that it ended with, for what comes after it."""
    technique = given.technique(run.sample)
    if isinstance(technique, Eis) and given.at == "ocp":
        technique = replace(technique, bias_v=last_v, is_bias_known=True)
    measured = await run.measure(key=key, parameters=technique)
    is_against_time = "elapsed_s" in measured.columns
    return float(measured.column("potential_v")[-1]) if is_against_time else last_v


PROTOCOL = Protocol(
    name="sequence",
    script=sequence,
    parameters=SequenceParameters,
    plan=plan,
    capabilities=(),
    summary="a list of techniques, settles and waits from a file",
)
