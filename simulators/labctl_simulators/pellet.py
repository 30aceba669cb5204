"""A pellet of a solid electrolyte, between blocking electrodes or between lithium.

    lead inductance -- + -- bulk -- grain boundaries -- electrodes -- +
                       |                                              |
                       + ----------- electronic leakage ------------- +

Bulk and grain boundaries are a resistance beside a constant phase element. Blocking electrodes are
a constant phase element alone; lithium lets ions through, so that each interface is an arc. A
`PelletCircuit` holds the values of these elements at one temperature for both domains: it has an
impedance, and its elements expand into relaxations. The inductance has no part in the time domain,
where its nanoseconds do not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from labctl_simulators.elements import ConstantPhaseElement, Zarc, element_of_arc, growth
from labctl_simulators.relaxations import Relaxations, in_series, of_arc, of_element
from labctl_simulators.table import above, at_least, between

if TYPE_CHECKING:
    from labctl_simulators.symmetric_cell import SymmetricCellProperties


@dataclass(frozen=True)
class PelletCircuit:
    """The elements of a pellet at one temperature; `electrode` is None if nothing blocks."""

    lead_inductance_h: float
    bulk: Zarc
    grain_boundary: Zarc
    electrode: ConstantPhaseElement | None
    electronic_resistance_ohm: float
    interfaces: tuple[Zarc, ...] = ()

    def impedance(self, frequency_hz: float) -> complex:
        """Return the impedance in ohm; at 0 Hz blocking electrodes leave only the leakage."""
        s = 2j * math.pi * frequency_hz
        arcs = (self.bulk, self.grain_boundary, *self.interfaces)
        through = sum(arc.impedance(s) for arc in arcs)
        if self.electrode is None:
            ionic = 1.0 / through
        else:
            electrode = self.electrode.admittance(s)
            ionic = electrode / (1.0 + electrode * through)
        return s * self.lead_inductance_h + 1.0 / (ionic + 1.0 / self.electronic_resistance_ohm)

    def relaxations(self) -> Relaxations:
        """Return the path of the ions, without the leakage beside it."""
        arcs = (self.bulk, self.grain_boundary, *self.interfaces)
        parts = [of_arc(arc) for arc in arcs]
        if self.electrode is not None:
            parts.append(of_element(self.electrode))
        return in_series(*parts)


class PelletLike(Protocol):
    """Whatever has such a circuit at every temperature."""

    def circuit(self, temperature_k: float) -> PelletCircuit:
        """Return the elements at a temperature in K."""
        ...

    @property
    def open_circuit_potential_v(self) -> float:
        """The potential without current, in V; it stands in series with everything."""
        ...


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


class Electrolyte:
    """The pellet between the electrodes: geometry and conductivities made into elements."""

    def __init__(self, disc: PelletProperties | SymmetricCellProperties) -> None:
        self._disc = disc
        thickness_cm = disc.thickness_mm / 10.0
        area_cm2 = math.pi * (disc.diameter_mm / 20.0) ** 2
        total_ohm = thickness_cm / (disc.conductivity_s_per_cm * area_cm2)
        self._grain_boundary_ohm = disc.grain_boundary_share * total_ohm
        self._bulk_ohm = total_ohm - self._grain_boundary_ohm
        self._electronic_ohm = thickness_cm / (disc.electronic_conductivity_s_per_cm * area_cm2)
        self._bulk_element = element_of_arc(
            self._bulk_ohm, disc.bulk_capacitance_f, disc.bulk_cpe_exponent
        )
        self._grain_boundary_element = element_of_arc(
            self._grain_boundary_ohm,
            disc.grain_boundary_capacitance_f,
            disc.grain_boundary_cpe_exponent,
        )

    def circuit(
        self,
        temperature_k: float,
        *,
        electrode: ConstantPhaseElement | None = None,
        interfaces: tuple[Zarc, ...] = (),
    ) -> PelletCircuit:
        """Return the elements at a temperature in K, together with those of the electrodes."""
        made_of = self._disc
        bulk_ev = made_of.activation_energy_ev
        boundary_ev = made_of.grain_boundary_activation_energy_ev
        boundary_ev = bulk_ev if boundary_ev is None else boundary_ev
        boundary_ohm = self._grain_boundary_ohm * growth(temperature_k, boundary_ev)
        leak_growth = growth(temperature_k, made_of.electronic_activation_energy_ev)
        return PelletCircuit(
            lead_inductance_h=made_of.lead_inductance_h,
            bulk=Zarc(self._bulk_ohm * growth(temperature_k, bulk_ev), self._bulk_element),
            grain_boundary=Zarc(boundary_ohm, self._grain_boundary_element),
            electrode=electrode,
            electronic_resistance_ohm=self._electronic_ohm * leak_growth,
            interfaces=interfaces,
        )


class Pellet:
    """A pellet between blocking electrodes at any temperature."""

    def __init__(self, properties: PelletProperties) -> None:
        self.properties = properties
        self._electrolyte = Electrolyte(properties)
        self._electrode = ConstantPhaseElement(
            properties.electrode_cpe_q_siemens_s_n, properties.electrode_cpe_exponent
        )

    @property
    def open_circuit_potential_v(self) -> float:
        """The potential without current, in V."""
        return self.properties.open_circuit_potential_v

    def circuit(self, temperature_k: float) -> PelletCircuit:
        """Return the pellet's elements at a temperature in K."""
        return self._electrolyte.circuit(temperature_k, electrode=self._electrode)
