"""Limits: what an instrument is told is checked before anything is sent."""

from __future__ import annotations

from labctl.errors import LimitError


def check_limit(
    instrument: str, key: str, value: float, allowed: tuple[float, float], unit: str
) -> None:
    """Raise LimitError, with instrument, key, value and what is allowed, unless it is within."""
    low, high = allowed
    if not low <= value <= high:
        allowed_text = f"{low:g} to {high:g} {unit}"
        raise LimitError(f"{instrument}: {key} = {value:g} {unit}: allowed are {allowed_text}")
