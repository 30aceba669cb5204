"""A cell for the stability window of an electrolyte: lithium on one side, carbon on the other.

    + -- pellet and leads -- + ---- double layer ---- +
                             |                        |
                             + -- reactions, leak --- +

The electrolyte is oxidised at the carbon by Tafel's law on the surface that is not yet passivated,
each charge passivating some more: a second sweep finds little left. It is reduced weakly below one
potential, where the current soon stands still, and strongly below another. A leak draws the cell
back to its open-circuit potential. The double layer is a constant phase element.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from labctl_simulators.elements import ConstantPhaseElement, growth
from labctl_simulators.table import above, at_least, between

_LARGEST_EXPONENT = 80.0  # beyond any potential that an instrument applies
_LN10 = math.log(10.0)


@dataclass(frozen=True)
class LsvCellProperties:
    """What the cell is; the fields are the keys of a [cells.NAME] table, beside `stage`.

    Potentials are those against lithium; at its terminals the cell shows them against its
    reference, which stands `reference_potential_v` above lithium. `oxidation_current_a` flows at
    `oxidation_potential_v` on a fresh surface, `strong_reduction_current_a` likewise, and
    `weak_reduction_current_a` is what the weak reduction comes to, half of it at its potential.
    """

    open_circuit_potential_v: float = field(metadata={})
    series_resistance_ohm: float = field(metadata=above(0.0))
    series_activation_energy_ev: float = field(metadata=at_least(0.0))
    double_layer_cpe_q_siemens_s_n: float = field(metadata=above(0.0))
    double_layer_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    leak_resistance_ohm: float = field(metadata=above(0.0))
    oxidation_potential_v: float = field(metadata={})
    oxidation_current_a: float = field(metadata=at_least(0.0))
    oxidation_v_per_decade: float = field(metadata=above(0.0))
    passivation_charge_c: float = field(metadata=above(0.0))
    weak_reduction_potential_v: float = field(metadata={})
    weak_reduction_current_a: float = field(metadata=at_least(0.0))
    weak_reduction_v_per_decade: float = field(metadata=above(0.0))
    strong_reduction_potential_v: float = field(metadata={})
    strong_reduction_current_a: float = field(metadata=at_least(0.0))
    strong_reduction_v_per_decade: float = field(metadata=above(0.0))
    lead_inductance_h: float = field(default=0.0, metadata=at_least(0.0))
    reference_potential_v: float = field(default=0.0, metadata={})


@dataclass(frozen=True)
class Faradaic:
    """The reactions at one potential and passivation.

    Attributes:
        current_a: of everything that is not the double layer.
        slope_s: its slope with the potential, the passivation staying.
        oxidation_a: the share that passivates.
        passivating_per_s: the rate at which the surface would passivate, and nothing else change.
    """

    current_a: float
    slope_s: float
    oxidation_a: float
    passivating_per_s: float


class LsvCell:
    """The laws of the cell; it has no state of its own."""

    def __init__(self, properties: LsvCellProperties) -> None:
        self.properties = properties
        self.double_layer = ConstantPhaseElement(
            properties.double_layer_cpe_q_siemens_s_n, properties.double_layer_cpe_exponent
        )

    @property
    def rest_v(self) -> float:
        """The potential at the terminals without current, in V."""
        return self.properties.open_circuit_potential_v - self.properties.reference_potential_v

    def series_ohm(self, temperature_k: float) -> float:
        """Return the resistance of pellet and leads, in ohm."""
        made_of = self.properties
        return made_of.series_resistance_ohm * growth(
            temperature_k, made_of.series_activation_energy_ev
        )

    def faradaic_current_a(self, potential_v: float, passivation: float = 0.0) -> float:
        """Return the steady current at a potential of the carbon against the reference, in A.

        What a sweep without end would find; `passivation` is the share of the surface, 0 to 1.
        """
        return self.faradaic(potential_v, passivation).current_a

    def faradaic(self, potential_v: float, passivation: float) -> Faradaic:
        """Return the reactions at a potential of the carbon against the reference, in V."""
        made_of = self.properties
        against_lithium_v = potential_v + made_of.reference_potential_v
        oxidation_per_v = _LN10 / made_of.oxidation_v_per_decade
        fresh_a = made_of.oxidation_current_a * _exp(
            oxidation_per_v * (against_lithium_v - made_of.oxidation_potential_v)
        )
        oxidation_a = fresh_a * (1.0 - passivation)
        strong_per_v = _LN10 / made_of.strong_reduction_v_per_decade
        strong_a = made_of.strong_reduction_current_a * _exp(
            strong_per_v * (made_of.strong_reduction_potential_v - against_lithium_v)
        )
        weak_per_v = _LN10 / made_of.weak_reduction_v_per_decade
        share = 1.0 / (
            1.0 + _exp(weak_per_v * (against_lithium_v - made_of.weak_reduction_potential_v))
        )
        weak_a = made_of.weak_reduction_current_a * share
        leak_s = 1.0 / made_of.leak_resistance_ohm
        leak_a = leak_s * (against_lithium_v - made_of.open_circuit_potential_v)
        slope_s = leak_s + oxidation_per_v * oxidation_a + strong_per_v * strong_a
        slope_s += weak_per_v * weak_a * (1.0 - share)
        return Faradaic(
            current_a=oxidation_a - strong_a - weak_a + leak_a,
            slope_s=slope_s,
            oxidation_a=oxidation_a,
            passivating_per_s=fresh_a / made_of.passivation_charge_c,
        )

    def oxidation_slope_s(self, faradaic: Faradaic) -> float:
        """Return the slope of the oxidation alone, in S."""
        return faradaic.oxidation_a * _LN10 / self.properties.oxidation_v_per_decade

    def impedance(
        self, frequency_hz: float, *, temperature_k: float, potential_v: float, passivation: float
    ) -> complex:
        """Return the impedance in ohm, the carbon standing at a potential.

        Where oxidation passivates, a rising potential soon raises the current no more: with theta
        following the charge, its admittance becomes (i/b) s / (s + passivating rate).
        """
        s = 2j * math.pi * frequency_hz
        faradaic = self.faradaic(potential_v, passivation)
        lasting = s / (s + faradaic.passivating_per_s)
        reactions = faradaic.slope_s - self.oxidation_slope_s(faradaic) * (1.0 - lasting)
        through = 1.0 / (self.double_layer.admittance(s) + reactions)
        leads = s * self.properties.lead_inductance_h + self.series_ohm(temperature_k)
        return leads + through


def _exp(exponent: float) -> float:
    return math.exp(min(exponent, _LARGEST_EXPONENT))
