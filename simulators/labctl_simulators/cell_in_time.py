"""How a cell gets through time: a chain of responses, each from where the last one ended.

A response ends when the instrument applies something else, when a limit is met, when its own trust
ends, or on a grid from t = 0 when the cell's temperature has changed. None of these depends on who
asks: a reading is taken off the present response and leaves no trace, so that asking often or
rarely gives the same cell to the last bit.
"""

from __future__ import annotations

from typing import Generic, Protocol

from labctl_simulators.source import (
    HELD,
    Answer,
    Condition,
    HeldCurrent,
    HeldPotential,
    Margin,
    OpenCircuit,
    Order,
    Potential,
    end_of,
)
from labctl_simulators.stage import HISTORY_TICK_S

TICK_S = HISTORY_TICK_S
# How long a potential is held before a limit changes that: an instrument takes its time, and a cell
# just at its limit would else go to and fro.
DWELL_S = 1.0
AT_ONCE_S = 1e-12


class Body(Protocol[Answer]):
    """What a kind of cell is made of: its states, and how they answer a condition."""

    def is_stale(self, tick: int) -> bool:
        """Return whether its parameters no longer fit the temperature at a tick of the grid."""
        ...

    def refresh(self, tick: int) -> None:
        """Take its parameters from the temperature at a tick and from its own states."""
        ...

    def respond(self, condition: Condition) -> Answer:
        """Return what happens under a condition, from the present states on."""
        ...

    def settle(self, response: Answer, after_s: float) -> None:
        """Let the states be what a response has made of them."""
        ...

    def impedance(
        self, frequency_hz: float, *, response: Answer, after_s: float, now_s: float
    ) -> complex:
        """Return the small-signal impedance in ohm, `after_s` into a response."""
        ...


class CellInTime(Generic[Answer]):
    """A cell as an instrument sees it: a `MeasuredCell` made of a body and its past.

    Args:
        body: the states of the cell and their laws.
    """

    def __init__(self, body: Body[Answer]) -> None:
        self.body = body
        self._order: Order = OpenCircuit()
        self._begin_s = 0.0
        self._response: Answer | None = None
        self._mode: int | None = None
        self._dwell_s = DWELL_S
        self._dwells_until_s = 0.0
        self._margin: Margin | None = None
        self._end_s = 0.0  # after the beginning: where the response ends, if it ends there
        self._is_end = False
        self._is_limit = False  # whether it ends there because a limit is met, or left
        self._tick = 0  # the next one of the grid at which the temperature is looked at

    def open_circuit(self, now_s: float) -> None:
        """Disconnect the leads."""
        self._obey(OpenCircuit(), now_s)

    def apply_potential(self, potential_v: float, now_s: float, *, limit_a: float) -> None:
        """Apply a potential, the current clipped at +-limit_a."""
        self._obey(HeldPotential(potential_v, limit_a), now_s)

    def apply_current(self, current_a: float, now_s: float, *, limit_v: float) -> None:
        """Apply a current, the potential staying at +-limit_v where the current is too much."""
        self._obey(HeldCurrent(current_a, limit_v), now_s)

    def potential_v(self, now_s: float) -> float:
        """Return the potential at the terminals, in V."""
        return self.response(now_s).potential_v(self._after_s(now_s))

    def current_a(self, now_s: float) -> float:
        """Return the current through the terminals, in A."""
        return self.response(now_s).current_a(self._after_s(now_s))

    def impedance(self, frequency_hz: float, now_s: float) -> complex:
        """Return the small-signal impedance in ohm, in the state the cell has at `now_s`."""
        response = self.response(now_s)
        return self.body.impedance(
            frequency_hz, response=response, after_s=self._after_s(now_s), now_s=now_s
        )

    def response(self, now_s: float) -> Answer:
        """Return the response that is under way at `now_s`."""
        response = self._begun()
        while True:
            tick_s = self._tick * TICK_S - self._begin_s
            if min(tick_s, self._end_s) > now_s - self._begin_s:
                return response
            if self._end_s <= tick_s:
                if self._is_end:
                    mode = self._mode or HELD
                    if self._is_limit:
                        mode = self._order.other_mode(mode, response, self._end_s)
                    response = self._next(self._end_s, mode)
                else:
                    self._search(response, self._end_s)
            elif self.body.is_stale(self._tick):
                response = self._next(tick_s, self._mode or HELD)
            else:
                self._tick += 1

    def _obey(self, order: Order, now_s: float) -> None:
        self.response(now_s)
        if order != self._order:
            self._settle(self._after_s(now_s))
            self._begin_s = max(self._begin_s, now_s)
            self._order, self._mode = order, None

    def _after_s(self, now_s: float) -> float:
        """Return how far a response has come; one that began a rounding ahead is at its start."""
        return max(0.0, now_s - self._begin_s)

    def _begun(self) -> Answer:
        """Return the response, begun if it is not yet."""
        if self._response is None:
            # An instant that is a rounding before a tick counts as the tick.
            tick = int(self._begin_s / TICK_S + 1e-9)
            self.body.refresh(tick)
            response = self._respond()
            self._response = response
            self._margin = self._order.margin(self._mode or HELD, response)
            self._tick = tick + 1
            self._search(response, 0.0)
        return self._response

    def _respond(self) -> Answer:
        """Return what the body does, in the mode that is in force or that its state calls for."""
        if self._mode is not None:
            return self.body.respond(self._order.condition(self._mode))
        self._mode, response = self._order.begin(self.body.respond)
        self._dwell_s = DWELL_S
        self._dwell()
        return response

    def _search(self, response: Answer, start_s: float) -> None:
        """Look for the end of a response, twice as far ahead as it has come."""
        stop_s = min(max(2.0 * start_s, TICK_S), response.trusted_s)
        self._is_end, self._is_limit, self._end_s = stop_s == response.trusted_s, False, stop_s
        start_s = max(start_s, self._dwells_until_s - self._begin_s)
        if self._margin is None or start_s >= stop_s:
            return
        end_s = end_of(self._margin, start_s, stop_s)
        if end_s is not None:
            self._is_end, self._is_limit, self._end_s = True, True, end_s

    def _next(self, after_s: float, mode: int) -> Answer:
        """Return the response that follows, in a mode."""
        self._settle(after_s)
        if mode != self._mode:
            if not self._is_potential_held():
                # A mode that ends as it begins was none: the next try waits twice as long.
                self._dwell_s = DWELL_S if after_s > AT_ONCE_S else 2.0 * self._dwell_s
            self._mode = mode
            self._dwell()
        return self._begun()

    def _dwell(self) -> None:
        dwell_s = self._dwell_s if self._is_potential_held() else 0.0
        self._dwells_until_s = self._begin_s + dwell_s

    def _is_potential_held(self) -> bool:
        return isinstance(self._order.condition(self._mode or HELD), Potential)

    def _settle(self, after_s: float) -> None:
        self.body.settle(self._begun(), after_s)
        self._begin_s += after_s
        self._response = None
