"""Simulated cells: a pellet of a solid electrolyte between blocking electrodes.

    lead inductance -- + -- bulk -- grain boundaries -- blocking electrodes -- +
                       |                                                       |
                       + -------------- electronic leakage ------------------- +

Bulk and grain boundaries are a resistance beside a constant phase element, the electrodes a
constant phase element alone. A `PelletCircuit` holds the values of these elements at one
temperature: a twin in the time domain expands the same values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from labctl_simulators.table import above, at_least, between

if TYPE_CHECKING:
    from labctl_simulators.stage import Stage

BOLTZMANN_EV_PER_K = 8.617333262e-5
REST_FREQUENCY_HZ = 1e-3
ROOM_TEMPERATURE_K = 298.15  # the 25 degC that a file's conductivities are given at


class MeasuredCell(Protocol):
    """What a potentiostat sees of a cell."""

    def impedance(self, frequency_hz: float, now_s: float) -> complex:
        """Return the impedance in ohm at the temperature the sample has at `now_s`."""
        ...

    def apply_potential(self, potential_v: float, now_s: float, *, limit_a: float) -> None:
        """Hold a potential, as far as the current stays within its limit."""
        ...

    def apply_current(self, current_a: float, now_s: float, *, limit_v: float) -> None:
        """Hold a current, as far as the potential stays within its limit."""
        ...

    def open_circuit(self, now_s: float) -> None:
        """Disconnect the leads."""
        ...

    def potential_v(self, now_s: float) -> float:
        """Return the potential at the terminals, in V."""
        ...

    def current_a(self, now_s: float) -> float:
        """Return the current through the terminals, in A."""
        ...


@dataclass(frozen=True)
class ConstantPhaseElement:
    """Admittance Q s^n: Q in S s^n, n without a unit."""

    q_siemens_s_n: float
    exponent: float

    def admittance(self, s: complex) -> complex:
        """Return the admittance in S at the complex angular frequency `s`, in rad/s."""
        return self.q_siemens_s_n * s**self.exponent


@dataclass(frozen=True)
class Zarc:
    """A resistance beside a constant phase element: a depressed arc."""

    resistance_ohm: float
    element: ConstantPhaseElement

    def impedance(self, s: complex) -> complex:
        """Return the impedance in ohm at the complex angular frequency `s`, in rad/s."""
        return self.resistance_ohm / (1.0 + self.resistance_ohm * self.element.admittance(s))


@dataclass(frozen=True)
class PelletCircuit:
    """The elements of a pellet at one temperature."""

    lead_inductance_h: float
    bulk: Zarc
    grain_boundary: Zarc
    electrode: ConstantPhaseElement
    electronic_resistance_ohm: float

    def impedance(self, frequency_hz: float) -> complex:
        """Return the impedance in ohm; at 0 Hz only the electronic leakage is left."""
        s = 2j * math.pi * frequency_hz
        electrode = self.electrode.admittance(s)
        through_pellet = self.bulk.impedance(s) + self.grain_boundary.impedance(s)
        ionic = electrode / (1.0 + electrode * through_pellet)
        return s * self.lead_inductance_h + 1.0 / (ionic + 1.0 / self.electronic_resistance_ohm)


@dataclass(frozen=True)
class PelletProperties:
    """What a pellet is; the fields are the keys of a [cells.NAME] table, beside `stage`.

    The conductivity is the total one, bulk and grain boundaries, at 25 degC. Capacitances are those
    after Brug, C = (R^(1-n) Q)^(1/n), with R at 25 degC; Q does not change with temperature.
    """

    thickness_mm: float = field(metadata=above(0.0))
    diameter_mm: float = field(metadata=above(0.0))
    conductivity_s_per_cm: float = field(metadata=above(0.0))
    activation_energy_ev: float = field(metadata=at_least(0.0))
    grain_boundary_share: float = field(metadata=between(0.0, 1.0))
    bulk_capacitance_f: float = field(metadata=above(0.0))
    bulk_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    grain_boundary_capacitance_f: float = field(metadata=above(0.0))
    grain_boundary_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    electrode_cpe_q_siemens_s_n: float = field(metadata=above(0.0))
    electrode_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    electronic_conductivity_s_per_cm: float = field(metadata=above(0.0))
    electronic_activation_energy_ev: float = field(metadata=at_least(0.0))
    lead_inductance_h: float = field(metadata=at_least(0.0))
    open_circuit_potential_v: float = field(metadata={})
    # Without it the grain boundaries have the activation energy of the bulk.
    grain_boundary_activation_energy_ev: float | None = field(default=None, metadata=at_least(0.0))


class Pellet:
    """A pellet whose impedance follows its temperature."""

    def __init__(self, properties: PelletProperties) -> None:
        self.properties = properties
        thickness_cm = properties.thickness_mm / 10.0
        area_cm2 = math.pi * (properties.diameter_mm / 20.0) ** 2
        total_ohm = thickness_cm / (properties.conductivity_s_per_cm * area_cm2)
        self._grain_boundary_ohm = properties.grain_boundary_share * total_ohm
        self._bulk_ohm = total_ohm - self._grain_boundary_ohm
        self._electronic_ohm = thickness_cm / (
            properties.electronic_conductivity_s_per_cm * area_cm2
        )
        self._bulk_element = element_of_arc(
            self._bulk_ohm, properties.bulk_capacitance_f, properties.bulk_cpe_exponent
        )
        self._grain_boundary_element = element_of_arc(
            self._grain_boundary_ohm,
            properties.grain_boundary_capacitance_f,
            properties.grain_boundary_cpe_exponent,
        )

    def circuit(self, temperature_k: float) -> PelletCircuit:
        """Return the pellet's elements at a temperature in K."""
        made_of = self.properties
        bulk_ev = made_of.activation_energy_ev
        boundary_ev = made_of.grain_boundary_activation_energy_ev
        boundary_ev = bulk_ev if boundary_ev is None else boundary_ev
        electronic_ev = made_of.electronic_activation_energy_ev
        return PelletCircuit(
            lead_inductance_h=made_of.lead_inductance_h,
            bulk=Zarc(self._bulk_ohm * growth(temperature_k, bulk_ev), self._bulk_element),
            grain_boundary=Zarc(
                self._grain_boundary_ohm * growth(temperature_k, boundary_ev),
                self._grain_boundary_element,
            ),
            electrode=ConstantPhaseElement(
                made_of.electrode_cpe_q_siemens_s_n, made_of.electrode_cpe_exponent
            ),
            electronic_resistance_ohm=self._electronic_ohm * growth(temperature_k, electronic_ev),
        )


class PelletOnStage:
    """A pellet as an instrument sees it: at whatever temperature its stage has given it.

    Against time it is a resistance, that of its impedance at 1 mHz, behind its rest potential.
    """

    def __init__(self, pellet: Pellet, stage: Stage) -> None:
        self.pellet = pellet
        self.stage = stage
        self._held_v: float | None = None
        self._held_a = 0.0
        self._limit = 0.0

    def impedance(self, frequency_hz: float, now_s: float) -> complex:
        """Return the impedance in ohm at the temperature the sample has at `now_s`."""
        return self.pellet.circuit(self.stage.sample_temperature_k(now_s)).impedance(frequency_hz)

    def open_circuit_potential_v(self, now_s: float) -> float:
        """Return the potential of the cell without current, in V; it does not change."""
        return self.pellet.properties.open_circuit_potential_v

    def apply_potential(self, potential_v: float, now_s: float, *, limit_a: float) -> None:
        """Hold a potential, as far as the current stays within its limit."""
        self._held_v, self._limit = potential_v, limit_a

    def apply_current(self, current_a: float, now_s: float, *, limit_v: float) -> None:
        """Hold a current, as far as the potential stays within its limit."""
        self._held_v, self._held_a, self._limit = None, current_a, limit_v

    def open_circuit(self, now_s: float) -> None:
        """Disconnect the leads."""
        self._held_v, self._held_a = None, 0.0

    def potential_v(self, now_s: float) -> float:
        """Return the potential at the terminals, in V."""
        return self._at_terminals(now_s)[0]

    def current_a(self, now_s: float) -> float:
        """Return the current through the terminals, in A."""
        return self._at_terminals(now_s)[1]

    def _at_terminals(self, now_s: float) -> tuple[float, float]:
        rest_v = self.open_circuit_potential_v(now_s)
        if self._held_v is None and not self._held_a:
            return rest_v, 0.0
        resistance_ohm = abs(self.impedance(REST_FREQUENCY_HZ, now_s))
        if self._held_v is None:
            wanted_v = rest_v + self._held_a * resistance_ohm
            potential_v = max(-self._limit, min(self._limit, wanted_v))
            return potential_v, (potential_v - rest_v) / resistance_ohm
        wanted_a = (self._held_v - rest_v) / resistance_ohm
        current_a = max(-self._limit, min(self._limit, wanted_a))
        return rest_v + current_a * resistance_ohm, current_a


def growth(temperature_k: float, activation_energy_ev: float) -> float:
    """Return R(T) / R(25 degC) of a conductor whose sigma T follows exp(-Ea / kT)."""
    inverse_k = 1.0 / temperature_k - 1.0 / ROOM_TEMPERATURE_K
    boltzmann = math.exp(activation_energy_ev / BOLTZMANN_EV_PER_K * inverse_k)
    return temperature_k / ROOM_TEMPERATURE_K * boltzmann


def element_of_arc(
    resistance_ohm: float, capacitance_f: float, exponent: float
) -> ConstantPhaseElement:
    """Return the element that gives an arc its capacitance after Brug, at this resistance."""
    q = capacitance_f**exponent * resistance_ohm ** (exponent - 1.0)
    return ConstantPhaseElement(q, exponent)
