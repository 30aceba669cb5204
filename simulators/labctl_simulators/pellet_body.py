"""A pellet on its stage as it lives through time: linear, so that its impedance has no memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl_simulators.network import Motion, Network
from labctl_simulators.source import Condition, Potential

if TYPE_CHECKING:
    from labctl_simulators.pellet import PelletLike
    from labctl_simulators.stage import Stage

STALE_K = 0.002  # 0.02 percent of a resistance at 0.8 eV


@dataclass(frozen=True, eq=False)
class PelletResponse:
    """What a pellet does: the ions move, the electrons leak beside them."""

    ions: Motion
    condition: Condition
    rest_v: float
    leakage_s: float
    trusted_s: float = math.inf

    def potential_v(self, after_s: float) -> float:
        """Return the potential at the terminals, in V."""
        if isinstance(self.condition, Potential):
            return self.condition.volt
        return self.rest_v + self.ions.potential_v(after_s)

    def current_a(self, after_s: float) -> float:
        """Return the current through the terminals, in A."""
        if not isinstance(self.condition, Potential):
            return self.condition.ampere
        leak_a = self.leakage_s * (self.condition.volt - self.rest_v)
        return self.ions.current_a(after_s) + leak_a


class PelletBody:
    """The states of a pellet at whatever temperature its stage has given it.

    Args:
        pellet: its circuit at every temperature.
        stage: what it lies on.
    """

    def __init__(self, pellet: PelletLike, stage: Stage) -> None:
        self.pellet, self.stage = pellet, stage
        self._take(stage.sample_history_k(0))
        self._states_v = np.zeros(self._network.n_states)

    def is_stale(self, tick: int) -> bool:
        """Return whether the temperature has moved since the parameters were taken."""
        return abs(self.stage.sample_history_k(tick) - self._temperature_k) > STALE_K

    def refresh(self, tick: int) -> None:
        """Take the parameters from the temperature at a tick, if it has moved."""
        if self.is_stale(tick):
            self._take(self.stage.sample_history_k(tick))

    def respond(self, condition: Condition) -> PelletResponse:
        """Return what happens under a condition, from the present states on."""
        network, rest_v = self._network, self.pellet.open_circuit_potential_v
        if isinstance(condition, Potential):
            ions = network.hold(self._states_v, condition.volt - rest_v)
        else:
            ions = network.move(
                self._states_v, source_a=condition.ampere, parallel_s=self._leakage_s
            )
        return PelletResponse(ions, condition, rest_v, self._leakage_s)

    def settle(self, response: PelletResponse, after_s: float) -> None:
        """Let the states be what a response has made of them."""
        self._states_v = response.ions.states_v(after_s)

    def impedance(
        self, frequency_hz: float, *, response: PelletResponse, after_s: float, now_s: float
    ) -> complex:
        """Return the impedance in ohm at the temperature the sample has at `now_s`."""
        return self.pellet.circuit(self.stage.sample_temperature_k(now_s)).impedance(frequency_hz)

    def _take(self, temperature_k: float) -> None:
        self._temperature_k = temperature_k
        circuit = self.pellet.circuit(temperature_k)
        self._leakage_s = 1.0 / circuit.electronic_resistance_ohm
        self._network = Network(circuit.relaxations())
