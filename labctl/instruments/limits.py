"""Limits: what an instrument is told is checked before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import LimitError

if TYPE_CHECKING:
    from labctl.instruments.techniques import PotentiostatLimits, Technique

UNIT_OF = {
    "frequency_hz": "Hz",
    "amplitude_v_rms": "V",
    "amplitude_a_rms": "A",
    "potential_v": "V",
    "current_a": "A",
    "rate_v_per_s": "V/s",
    "interval_s": "s",
}


def check_limit(
    instrument: str,
    key: str,
    value: float,
    allowed: tuple[float, float],
    unit: str,
    *,
    source: str = "",
) -> None:
    """Raise LimitError, with instrument, key, value and what is allowed, unless it is within.

    `source` says where the limit comes from, for the message.
    """
    low, high = allowed
    if not low <= value <= high:
        allowed_text = f"{low:g} to {high:g} {unit}" + (f" ({source})" if source else "")
        raise LimitError(f"{instrument}: {key} = {value:g} {unit}: allowed are {allowed_text}")


def check_technique(
    instrument: str, limits: PotentiostatLimits, parameters: Technique, *, source: str
) -> None:
    """Raise LimitError unless an instrument can do every value that a technique asks for."""
    for asked in parameters.asked():
        allowed = getattr(limits, asked.quantity)
        unit = UNIT_OF[asked.quantity]
        check_limit(instrument, asked.parameter, asked.value, allowed, unit, source=source)
