"""A symmetric cell: a pellet between two pieces of lithium, which let ions through."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl_simulators.elements import Zarc, element_of_arc, growth
from labctl_simulators.pellet import Electrolyte, PelletCircuit
from labctl_simulators.table import above, at_least, between


@dataclass(frozen=True)
class SymmetricCellProperties:
    """What a symmetric cell is; the fields are the keys of a [cells.NAME] table, beside `stage`.

    Those of the pellet as in `PelletProperties`; the interfaces' hold for each, at 25 degC.
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
    interface_resistance_ohm: float = field(metadata=above(0.0))
    interface_capacitance_f: float = field(metadata=above(0.0))
    interface_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    interface_activation_energy_ev: float = field(metadata=at_least(0.0))
    electronic_conductivity_s_per_cm: float = field(metadata=above(0.0))
    electronic_activation_energy_ev: float = field(metadata=at_least(0.0))
    lead_inductance_h: float = field(metadata=at_least(0.0))
    open_circuit_potential_v: float = field(metadata={})
    grain_boundary_activation_energy_ev: float | None = field(default=None, metadata=at_least(0.0))
    # Without it the second interface is like the first.
    second_interface_resistance_ohm: float | None = field(default=None, metadata=above(0.0))


class SymmetricCell:
    """A symmetric cell at any temperature."""

    def __init__(self, properties: SymmetricCellProperties) -> None:
        self.properties = properties
        self._electrolyte = Electrolyte(properties)
        first_ohm = properties.interface_resistance_ohm
        second_ohm = properties.second_interface_resistance_ohm or first_ohm
        self._interfaces = tuple(
            Zarc(
                ohm,
                element_of_arc(
                    ohm, properties.interface_capacitance_f, properties.interface_cpe_exponent
                ),
            )
            for ohm in (first_ohm, second_ohm)
        )

    @property
    def open_circuit_potential_v(self) -> float:
        """The potential without current, in V."""
        return self.properties.open_circuit_potential_v

    def circuit(self, temperature_k: float) -> PelletCircuit:
        """Return the cell's elements at a temperature in K."""
        slower = growth(temperature_k, self.properties.interface_activation_energy_ev)
        interfaces = tuple(
            Zarc(arc.resistance_ohm * slower, arc.element) for arc in self._interfaces
        )
        return self._electrolyte.circuit(temperature_k, interfaces=interfaces)
