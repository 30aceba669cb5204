"""A dummy cell: a resistor in series with a resistor beside a capacitor, as vendors solder them.

One state, the potential of the capacitor, moves by one exponential under a held potential or a held
current, so that any length of time is one exact step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class _Phase:
    """A potential or a current that holds for a while; the last one of an order for ever."""

    is_current: bool
    value: float
    duration_s: float = math.inf


class DummyCell:
    """Resistors, a capacitor and a rest potential; the default is the vendor's dummy cell.

    Without a resistor beside the capacitor (infinite ohm) it charges like a battery.
    """

    def __init__(
        self,
        *,
        series_ohm: float = 565.0,
        parallel_ohm: float = 10.08e3,
        capacitance_f: float = 33.3e-9,
        rest_v: float = 0.0,
    ) -> None:
        self.series_ohm = series_ohm
        self.parallel_ohm = parallel_ohm
        self.capacitance_f = capacitance_f
        self.rest_v = rest_v
        self._capacitor_v = 0.0
        self._since_s = 0.0
        self._phases = (_Phase(is_current=True, value=0.0),)

    def impedance(self, frequency_hz: float, now_s: float) -> complex:
        """Return the impedance in ohm."""
        capacitor_s = 2j * math.pi * frequency_hz * self.capacitance_f
        return self.series_ohm + 1.0 / (1.0 / self.parallel_ohm + capacitor_s)

    def open_circuit(self, now_s: float) -> None:
        """Disconnect the leads."""
        self._begin(now_s, _Phase(is_current=True, value=0.0))

    def apply_potential(self, potential_v: float, now_s: float, *, limit_a: float) -> None:
        """Hold a potential, as far as the current stays within its limit."""
        held = _Phase(is_current=False, value=potential_v)
        across_v = potential_v - self.rest_v - self._capacitor_at(now_s)
        if abs(across_v) <= limit_a * self.series_ohm:
            self._begin(now_s, held)
            return
        limit_a = math.copysign(limit_a, across_v)
        reached_v = potential_v - self.rest_v - limit_a * self.series_ohm
        self._begin(now_s, self._until(limit_a, reached_v, now_s), held)

    def apply_current(self, current_a: float, now_s: float, *, limit_v: float) -> None:
        """Hold a current, as far as the potential stays within its limit."""
        ohmic_v = current_a * self.series_ohm
        limit_v = math.copysign(limit_v, current_a)
        limited = _Phase(is_current=False, value=limit_v)
        reached_v = limit_v - self.rest_v - ohmic_v
        first = self._until(current_a, reached_v, now_s)
        self._begin(now_s, *((first,) if first.duration_s == math.inf else (first, limited)))

    def potential_v(self, now_s: float) -> float:
        """Return the potential at the terminals, in V."""
        phase, capacitor_v = self._at(now_s)
        if not phase.is_current:
            return phase.value
        return self.rest_v + capacitor_v + phase.value * self.series_ohm

    def current_a(self, now_s: float) -> float:
        """Return the current through the terminals, in A."""
        phase, capacitor_v = self._at(now_s)
        if phase.is_current:
            return phase.value
        return (phase.value - self.rest_v - capacitor_v) / self.series_ohm

    def _begin(self, now_s: float, *phases: _Phase) -> None:
        self._capacitor_v = self._capacitor_at(now_s)
        self._since_s = now_s
        self._phases = phases

    def _until(self, current_a: float, reached_v: float, now_s: float) -> _Phase:
        """Return the phase of a current that lasts until the capacitor has reached a potential."""
        start_v = self._capacitor_at(now_s)
        towards = math.copysign(1.0, current_a)
        if towards * (reached_v - start_v) <= 0.0:
            return _Phase(is_current=True, value=current_a, duration_s=0.0)
        final_v = current_a * self.parallel_ohm if current_a else 0.0
        if not math.isfinite(final_v):
            duration_s = (reached_v - start_v) * self.capacitance_f / current_a
        elif towards * (final_v - reached_v) <= 0.0:
            duration_s = math.inf
        else:
            left = (final_v - start_v) / (final_v - reached_v)
            duration_s = self.parallel_ohm * self.capacitance_f * math.log(left)
        return _Phase(is_current=True, value=current_a, duration_s=duration_s)

    def _capacitor_at(self, now_s: float) -> float:
        return self._at(now_s)[1]

    def _at(self, now_s: float) -> tuple[_Phase, float]:
        """Return the phase at an instant and the potential of the capacitor."""
        after_s, capacitor_v = now_s - self._since_s, self._capacitor_v
        for phase in self._phases[:-1]:
            if after_s < phase.duration_s:
                return phase, self._moved(phase, capacitor_v, after_s)
            capacitor_v = self._moved(phase, capacitor_v, phase.duration_s)
            after_s -= phase.duration_s
        return self._phases[-1], self._moved(self._phases[-1], capacitor_v, after_s)

    def _moved(self, phase: _Phase, start_v: float, after_s: float) -> float:
        leak_s = 1.0 / self.parallel_ohm
        if phase.is_current:
            drive_a, conductance_s = phase.value, leak_s
        else:
            drive_a = (phase.value - self.rest_v) / self.series_ohm
            conductance_s = leak_s + 1.0 / self.series_ohm
        if conductance_s == 0.0:
            return start_v + drive_a * after_s / self.capacitance_f
        final_v = drive_a / conductance_s
        decay = math.exp(-after_s * conductance_s / self.capacitance_f)
        return final_v + (start_v - final_v) * decay


def resistor(resistance_ohm: float, *, rest_v: float = 0.0) -> DummyCell:
    """Return a resistor, with a battery in series if `rest_v` is not 0."""
    return DummyCell(
        series_ohm=resistance_ohm, parallel_ohm=1e-12, capacitance_f=1e-9, rest_v=rest_v
    )
