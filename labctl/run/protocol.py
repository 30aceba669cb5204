"""What a protocol is: a script, the model of its parameters, and the plan of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from labctl.config import SampleConfig
    from labctl.instruments.techniques import Technique
    from labctl.run.run import Run


class Parameters(BaseModel):
    """Base of every protocol's parameters: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_P = TypeVar("_P", bound=Parameters)


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step that a protocol is going to take, for checks, progress and expected counts.

    Attributes:
        key: the key that the script gives the step.
        kind: "settle", "wait", or a technique's NAME.
        expected_duration_s: about how long it takes.
        longest_s: when it ends at the latest, however slow the stage is.
        technique: what is measured; None where nothing is, or not for its own sake.
        temperature_k: the setpoint that the step goes to; None if it stays.
        rate_k_per_min: how fast it goes there.
        is_optional: taken only if what was measured before calls for it; not missed if it is not.
    """

    key: str
    kind: str
    expected_duration_s: float
    longest_s: float = math.inf
    technique: Technique | None = None
    temperature_k: float | None = None
    rate_k_per_min: float | None = None
    is_optional: bool = False


def step(key: str, technique: Technique, *, is_optional: bool = False) -> PlannedStep:
    """Return a measuring step of a plan; optional: taken only if what came before calls for it."""
    return PlannedStep(
        key=key,
        kind=technique.NAME,
        expected_duration_s=technique.expected_duration_s(),
        technique=technique,
        is_optional=is_optional,
    )


@dataclass(frozen=True, kw_only=True)
class Protocol(Generic[_P]):
    """A scripted experiment under its name.

    Attributes:
        name: what people call it on the command line.
        script: `async def name(run, parameters)`; every measurement in it is one awaited step.
        parameters: the model that validates parameter files.
        plan: the steps the script will take with these parameters on this sample.
        capabilities: what it asks of the channel's potentiostat.
        summary: one line for people.
    """

    name: str
    script: Callable[[Run, _P], Awaitable[None]]
    parameters: type[_P]
    plan: Callable[[_P, SampleConfig], list[PlannedStep]]
    capabilities: tuple[type, ...]
    summary: str
