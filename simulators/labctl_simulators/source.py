"""What an instrument applies to a cell, and what then holds at the cell's terminals.

A potential is held as long as the current stays within its limit, else the current stands at the
limit until the potential is reached; a current is held as long as the potential stays within its
limit, else the potential stands there and the current is what then flows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

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
HELD = 0  # what was asked for is there; +1 and -1 is the limit that stands instead


@dataclass(frozen=True)
class OpenCircuit:
    """Nothing is connected, and nothing limits."""

    def condition(self, mode: int) -> Condition:
        """Return no current."""
        return Current(0.0)

    def begin(self, respond: Callable[[Condition], Answer]) -> tuple[int, Answer]:
        """Return the mode and the response."""
        return HELD, respond(Current(0.0))

    def margin(self, mode: int, response: Response) -> Margin | None:
        """Return None: the mode stays."""
        return None

    def other_mode(self, mode: int, response: Response, after_s: float) -> int:
        """Return the mode: there is but one."""
        return mode


@dataclass(frozen=True)
class HeldPotential:
    """A potential, as far as the current's limit allows."""

    potential_v: float
    limit_a: float

    def condition(self, mode: int) -> Condition:
        """Return what holds at the terminals."""
        return Current(mode * self.limit_a) if mode else Potential(self.potential_v)

    def begin(self, respond: Callable[[Condition], Answer]) -> tuple[int, Answer]:
        """Return the mode that the present state of the cell calls for, and the response."""
        held = respond(Potential(self.potential_v))
        mode = _limit_met(held.current_a(0.0), self.limit_a)
        return mode, respond(self.condition(mode)) if mode else held

    def margin(self, mode: int, response: Response) -> Margin | None:
        """Return what becomes negative when the mode has to change."""
        if mode:
            return lambda after_s: mode * (self.potential_v - response.potential_v(after_s))
        return lambda after_s: self.limit_a - abs(response.current_a(after_s))

    def other_mode(self, mode: int, response: Response, after_s: float) -> int:
        """Return the mode that follows where the margin has ended."""
        return HELD if mode else _sign(response.current_a(after_s))


@dataclass(frozen=True)
class HeldCurrent:
    """A current, as far as the potential's limit allows."""

    current_a: float
    limit_v: float

    def condition(self, mode: int) -> Condition:
        """Return what holds at the terminals."""
        return Potential(mode * self.limit_v) if mode else Current(self.current_a)

    def begin(self, respond: Callable[[Condition], Answer]) -> tuple[int, Answer]:
        """Return the mode that the present state of the cell calls for, and the response."""
        held = respond(Current(self.current_a))
        mode = _limit_met(held.potential_v(0.0), self.limit_v)
        return mode, respond(self.condition(mode)) if mode else held

    def margin(self, mode: int, response: Response) -> Margin | None:
        """Return what becomes negative when the mode has to change."""
        if mode:
            return lambda after_s: mode * (self.current_a - response.current_a(after_s))
        return lambda after_s: self.limit_v - abs(response.potential_v(after_s))

    def other_mode(self, mode: int, response: Response, after_s: float) -> int:
        """Return the mode that follows where the margin has ended."""
        return HELD if mode else _sign(response.potential_v(after_s))


Order = OpenCircuit | HeldPotential | HeldCurrent


def _sign(value: float) -> int:
    return 1 if value > 0.0 else -1


def _limit_met(value: float, limit: float) -> int:
    return _sign(value) if abs(value) > limit else HELD


def end_of(margin: Margin, start_s: float, stop_s: float) -> float | None:
    """Return when a margin has become negative between two instants, None if it has not."""
    if margin(stop_s) >= 0.0:
        return None
    if start_s > 0.0 and margin(start_s) < 0.0:
        return start_s
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
