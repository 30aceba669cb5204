"""A cell for stability windows as it lives through time: its double layer and its passivation.

The reactions are taken as straight around the potential that each response begins at, for as long
as that is true; the double layer behind the series resistance then moves exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from labctl_simulators.network import Network
from labctl_simulators.relaxations import of_element
from labctl_simulators.source import Condition, Potential

if TYPE_CHECKING:
    from labctl_simulators.lsv_cell import LsvCell
    from labctl_simulators.relaxations import Numbers
    from labctl_simulators.stage import Stage

STALE_K = 0.002  # 0.01 percent of a resistance at 0.5 eV
LONGEST_S = 3600.0
SHORTEST_S = 1e-7
LARGEST_PASSIVATION = 0.002  # of the surface, in one response
CURRENT_ERROR = 1e-3  # of the current: by how much the reactions may bend away
SLOPE_STEP = 0.002  # slopes this much alike, in ln, share their normal modes


class LsvResponse:
    """What the cell does under one condition, from a state of its double layer on."""

    def __init__(
        self,
        laws: LsvCell,
        network: Network,
        states_v: Numbers,
        condition: Condition,
        *,
        passivation: float,
        series_ohm: float,
    ) -> None:
        self._laws, self._condition, self._series_ohm = laws, condition, series_ohm
        self._passivation = passivation
        self._begin_v = float(np.sum(states_v))  # of the double layer, 0 at rest
        self._reactions = laws.faradaic(laws.rest_v + self._begin_v, passivation)
        self._slope_s = math.exp(SLOPE_STEP * round(math.log(self._reactions.slope_s) / SLOPE_STEP))
        self._source_a = self._slope_s * self._begin_v - self._reactions.current_a
        self._parallel_s = self._slope_s
        if isinstance(condition, Potential):
            self._source_a += (condition.volt - laws.rest_v) / series_ohm
            self._parallel_s += 1.0 / series_ohm
        else:
            self._source_a += condition.ampere
        self.layer = network.move(states_v, source_a=self._source_a, parallel_s=self._parallel_s)
        self.trusted_s = LONGEST_S
        while not self._is_straight(self.trusted_s) and self.trusted_s > SHORTEST_S:
            self.trusted_s *= 0.25

    def potential_v(self, after_s: float) -> float:
        """Return the potential at the terminals, in V."""
        if isinstance(self._condition, Potential):
            return self._condition.volt
        return self.carbon_v(after_s) + self._series_ohm * self._condition.ampere

    def current_a(self, after_s: float) -> float:
        """Return the current through the terminals, in A."""
        if isinstance(self._condition, Potential):
            return (self._condition.volt - self.carbon_v(after_s)) / self._series_ohm
        return self._condition.ampere

    def carbon_v(self, after_s: float) -> float:
        """Return the potential of the carbon, without the ohmic drop, in V."""
        return self._laws.rest_v + self.layer.potential_v(after_s)

    def passivation(self, after_s: float) -> float:
        """Return the share of the surface that is then passivated: each charge takes some."""
        free = 1.0 - self._passivation
        if self._reactions.oxidation_a <= 0.0:
            return self._passivation
        charge_c = self._reactions.oxidation_a * after_s
        charge_c += self._laws.oxidation_slope_s(self._reactions) * self._moved_v_s(after_s)
        full_c = free * self._laws.properties.passivation_charge_c
        return 1.0 - free * math.exp(-max(charge_c, 0.0) / full_c)

    def _moved_v_s(self, after_s: float) -> float:
        """Return the integral of how far the potential has moved since the beginning, in V s."""
        under_v_s = self._source_a * after_s - self.layer.charge_c(after_s)
        return under_v_s / self._parallel_s - self._begin_v * after_s

    def _is_straight(self, after_s: float) -> bool:
        """Return whether the reactions are, by then, what they are taken for."""
        moved_v = self.layer.potential_v(after_s) - self._begin_v
        taken_a = self._reactions.current_a + self._slope_s * moved_v
        true_a = self._laws.faradaic(self.carbon_v(after_s), self._passivation).current_a
        error_a = CURRENT_ERROR * (abs(true_a) + abs(self.layer.current_a(after_s)))
        passivated = self.passivation(after_s) - self._passivation
        return abs(true_a - taken_a) <= error_a and passivated <= LARGEST_PASSIVATION


class LsvBody:
    """The states of the cell at whatever temperature its stage has given it.

    Args:
        laws: what it is made of.
        stage: what it lies on.
    """

    def __init__(self, laws: LsvCell, stage: Stage) -> None:
        self.laws, self.stage = laws, stage
        self._network = Network(of_element(laws.double_layer))
        self._states_v = np.zeros(self._network.n_states)
        self._temperature_k = stage.sample_history_k(0)
        self.passivation = 0.0

    def is_stale(self, tick: int) -> bool:
        """Return whether the temperature has moved since the resistance was taken."""
        return abs(self.stage.sample_history_k(tick) - self._temperature_k) > STALE_K

    def refresh(self, tick: int) -> None:
        """Take the resistance from the temperature at a tick."""
        if self.is_stale(tick):
            self._temperature_k = self.stage.sample_history_k(tick)

    def respond(self, condition: Condition) -> LsvResponse:
        """Return what happens under a condition, from the present states on."""
        return LsvResponse(
            self.laws,
            self._network,
            self._states_v,
            condition,
            passivation=self.passivation,
            series_ohm=self.laws.series_ohm(self._temperature_k),
        )

    def settle(self, response: LsvResponse, after_s: float) -> None:
        """Let the states be what a response has made of them."""
        self._states_v = response.layer.states_v(after_s)
        self.passivation = response.passivation(after_s)

    def impedance(
        self, frequency_hz: float, *, response: LsvResponse, after_s: float, now_s: float
    ) -> complex:
        """Return the impedance in ohm around the state that the cell has at `now_s`."""
        return self.laws.impedance(
            frequency_hz,
            temperature_k=self.stage.sample_temperature_k(now_s),
            potential_v=response.carbon_v(after_s),
            passivation=response.passivation(after_s),
        )
