"""Limits of a channel against what a step is about to ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import LimitError
from labctl.instruments.techniques import Eis
from labctl.quantities import celsius, format_si

if TYPE_CHECKING:
    from labctl.instruments.rig import Limits
    from labctl.instruments.techniques import Technique


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
    """Raise LimitError unless every parameter of a technique is allowed on the channel."""
    if not isinstance(parameters, Eis):
        return
    for frequency_hz in (parameters.frequency_start_hz, parameters.frequency_end_hz):
        _check("frequency", frequency_hz, limits.frequency_hz, "Hz")
    _check("amplitude (rms)", parameters.amplitude_v_rms, limits.amplitude_v_rms, "V")
    _check("bias", parameters.bias_v, limits.potential_v, "V")


def _check(what: str, value: float, allowed: tuple[float, float], unit: str) -> None:
    low, high = allowed
    if not low <= value <= high:
        allowed_text = f"{format_si(low, unit)} to {format_si(high, unit)}"
        raise LimitError(f"{what} {format_si(value, unit)}: allowed are {allowed_text}")
