"""A dummy cell, the circuit of resistors and a capacitor that potentiostats are tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labctl_simulators.cell_in_time import CellInTime
from labctl_simulators.network import Network
from labctl_simulators.pellet_body import PelletResponse
from labctl_simulators.relaxations import Relaxations
from labctl_simulators.source import Condition, Potential

if TYPE_CHECKING:
    from labctl_simulators.relaxations import Numbers


class DummyBody:
    """A resistor, then a resistor beside a capacitor unless `parallel_ohm` is 0, then a battery."""

    def __init__(
        self,
        *,
        series_ohm: float,
        parallel_ohm: float = 0.0,
        parallel_f: float = 0.0,
        rest_v: float,
    ) -> None:
        capacitor_f = [parallel_f] if parallel_ohm > 0.0 else []
        elastance_per_f = 1.0 / np.array(capacitor_f, dtype=float)
        self._relaxations = Relaxations(
            elastance_per_f, elastance_per_f / (parallel_ohm or 1.0), series_ohm
        )
        self._network = Network(self._relaxations)
        self._states_v: Numbers = np.zeros(self._network.n_states)
        self._rest_v = rest_v

    def is_stale(self, tick: int) -> bool:
        """Return False: it does not change."""
        return False

    def refresh(self, tick: int) -> None:
        """Do nothing: it does not change."""

    def respond(self, condition: Condition) -> PelletResponse:
        """Return what happens under a condition, from the present states on."""
        if isinstance(condition, Potential):
            motion = self._network.hold(self._states_v, condition.volt - self._rest_v)
        else:
            motion = self._network.move(self._states_v, source_a=condition.ampere, parallel_s=0.0)
        return PelletResponse(motion, condition, self._rest_v, leakage_s=0.0)

    def settle(self, response: PelletResponse, after_s: float) -> None:
        """Let the state be what a response has made of it."""
        self._states_v = response.ions.states_v(after_s)

    def impedance(
        self, frequency_hz: float, *, response: PelletResponse, after_s: float, now_s: float
    ) -> complex:
        """Return the impedance in ohm; it has no memory."""
        return self._relaxations.impedance(frequency_hz)


def dummy_cell(
    *, series_ohm: float, parallel_ohm: float = 0.0, parallel_f: float = 0.0, rest_v: float = 0.0
) -> CellInTime[PelletResponse]:
    """Return a resistor in series with another one beside a capacitor (none if 0), at `rest_v`."""
    body = DummyBody(
        series_ohm=series_ohm, parallel_ohm=parallel_ohm, parallel_f=parallel_f, rest_v=rest_v
    )
    return CellInTime(body)
