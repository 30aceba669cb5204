"""Relaxations in series as a cell lives through them: states, and how they move under a source.

A source is i = drive - conductance * sum(v): a current alone if the conductance is 0, else whatever
stands behind a resistance - a potentiostat, a leak, an open circuit with a leak. Under either the
states move by exponentials, exactly for any length of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from labctl_simulators.normal_modes import NormalModes, normal_modes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labctl_simulators.relaxations import Numbers, Relaxations

# What relaxes faster than any converter samples counts as resistance.
FASTEST_PER_S = 1e8
SMALLEST_SERIES_OHM = 1e-3  # no lead has less; without it a step of potential had no current
_KEPT_MODES = 1024


class Motion(Protocol):
    """What the states of a network do from an instant on, under one source."""

    def current_a(self, after_s: float) -> float:
        """Return the current through the network, in A."""
        ...

    def potential_v(self, after_s: float) -> float:
        """Return the potential across the network, in V."""
        ...

    def charge_c(self, after_s: float) -> float:
        """Return the charge that has passed since the beginning, in C."""
        ...

    def states_v(self, after_s: float) -> Numbers:
        """Return the potentials of the capacitors, in V, shape (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """Relaxations with their resistance in series, for one set of parameters."""

    relaxations: Relaxations
    _modes: dict[float, NormalModes] = field(default_factory=dict, init=False, repr=False)
    _is_slow: slice | NDArray[np.bool_] = field(init=False, repr=False)
    _n_slow: int = field(init=False, repr=False)
    series_ohm: float = field(init=False)

    def __post_init__(self) -> None:
        rates, elastance = self.relaxations.rate_per_s, self.relaxations.elastance_per_f
        is_fast = rates > FASTEST_PER_S
        fast_ohm = float(np.sum(elastance[is_fast] / rates[is_fast]))
        series_ohm = self.relaxations.series_ohm + fast_ohm
        object.__setattr__(self, "series_ohm", max(series_ohm, SMALLEST_SERIES_OHM))
        object.__setattr__(self, "_is_slow", ~is_fast if is_fast.any() else slice(None))
        object.__setattr__(self, "_n_slow", int(np.sum(~is_fast)))

    @property
    def n_states(self) -> int:
        """How many capacitors there are."""
        return len(self.relaxations.rate_per_s)

    def move(self, states_v: Numbers, *, source_a: float, parallel_s: float) -> Motion:
        """Return what happens from `states_v` on.

        The source sends `source_a` through the network and `parallel_s` beside it, so that
        i = source_a - parallel_s * potential; the latter may be 0.
        """
        is_at_rest = source_a == 0.0 and not states_v.any()
        if parallel_s == 0.0 or is_at_rest:
            return ConstantCurrent(self, states_v, source_a)
        share = 1.0 + parallel_s * self.series_ohm
        return self._behind(states_v, source_a / parallel_s, 1.0 / parallel_s, parallel_s / share)

    def hold(self, states_v: Numbers, potential_v: float) -> Motion:
        """Return what happens from `states_v` on at a constant potential across the network."""
        return self._behind(states_v, potential_v, 0.0, 1.0 / self.series_ohm)

    def _behind(
        self, states_v: Numbers, source_v: float, source_ohm: float, conductance_s: float
    ) -> Motion:
        if self._n_slow == 0:
            return ConstantCurrent(self, states_v, conductance_s * source_v)
        if conductance_s not in self._modes:
            if len(self._modes) >= _KEPT_MODES:
                self._modes.clear()
            slow = self._is_slow
            self._modes[conductance_s] = normal_modes(
                self.relaxations.elastance_per_f[slow],
                self.relaxations.rate_per_s[slow],
                conductance_s,
            )
        modes = self._modes[conductance_s]
        return BehindResistance(self, modes, states_v, source_v, source_ohm, conductance_s)

    def slow(self, states_v: Numbers) -> Numbers:
        """Return the states that move, without those that count as resistance."""
        return states_v[self._is_slow]

    def with_slow(self, slow_v: Numbers, current_a: float) -> Numbers:
        """Return all states: the fast ones follow the current."""
        states_v = self.final_v(current_a)
        states_v[self._is_slow] = slow_v
        return states_v

    def final_v(self, current_a: float) -> Numbers:
        """Return where the states end under a current that the capacitors alone do not carry."""
        rates = self.relaxations.rate_per_s
        final_v = np.zeros_like(rates)
        np.divide(self.relaxations.elastance_per_f, rates, out=final_v, where=rates > 0.0)
        return final_v * current_a


class ConstantCurrent:
    """States that each relax alone."""

    def __init__(self, network: Network, states_v: Numbers, current_a: float) -> None:
        self._network = network
        self._current_a = current_a
        self._start_v = network.slow(states_v)
        self._rate = network.slow(network.relaxations.rate_per_s)
        self._drive = current_a * network.slow(network.relaxations.elastance_per_f)

    def current_a(self, after_s: float) -> float:
        """Return the current, in A."""
        return self._current_a

    def potential_v(self, after_s: float) -> float:
        """Return the potential across the network, in V."""
        ohmic_v = self._current_a * self._network.series_ohm
        return ohmic_v + float(np.add.reduce(self._slow_v(after_s)))

    def charge_c(self, after_s: float) -> float:
        """Return the charge that has passed, in C."""
        return self._current_a * after_s

    def states_v(self, after_s: float) -> Numbers:
        """Return the potentials of the capacitors, in V."""
        return self._network.with_slow(self._slow_v(after_s), self._current_a)

    def _slow_v(self, after_s: float) -> Numbers:
        lost = -np.expm1(-after_s * self._rate)
        gain_s = np.full_like(lost, after_s)
        np.divide(lost, self._rate, out=gain_s, where=self._rate > 0.0)
        return self._start_v - self._start_v * lost + self._drive * gain_s


class BehindResistance:
    """States coupled through the current of a source with a resistance."""

    def __init__(
        self,
        network: Network,
        modes: NormalModes,
        states_v: Numbers,
        source_v: float,
        source_ohm: float,
        conductance_s: float,
    ) -> None:
        self._network, self._modes = network, modes
        self._source_v, self._source_ohm = source_v, source_ohm
        self._conductance_s = conductance_s
        slow_ohm, blocks = _resistance(network)
        self._final_a = 0.0 if blocks else source_v / (1.0 / conductance_s + slow_ohm)
        final_v = network.slow(network.final_v(self._final_a))
        if blocks:  # in the end the capacitor alone carries the whole potential
            final_v[network.slow(network.relaxations.rate_per_s) == 0.0] = source_v
        # Where a current source with a leak would end is far beyond where it ever gets: all is
        # counted from the beginning, or what is small would drown in rounding.
        self._start_v = network.slow(states_v)
        self._amplitude = self._start_v @ modes.into - final_v @ modes.into
        self._weighted = self._amplitude * modes.weight

    def current_a(self, after_s: float) -> float:
        """Return the current through the network, in A."""
        decay = np.exp(-after_s * self._modes.rate_per_s)
        return self._final_a + float(self._weighted @ decay)

    def potential_v(self, after_s: float) -> float:
        """Return the potential across the network, in V."""
        if self._source_ohm == 0.0:
            return self._source_v
        lost = np.expm1(-after_s * self._modes.rate_per_s)
        current_a = self._final_a + float(np.add.reduce(self._weighted + self._weighted * lost))
        capacitors_v = np.add.reduce(self._start_v) - self._weighted @ lost / self._conductance_s
        return self._network.series_ohm * current_a + float(capacitors_v)

    def charge_c(self, after_s: float) -> float:
        """Return the charge that has passed, in C."""
        rates = self._modes.rate_per_s
        passed_s = -np.expm1(-after_s * rates) / rates
        return self._final_a * after_s + float(self._weighted @ passed_s)

    def states_v(self, after_s: float) -> Numbers:
        """Return the potentials of the capacitors, in V."""
        lost = np.expm1(-after_s * self._modes.rate_per_s)
        slow_v = self._start_v + self._modes.out @ (self._amplitude * lost)
        return self._network.with_slow(slow_v, self.current_a(after_s))


def _resistance(network: Network) -> tuple[float, bool]:
    """Return the resistance of the states that move, and whether a capacitor blocks any current."""
    rates = network.slow(network.relaxations.rate_per_s)
    blocks = bool(np.any(rates == 0.0))
    slow_ohm = float(np.sum(network.slow(network.final_v(1.0))))
    return (math.inf if blocks else slow_ohm), blocks
