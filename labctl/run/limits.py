"""Limits of a channel against what a step is about to ask for."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from labctl.errors import LimitError
from labctl.instruments.limits import UNIT_OF
from labctl.quantities import celsius, format_si

if TYPE_CHECKING:
    from labctl.instruments.rig import Limits
    from labctl.instruments.techniques import Frame, Technique

_MARGIN = 0.02  # of the width of a limit


def check_temperature(limits: Limits, temperature_k: float) -> None:
    """Raise LimitError unless the stage may and can go to a temperature."""
    low_k, high_k = limits.temperature_k
    if not low_k <= temperature_k <= high_k:
        raise LimitError(
            f"temperature {celsius(temperature_k):g} degC: outside the stage's limits of "
            f"{celsius(low_k):g} to {celsius(high_k):g} degC"
        )
    cooling = limits.cooling
    if cooling is not None and temperature_k < cooling.base_temperature + cooling.margin:
        raise LimitError(
            f"temperature {celsius(temperature_k):g} degC: the stage cools passively towards its "
            f"base at {celsius(cooling.base_temperature):g} degC and cannot hold a setpoint below "
            f"{celsius(cooling.base_temperature + cooling.margin):g} degC"
        )


def check_rate(limits: Limits, rate_k_per_min: float) -> None:
    """Raise LimitError unless the stage may ramp at a rate."""
    low, high = limits.rate_k_per_min
    if not low <= rate_k_per_min <= high:
        message = f"rate {rate_k_per_min:g} K/min: allowed are {low:g} to {high:g} K/min"
        raise LimitError(message)


def check_technique(limits: Limits, parameters: Technique) -> None:
    """Raise LimitError unless every value that a technique asks for is allowed on the channel."""
    for asked in parameters.asked():
        allowed = getattr(limits, asked.quantity)
        _check(asked.parameter, asked.value, allowed, UNIT_OF[asked.quantity])


def check_frame(limits: Limits, frame: Frame) -> None:
    """Raise LimitError if a measured potential or current lies beyond what the channel allows.

    By more than the margin: what is told to stay below a limit may pass it by its noise.
    """
    for column in ("potential_v", "current_a"):
        low, high = getattr(limits, column)
        margin = _MARGIN * (high - low)
        for value in filter(isfinite, frame.columns.get(column, ())):
            _check(f"measured {column}", value, (low - margin, high + margin), UNIT_OF[column])


def _check(what: str, value: float, allowed: tuple[float, float], unit: str) -> None:
    low, high = allowed
    if not low <= value <= high:
        allowed_text = f"{format_si(low, unit)} to {format_si(high, unit)}"
        raise LimitError(f"{what} = {format_si(value, unit)}: allowed are {allowed_text}")
