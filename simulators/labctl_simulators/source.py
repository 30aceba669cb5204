"""What an instrument applies to a cell, and what then holds at the cell's terminals.

A potential is held as long as the current stays within its limit, else the current stands at the
limit until the potential is reached; a current is held as long as the potential stays within its
limit, else the potential stands there and the current is what then flows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

# A limit that is only just reached, to what is left after rounding, is not yet passed.
_SLACK = 1e-9
_ROUNDING_V = 1e-13
_DECADES_SEARCHED = 18
_ROOT_STEPS = 80


@dataclass(frozen=True)
class Potential:
    """A potential at the terminals, in V."""

    volt: float


@dataclass(frozen=True)
class Current:
    """A current through the terminals, in A; 0 with the leads disconnected."""

    ampere: float


Condition = Potential | Current


class Response(Protocol):
    """What a cell does under one condition, from an instant on."""

    def potential_v(self, after_s: float) -> float:
        """Return the potential at the terminals, in V."""
        ...

    def current_a(self, after_s: float) -> float:
        """Return the current through the terminals, in A."""
        ...

    @property
    def trusted_s(self) -> float:
        """How long the response may be used before the cell must be asked again, in s."""
        ...


Answer = TypeVar("Answer", bound=Response)
Margin = Callable[[float], float]


@dataclass(frozen=True)
class OpenCircuit:
    """Nothing is connected."""

    def begin(self, respond: Callable[[Condition], Answer]) -> tuple[Answer, Margin | None]:
        """Return the response, which nothing ends."""
        return respond(Current(0.0)), None


@dataclass(frozen=True)
class HeldPotential:
    """A potential, as far as the current's limit allows."""

    potential_v: float
    limit_a: float

    def begin(self, respond: Callable[[Condition], Answer]) -> tuple[Answer, Margin | None]:
        """Return the response, and a margin that becomes negative when another one is due."""
        held = respond(Potential(self.potential_v))
        first_a = held.current_a(0.0)
        sign = math.copysign(1.0, first_a)
        most_a = self.limit_a
        if abs(first_a) > most_a:
            limited = respond(Current(sign * self.limit_a))
            if sign * (self.potential_v - limited.potential_v(0.0)) > _ROUNDING_V:
                return (
                    limited,
                    lambda after_s: sign * (self.potential_v - limited.potential_v(after_s)),
                )
            most_a = abs(first_a)
        most_a *= 1.0 + _SLACK
        return held, lambda after_s: most_a - abs(held.current_a(after_s))


@dataclass(frozen=True)
class HeldCurrent:
    """A current, as far as the potential's limit allows."""

    current_a: float
    limit_v: float

    def begin(self, respond: Callable[[Condition], Answer]) -> tuple[Answer, Margin | None]:
        """Return the response, and a margin that becomes negative when another one is due."""
        held = respond(Current(self.current_a))
        first_v = held.potential_v(0.0)
        sign = math.copysign(1.0, first_v)
        most_v = self.limit_v
        if abs(first_v) > most_v:
            limited = respond(Potential(sign * self.limit_v))
            if sign * (self.current_a - limited.current_a(0.0)) > _SLACK * abs(self.current_a):
                return limited, lambda after_s: sign * (self.current_a - limited.current_a(after_s))
            most_v = abs(first_v)
        most_v += _ROUNDING_V
        return held, lambda after_s: most_v - abs(held.potential_v(after_s))


Order = OpenCircuit | HeldPotential | HeldCurrent


def end_of(margin: Margin, start_s: float, stop_s: float) -> float | None:
    """Return when a margin that is not negative at `start_s` has become so, None if not by then."""
    if margin(stop_s) >= 0.0:
        return None
    low_s, high_s = start_s, stop_s
    if start_s == 0.0:
        # What follows a step lasts picoseconds or hours.
        for _ in range(_DECADES_SEARCHED):
            low_s = 0.1 * high_s
            if margin(low_s) >= 0.0:
                break
            high_s = low_s
        else:
            return high_s
    return _crossing(margin, low_s, high_s)


def _crossing(margin: Margin, low_s: float, high_s: float) -> float:
    """Return where the margin passes 0, by the Illinois variant of regula falsi."""
    low, high = margin(low_s), margin(high_s)
    side = 0
    for _ in range(_ROOT_STEPS):
        middle_s = (low_s * high - high_s * low) / (high - low)
        if not low_s < middle_s < high_s:
            break
        middle = margin(middle_s)
        if middle >= 0.0:
            low_s, low = middle_s, middle
            high = 0.5 * high if side > 0 else high
            side = 1
        else:
            high_s, high = middle_s, middle
            low = 0.5 * low if side < 0 else low
            side = -1
        if middle == 0.0 or high_s - low_s <= 1e-15 * high_s:
            break
    return high_s
