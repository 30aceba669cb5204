"""Checking a run before it touches an instrument: limits, capabilities, duration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.errors import BadInputError, LimitError
from labctl.instruments.capabilities import CAPABILITY_OF
from labctl.run.limits import check_rate, check_technique, check_temperature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.config import CoolingConfig, SampleConfig
    from labctl.instruments.rig import Limits, Rig
    from labctl.run.protocol import Parameters, PlannedStep, Protocol


@dataclass(frozen=True, kw_only=True)
class CheckedStep:
    """One step of a plan with what is known about it before it runs."""

    key: str
    kind: str
    begins_s: float
    duration_s: float
    temperature_k: float | None
    expected_points: int
    note: str = ""


def check_plan(
    protocol: Protocol[Any], parameters: Parameters, sample: SampleConfig, rig: Rig
) -> list[CheckedStep]:
    """Return the plan's steps with their times, all limits checked; nothing is opened.

    Raises:
        LimitError: a step asks for more than the rig allows; names the step.
        BadInputError: the channel lacks a capability.
    """
    check_capabilities(protocol, rig)
    limits = rig.channel.limits
    steps = protocol.plan(parameters, sample)
    for step in steps:
        if step.technique is not None:
            _check_capability(f"step {step.key}", CAPABILITY_OF[step.technique.NAME], rig)
        _check_step(step, limits)
    return timed(steps, limits)


def check_capabilities(protocol: Protocol[Any], rig: Rig) -> None:
    """Raise BadInputError unless the channel can do what a protocol asks of it."""
    for capability in protocol.capabilities:
        _check_capability(protocol.name, capability, rig)


def _check_capability(what: str, capability: type, rig: Rig) -> None:
    if not isinstance(rig.channel.potentiostat, capability):
        raise BadInputError(
            f"{what} needs {capability.__name__}, which the potentiostat of channel "
            f"{rig.channel.name!r} does not offer"
        )


def _check_step(step: PlannedStep, limits: Limits) -> None:
    try:
        if step.temperature_k is not None:
            check_temperature(limits, step.temperature_k)
        if step.rate_k_per_min is not None:
            check_rate(limits, step.rate_k_per_min)
        if step.technique is not None:
            check_technique(limits, step.technique)
    except LimitError as error:
        raise LimitError(f"step {step.key}: {error}") from error


def timed(steps: Sequence[PlannedStep], limits: Limits) -> list[CheckedStep]:
    """Return the steps one after the other, passive cooling added where it is the slower."""
    checked: list[CheckedStep] = []
    begins_s, at_k = 0.0, math.nan
    for step in steps:
        extra_s = _extra_cooling_s(step, at_k, limits.cooling)
        duration_s = min(step.expected_duration_s + extra_s, step.longest_s)
        checked.append(
            CheckedStep(
                key=step.key,
                kind=step.kind,
                begins_s=begins_s,
                duration_s=duration_s,
                temperature_k=step.temperature_k,
                expected_points=step.technique.expected_points if step.technique else 0,
                note=_note(step, extra_s),
            )
        )
        begins_s += duration_s
        at_k = at_k if step.temperature_k is None else step.temperature_k
    return checked


def _note(step: PlannedStep, extra_s: float) -> str:
    """Return what a person should know of a step before it begins."""
    if not extra_s:
        return ""
    if step.expected_duration_s + extra_s > step.longest_s:
        return "passive cooling is too slow for settle_timeout"
    return "limited by passive cooling"


def _extra_cooling_s(step: PlannedStep, from_k: float, cooling: CoolingConfig | None) -> float:
    """Return how much longer passive cooling takes than the ramp asked for."""
    to_k, rate = step.temperature_k, step.rate_k_per_min
    if cooling is None or to_k is None or rate is None or not to_k < from_k:
        return 0.0
    return max(0.0, cooling_time_s(from_k, to_k, cooling) - (from_k - to_k) / rate * 60.0)


def cooling_time_s(from_k: float, to_k: float, cooling: CoolingConfig) -> float:
    """Return how long a stage takes to cool passively: an exponential towards its base."""
    base_k = cooling.base_temperature
    return cooling.time_constant * math.log((from_k - base_k) / (to_k - base_k))
