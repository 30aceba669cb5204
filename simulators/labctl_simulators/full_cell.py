"""A full cell: what it is made of, and its impedance in any state.

    + -- leads -- electrolyte -- interphase -- charge transfer (two steps) -- diffusion -- +
    |                                                                                      |
    + -------------------------------- side reaction ------------------------------------- +

Leads are a resistance; electrolyte, interphase and both steps of the charge transfer are arcs, the
latter's resistances depending on the state of charge. Diffusion is that into a plane sheet whose
potential follows its surface: dU/dQ coth(z)/z, z^2 = s L^2/D, so that the coefficient D which an
intermittent titration finds is one of the keys. The side reaction takes current by Tafel's law and
stores nothing. State of charge is the share of the capacity that has been charged, 0 to 1.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, field

from labctl_simulators.elements import ConstantPhaseElement, Zarc, boltzmann, growth
from labctl_simulators.table import above, at_least, between

COULOMB_PER_MAH = 3.6
SIDE_REACTION_LIMIT_PER_S = 10.0 / 3600.0  # of the capacity
_SMALL = 1e-9
_NEWTON_STEPS = 6
_LARGEST_EXPONENT = 60.0  # far beyond any potential that an instrument applies


@dataclass(frozen=True)
class FullCellProperties:
    """What a full cell is; the fields are the keys of a [cells.NAME] table, beside `stage`.

    Potentials are those against lithium; at its terminals the cell shows them against its
    reference, which stands `reference_potential_v` above lithium (indium-lithium: 0.62).
    Resistances and time constants are those at 25 degC and half charge.
    """

    capacity_mah: float = field(metadata=above(0.0))
    initial_state_of_charge: float = field(metadata=between(0.0, 1.0))
    open_circuit_middle_v: float = field(metadata={})
    open_circuit_rise_v: float = field(metadata=above(0.0))
    open_circuit_step_v: float = field(metadata=at_least(0.0))
    open_circuit_step_state: float = field(metadata=between(0.0, 1.0))
    open_circuit_step_width: float = field(metadata=above(0.0))
    open_circuit_end_v: float = field(metadata=above(0.0))
    open_circuit_end_width: float = field(metadata=above(0.0))
    series_resistance_ohm: float = field(metadata=above(0.0))
    series_activation_energy_ev: float = field(metadata=at_least(0.0))
    electrolyte_resistance_ohm: float = field(metadata=above(0.0))
    electrolyte_time_constant_s: float = field(metadata=above(0.0))
    electrolyte_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    electrolyte_activation_energy_ev: float = field(metadata=at_least(0.0))
    interphase_resistance_ohm: float = field(metadata=above(0.0))
    interphase_time_constant_s: float = field(metadata=above(0.0))
    interphase_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    interphase_activation_energy_ev: float = field(metadata=at_least(0.0))
    fast_transfer_resistance_ohm: float = field(metadata=above(0.0))
    fast_transfer_time_constant_s: float = field(metadata=above(0.0))
    fast_transfer_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    fast_transfer_slope: float = field(metadata={})
    fast_transfer_curvature: float = field(metadata={})
    slow_transfer_resistance_ohm: float = field(metadata=above(0.0))
    slow_transfer_time_constant_s: float = field(metadata=above(0.0))
    slow_transfer_cpe_exponent: float = field(metadata=between(0.0, 1.0))
    slow_transfer_slope: float = field(metadata={})
    slow_transfer_curvature: float = field(metadata={})
    transfer_activation_energy_ev: float = field(metadata=at_least(0.0))
    diffusion_coefficient_cm2_per_s: float = field(metadata=above(0.0))
    diffusion_length_um: float = field(metadata=above(0.0))
    side_reaction_potential_v: float = field(metadata={})
    side_reaction_current_a: float = field(metadata=at_least(0.0))
    side_reaction_v_per_decade: float = field(metadata=above(0.0))
    capacity_loss_c_per_c: float = field(metadata=at_least(0.0))
    lead_inductance_h: float = field(metadata=at_least(0.0))
    reference_potential_v: float = field(default=0.0, metadata={})
    diffusion_activation_energy_ev: float = field(default=0.0, metadata=at_least(0.0))


@dataclass(frozen=True)
class Growths:
    """By how much resistances, and the time of diffusion, have grown, without a unit.

    Since 25 degC, and the resistances also since half charge.
    """

    series: float
    electrolyte: float
    interphase: float
    fast_transfer: float
    slow_transfer: float
    diffusion: float

    @property
    def of_arcs(self) -> tuple[float, float, float, float]:
        """Those of the four arcs, in the order of their time constants."""
        return self.electrolyte, self.interphase, self.fast_transfer, self.slow_transfer


class FullCell:
    """The laws of a full cell; it has no state of its own."""

    def __init__(self, properties: FullCellProperties) -> None:
        self.properties = properties
        made_of = properties
        self.diffusion_time_s = (
            made_of.diffusion_length_um * 1e-4
        ) ** 2 / made_of.diffusion_coefficient_cm2_per_s
        self._side_v = made_of.side_reaction_v_per_decade / math.log(10.0)
        self._side_limit_a = SIDE_REACTION_LIMIT_PER_S * made_of.capacity_mah * COULOMB_PER_MAH
        self.arcs = (
            _arc(
                made_of.electrolyte_resistance_ohm,
                made_of.electrolyte_time_constant_s,
                made_of.electrolyte_cpe_exponent,
            ),
            _arc(
                made_of.interphase_resistance_ohm,
                made_of.interphase_time_constant_s,
                made_of.interphase_cpe_exponent,
            ),
            _arc(
                made_of.fast_transfer_resistance_ohm,
                made_of.fast_transfer_time_constant_s,
                made_of.fast_transfer_cpe_exponent,
            ),
            _arc(
                made_of.slow_transfer_resistance_ohm,
                made_of.slow_transfer_time_constant_s,
                made_of.slow_transfer_cpe_exponent,
            ),
        )

    @property
    def true_diffusion_coefficient_cm2_per_s(self) -> float:
        """What a titration should find at 25 degC, in cm2/s."""
        return self.properties.diffusion_coefficient_cm2_per_s

    def open_circuit_v(self, charge: float) -> tuple[float, float]:
        """Return the open-circuit potential at the terminals and its slope, both in V.

        A straight rise and a smooth step; beyond 0 and 1 it runs away ever faster, so that no
        current drives the cell far beyond its ends.
        """
        made_of = self.properties
        half, beyond_step = charge - 0.5, charge - made_of.open_circuit_step_state
        step = math.tanh(beyond_step / made_of.open_circuit_step_width)
        step_v = 0.5 * made_of.open_circuit_step_v
        end_v, width = made_of.open_circuit_end_v, made_of.open_circuit_end_width
        empty_v = end_v * math.exp(min(-charge / width, _LARGEST_EXPONENT))
        full_v = end_v * math.exp(min((charge - 1.0) / width, _LARGEST_EXPONENT))
        potential_v = made_of.open_circuit_middle_v - made_of.reference_potential_v
        potential_v += made_of.open_circuit_rise_v * half + step_v * step - empty_v + full_v
        slope_v = made_of.open_circuit_rise_v + (empty_v + full_v) / width
        slope_v += step_v * (1.0 - step * step) / made_of.open_circuit_step_width
        return potential_v, slope_v

    def side_reaction_a(self, potential_v: float) -> float:
        """Return the current of the side reaction at a potential of the terminals, in A.

        Where it would empty the cell within minutes there is not enough to react with.
        """
        made_of = self.properties
        beyond_v = potential_v + made_of.reference_potential_v - made_of.side_reaction_potential_v
        exponent = min(beyond_v / self._side_v, _LARGEST_EXPONENT)
        by_tafel_a = made_of.side_reaction_current_a * math.exp(exponent)
        return by_tafel_a / (1.0 + by_tafel_a / self._side_limit_a)

    def side_reaction_s(self, potential_v: float) -> float:
        """Return the slope of the side reaction's current, in S."""
        current_a = self.side_reaction_a(potential_v)
        return current_a * (1.0 - current_a / self._side_limit_a) / self._side_v

    def side_reaction_share(self, without_a: float, resistance_ohm: float) -> float:
        """Return what is left of a side reaction that takes its current through a resistance.

        i = i0 exp(-i R / b), which is Lambert's function.
        """
        argument = without_a * resistance_ohm / self._side_v
        if argument < _SMALL:
            return 1.0 - argument
        w = math.log1p(argument)
        for _ in range(_NEWTON_STEPS):
            w -= (w - argument * math.exp(-w)) / (1.0 + w)
        return w / argument

    def warmth(self, temperature_k: float) -> Growths:
        """Return by how much the resistances have grown since 25 degC, at half charge."""
        made_of = self.properties
        transfer = growth(temperature_k, made_of.transfer_activation_energy_ev)
        return Growths(
            series=growth(temperature_k, made_of.series_activation_energy_ev),
            electrolyte=growth(temperature_k, made_of.electrolyte_activation_energy_ev),
            interphase=growth(temperature_k, made_of.interphase_activation_energy_ev),
            fast_transfer=transfer,
            slow_transfer=transfer,
            diffusion=boltzmann(temperature_k, made_of.diffusion_activation_energy_ev),
        )

    def growths(self, warmth: Growths, charge: float) -> Growths:
        """Return by how much the resistances have grown at a state of charge."""
        made_of = self.properties
        half = min(max(charge, 0.0), 1.0) - 0.5
        fast = made_of.fast_transfer_slope * half + made_of.fast_transfer_curvature * half * half
        slow = made_of.slow_transfer_slope * half + made_of.slow_transfer_curvature * half * half
        return Growths(
            series=warmth.series,
            electrolyte=warmth.electrolyte,
            interphase=warmth.interphase,
            fast_transfer=warmth.fast_transfer * math.exp(fast),
            slow_transfer=warmth.slow_transfer * math.exp(slow),
            diffusion=warmth.diffusion,
        )

    def impedance(
        self,
        frequency_hz: float,
        *,
        growths: Growths,
        slope_v_per_c: float,
        potential_v: float,
    ) -> complex:
        """Return the impedance in ohm.

        Args:
            frequency_hz: above 0.
            growths: by how much the resistances have grown.
            slope_v_per_c: dU/dQ at the surface of the sheet.
            potential_v: at the terminals, for the side reaction.
        """
        s = 2j * math.pi * frequency_hz
        through = self.properties.series_resistance_ohm * growths.series
        for arc, grown in zip(self.arcs, growths.of_arcs, strict=True):
            through += Zarc(arc.resistance_ohm * grown, arc.element).impedance(s)
        diffusion_s = self.diffusion_time_s * growths.diffusion
        z = cmath.sqrt(s * diffusion_s)
        through += slope_v_per_c * diffusion_s / (z * cmath.tanh(z))
        whole = 1.0 / (1.0 / through + self.side_reaction_s(potential_v))
        return s * self.properties.lead_inductance_h + whole


def _arc(resistance_ohm: float, time_constant_s: float, exponent: float) -> Zarc:
    q_siemens_s_n = time_constant_s**exponent / resistance_ohm
    return Zarc(resistance_ohm, ConstantPhaseElement(q_siemens_s_n, exponent))
