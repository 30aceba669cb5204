"""A full cell as it lives through time: four arcs, the profile in its sheet, its charge, its wear.

Under a constant current the arcs and the profile move exactly; what is held constant for a while is
what depends on the state of charge and the side reaction, taken in the middle of that while. Under
a constant potential all of them share one current, with the open-circuit curve taken as straight
for as long as it is so within a microvolt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from labctl_simulators.full_cell import COULOMB_PER_MAH
from labctl_simulators.network import Network
from labctl_simulators.relaxations import Relaxations, in_series, of_arc, sheet_modes
from labctl_simulators.source import Condition, Potential

if TYPE_CHECKING:
    from labctl_simulators.full_cell import FullCell
    from labctl_simulators.relaxations import Numbers
    from labctl_simulators.stage import Stage

STALE_K = 0.002  # 0.01 percent of a resistance at 0.5 eV
LONGEST_S = 3600.0
LARGEST_STEP = 0.005  # of the state of charge, in one response
SIDE_REACTION_CHANGE = 1e-3  # of the current: by how much it may change in one response
SIDE_REACTION_ERROR = 2e-5  # likewise, the change times the duration, of the capacity
SIDE_REACTION_S = 0.5  # and for how long it is taken as constant however it changes
NEGLIGIBLE = 1e-9  # share of the capacity: a side reaction that hardly lowers the potential
CURVE_ERROR_V = 1e-6
CURRENT_ERROR = 2e-4  # likewise, of the potential that the current drops
NETWORK_STEP = 0.002  # of the state of charge, until the modes of a constant potential are stale
NETWORK_ERROR = 0.003  # likewise, of the slope of the open-circuit curve
SHORTEST_S = 1e-6


@dataclass(frozen=True, eq=False)
class State:
    """What a full cell remembers.

    Attributes:
        relaxing: the potentials of the arcs' capacitors, in V, then what each mode of the sheet
            adds to the state of charge at its surface, shape (n,).
        charge: the state of charge, mean over the sheet.
        capacity_c: what is left of the capacity, in C.
        stored_c: charge that was stored since the beginning, in C.
        side_reaction_c: charge that the side reaction took since the beginning, in C.
    """

    relaxing: Numbers
    charge: float
    capacity_c: float
    stored_c: float = 0.0
    side_reaction_c: float = 0.0


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a cell's laws give at one temperature, state of charge and capacity.

    Attributes:
        n_arcs: how many of the relaxing states belong to the arcs.
        rate_per_s: of the relaxing states, shape (n,).
        gain: of the relaxing states per coulomb, in 1/F and 1/C, shape (n,).
        series_ohm: the leads.
        instant_per_a: what faster modes add to the surface at once, in 1/A.
        capacity_c: charge from empty to full.
    """

    n_arcs: int
    rate_per_s: Numbers
    gain: Numbers
    series_ohm: float
    instant_per_a: float
    capacity_c: float


class FullCellResponse(Protocol):
    """A response that also tells what it does to the cell."""

    trusted_s: float

    def potential_v(self, after_s: float) -> float:
        """Return the potential at the terminals, in V."""
        ...

    def current_a(self, after_s: float) -> float:
        """Return the current through the terminals, in A."""
        ...

    def surface(self, after_s: float) -> float:
        """Return the state of charge at the surface of the sheet."""
        ...

    def state(self, after_s: float) -> State:
        """Return what the cell then remembers."""
        ...


class HeldCurrentResponse:
    """Every state relaxes alone; the side reaction takes a constant share of the current."""

    def __init__(
        self, laws: FullCell, parameters: Parameters, state: State, current_a: float
    ) -> None:
        self._laws, self._parameters, self._state = laws, parameters, state
        self._current_a = current_a
        self._side_a = 0.0
        self._through_a = current_a
        self._final_per_a = parameters.gain / parameters.rate_per_s
        self._amplitude = state.relaxing - current_a * self._final_per_a
        self._last: tuple[float, Numbers] = (0.0, state.relaxing)
        self.trusted_s = self._choose_end()

    def potential_v(self, after_s: float) -> float:
        """Return the potential at the terminals, in V."""
        arcs_v, surface = self._readings(after_s)
        ohmic_v = self._parameters.series_ohm * self._through_a
        return ohmic_v + arcs_v + self._laws.open_circuit_v(surface)[0]

    def current_a(self, after_s: float) -> float:
        """Return the current through the terminals, in A."""
        return self._current_a

    def surface(self, after_s: float) -> float:
        """Return the state of charge at the surface of the sheet."""
        return self._readings(after_s)[1]

    def state(self, after_s: float) -> State:
        """Return what the cell then remembers."""
        return _moved(
            self._state,
            self._relaxing(after_s),
            stored_c=self._through_a * after_s,
            side_reaction_c=self._side_a * after_s,
            loss=self._laws.properties.capacity_loss_c_per_c,
        )

    def _relaxing(self, after_s: float) -> Numbers:
        if after_s == 0.0:
            return self._state.relaxing
        if self._last[0] != after_s:
            lost = np.expm1(-after_s * self._parameters.rate_per_s)
            self._last = after_s, self._state.relaxing + self._amplitude * lost
        return self._last[1]

    def _readings(self, after_s: float) -> tuple[float, float]:
        """Return the potential across the arcs, in V, and the state of charge at the surface."""
        relaxing, parameters = self._relaxing(after_s), self._parameters
        charge = self._state.charge + self._through_a * after_s / parameters.capacity_c
        instant = parameters.instant_per_a * self._through_a
        arcs_v = float(np.add.reduce(relaxing[: parameters.n_arcs]))
        return arcs_v, charge + instant + float(np.add.reduce(relaxing[parameters.n_arcs :]))

    def _choose_end(self) -> float:
        """Return for how long the side reaction may be taken as what it is in the middle."""
        laws, capacity_c = self._laws, self._parameters.capacity_c
        end_s = LONGEST_S
        if self._current_a != 0.0:
            end_s = min(end_s, LARGEST_STEP * capacity_c / abs(self._current_a))
        if laws.properties.side_reaction_current_a == 0.0:
            return end_s
        while True:
            self._take_side(self._side_in_middle(end_s))
            first_a = laws.side_reaction_a(self.potential_v(0.0))
            change_a = abs(laws.side_reaction_a(self.potential_v(end_s)) - first_a)
            most_a = SIDE_REACTION_CHANGE * max(abs(self._current_a), first_a)
            if self._current_a == 0.0 or change_a * end_s < NEGLIGIBLE * capacity_c:
                most_a = math.inf
            is_small = change_a * end_s < SIDE_REACTION_ERROR * capacity_c and change_a < most_a
            if is_small or end_s < SIDE_REACTION_S:
                return end_s
            end_s *= 0.5

    def _side_in_middle(self, end_s: float) -> float:
        """Return the side reaction half-way, which lowers the potential that drives it."""
        self._take_side(0.0)
        arcs_v, surface = self._readings(0.5 * end_s)
        open_v, slope_v = self._laws.open_circuit_v(surface)
        parameters, n_arcs = self._parameters, self._parameters.n_arcs
        without_a = self._laws.side_reaction_a(
            arcs_v + open_v + parameters.series_ohm * self._current_a
        )
        if without_a * end_s < NEGLIGIBLE * parameters.capacity_c:
            return without_a
        risen = -np.expm1(-0.5 * end_s * parameters.rate_per_s) * self._final_per_a
        arcs_ohm = float(np.add.reduce(risen[:n_arcs]))
        per_a = 0.5 * end_s / parameters.capacity_c + parameters.instant_per_a
        sheet_ohm = slope_v * (per_a + float(np.add.reduce(risen[n_arcs:])))
        return without_a * self._laws.side_reaction_share(
            without_a, parameters.series_ohm + arcs_ohm + sheet_ohm
        )

    def _take_side(self, side_a: float) -> None:
        self._last = 0.0, self._state.relaxing
        self._side_a, self._through_a = side_a, self._current_a - side_a
        self._amplitude = self._state.relaxing - self._through_a * self._final_per_a


class HeldPotentialResponse:
    """All states share one current, along a straight piece of the open-circuit curve."""

    def __init__(
        self,
        laws: FullCell,
        parameters: Parameters,
        state: State,
        potential_v: float,
        network: Network,
        slope_v: float,
    ) -> None:
        self._laws, self._parameters, self._state = laws, parameters, state
        self._potential_v, self._slope_v = potential_v, slope_v
        self._side_a = laws.side_reaction_a(potential_v)
        self._begin = state.charge + float(np.sum(state.relaxing[parameters.n_arcs :]))
        self._begin_v = laws.open_circuit_v(self._begin)[0]
        states_v = np.append(state.relaxing, 0.0)
        states_v[parameters.n_arcs : -1] *= slope_v
        profile_v = float(np.sum(states_v[parameters.n_arcs : -1]))
        self._motion = network.hold(states_v, potential_v - self._begin_v + profile_v)
        self._polarisation_ohm = network.series_ohm + float(np.sum(network.final_v(1.0)[:-1]))
        self.trusted_s = self._choose_end()

    def potential_v(self, after_s: float) -> float:
        """Return the potential at the terminals, in V."""
        return self._potential_v

    def current_a(self, after_s: float) -> float:
        """Return the current through the terminals, in A."""
        return self._motion.current_a(after_s) + self._side_a

    def surface(self, after_s: float) -> float:
        """Return the state of charge at the surface of the sheet."""
        instant = self._parameters.instant_per_a * self._motion.current_a(after_s)
        return self._below_surface(after_s) + instant

    def state(self, after_s: float) -> State:
        """Return what the cell then remembers."""
        relaxing = self._motion.states_v(after_s)[:-1].copy()
        relaxing[self._parameters.n_arcs :] /= self._slope_v
        return _moved(
            self._state,
            relaxing,
            stored_c=self._motion.charge_c(after_s),
            side_reaction_c=self._side_a * after_s,
            loss=self._laws.properties.capacity_loss_c_per_c,
        )

    def _choose_end(self) -> float:
        """Return for how long curve and resistances are constant to what the current tells."""
        end_s = LONGEST_S
        while end_s > SHORTEST_S:
            error = self._curve_error(end_s)
            if error <= 1.0:
                break
            # the error of a straight line grows with the square
            end_s *= max(0.01, min(0.7, 0.9 / math.sqrt(error)))
        return end_s

    def _curve_error(self, after_s: float) -> float:
        """Return by how much more than allowed the curve bends away and the charge moves."""
        below = self._below_surface(after_s)
        straight_v = self._begin_v + self._slope_v * (below - self._begin)
        error_v = abs(self._laws.open_circuit_v(below)[0] - straight_v)
        drop_v = abs(self._motion.current_a(after_s)) * self._polarisation_ohm
        step = abs(self._motion.charge_c(after_s)) / self._parameters.capacity_c / LARGEST_STEP
        return max(step * step, error_v / max(CURVE_ERROR_V, CURRENT_ERROR * drop_v))

    def _below_surface(self, after_s: float) -> float:
        states_v = self._motion.states_v(after_s)
        moved_v = float(np.sum(states_v[self._parameters.n_arcs :]))
        return self._state.charge + moved_v / self._slope_v


class FullCellBody:
    """The states of a full cell at whatever temperature its stage has given it.

    Args:
        laws: what it is made of.
        stage: what it lies on.
    """

    def __init__(self, laws: FullCell, stage: Stage) -> None:
        self.laws, self.stage = laws, stage
        self._arcs = in_series(*(of_arc(arc) for arc in laws.arcs))
        self._exponents = np.array([arc.element.exponent for arc in laws.arcs])
        self._per_arc = len(self._arcs.rate_per_s) // len(laws.arcs)
        n_states = len(self._arcs.rate_per_s) + len(sheet_modes().rate)
        self.state = State(
            np.zeros(n_states),
            charge=laws.properties.initial_state_of_charge,
            capacity_c=laws.properties.capacity_mah * COULOMB_PER_MAH,
        )
        self._temperature_k = stage.sample_history_k(0)
        self._warmth = laws.warmth(self._temperature_k)
        self._parameters = self._take()
        self._network: tuple[Network, Parameters, float, float] | None = None

    def is_stale(self, tick: int) -> bool:
        """Return whether the temperature has moved since the parameters were taken."""
        return abs(self.stage.sample_history_k(tick) - self._temperature_k) > STALE_K

    def refresh(self, tick: int) -> None:
        """Take the parameters from the temperature at a tick and the state of charge."""
        if self.is_stale(tick):
            self._temperature_k = self.stage.sample_history_k(tick)
            self._warmth = self.laws.warmth(self._temperature_k)
            self._network = None
        self._parameters = self._take()

    def respond(self, condition: Condition) -> FullCellResponse:
        """Return what happens under a condition, from the present states on."""
        if isinstance(condition, Potential):
            return self._hold(condition.volt)
        return HeldCurrentResponse(self.laws, self._parameters, self.state, condition.ampere)

    def settle(self, response: FullCellResponse, after_s: float) -> None:
        """Let the states be what a response has made of them."""
        self.state = response.state(after_s)

    def impedance(
        self, frequency_hz: float, *, response: FullCellResponse, after_s: float, now_s: float
    ) -> complex:
        """Return the impedance in ohm around the state that the cell has at `now_s`."""
        state = response.state(after_s)
        slope_v = self.laws.open_circuit_v(response.surface(after_s))[1]
        temperature_k = self.stage.sample_temperature_k(now_s)
        return self.laws.impedance(
            frequency_hz,
            growths=self.laws.growths(self.laws.warmth(temperature_k), state.charge),
            slope_v_per_c=slope_v / state.capacity_c,
            potential_v=response.potential_v(after_s),
        )

    def _hold(self, potential_v: float) -> FullCellResponse:
        """Return the response to a potential, with modes that still fit if there are any."""
        n_arcs = self._parameters.n_arcs
        below = self.state.charge + float(np.sum(self.state.relaxing[n_arcs:]))
        slope_v = self.laws.open_circuit_v(below)[1]
        if self._network is not None:
            network, parameters, held_slope_v, charge = self._network
            fits = (
                abs(self.state.charge - charge) < NETWORK_STEP
                and abs(held_slope_v / slope_v - 1.0) < NETWORK_ERROR
            )
            if fits:
                return HeldPotentialResponse(
                    self.laws, parameters, self.state, potential_v, network, held_slope_v
                )
        parameters = self._parameters
        network = _network(parameters, slope_v)
        self._network = network, parameters, slope_v, self.state.charge
        return HeldPotentialResponse(
            self.laws, parameters, self.state, potential_v, network, slope_v
        )

    def _take(self) -> Parameters:
        """Return the parameters: of an arc whose resistance grows, the capacitances stay."""
        growths = self.laws.growths(self._warmth, self.state.charge)
        grown = np.array(growths.of_arcs)
        faster = np.repeat(grown ** (-1.0 / self._exponents), self._per_arc)
        modes, capacity_c = sheet_modes(), self.state.capacity_c
        stiffer = faster * np.repeat(grown, self._per_arc)
        diffusion_s = self.laws.diffusion_time_s * growths.diffusion
        return Parameters(
            n_arcs=len(faster),
            rate_per_s=np.concatenate((self._arcs.rate_per_s * faster, modes.rate / diffusion_s)),
            gain=np.concatenate((self._arcs.elastance_per_f * stiffer, modes.gain / capacity_c)),
            series_ohm=self.laws.properties.series_resistance_ohm * growths.series,
            instant_per_a=modes.instant * diffusion_s / capacity_c,
            capacity_c=capacity_c,
        )


def _network(parameters: Parameters, slope_v: float) -> Network:
    """Return arcs, modes and the sheet's mean as potentials that share one current."""
    elastance = np.append(parameters.gain, slope_v / parameters.capacity_c)
    elastance[parameters.n_arcs : -1] *= slope_v
    series_ohm = parameters.series_ohm + slope_v * parameters.instant_per_a
    return Network(Relaxations(elastance, np.append(parameters.rate_per_s, 0.0), series_ohm))


def _moved(
    state: State, relaxing: Numbers, *, stored_c: float, side_reaction_c: float, loss: float
) -> State:
    """Return a state after some charge; what wears off takes its share of the charge along."""
    return State(
        relaxing,
        charge=state.charge + stored_c / state.capacity_c,
        capacity_c=state.capacity_c - loss * abs(stored_c),
        stored_c=state.stored_c + stored_c,
        side_reaction_c=state.side_reaction_c + side_reaction_c,
    )
