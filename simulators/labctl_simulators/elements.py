"""Circuit elements with their impedance, and how a resistance follows temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

BOLTZMANN_EV_PER_K = 8.617333262e-5
ROOM_TEMPERATURE_K = 298.15  # the 25 degC that a file's conductivities are given at


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


def growth(temperature_k: float, activation_energy_ev: float) -> float:
    """Return R(T) / R(25 degC) of a conductor whose sigma T follows exp(-Ea / kT)."""
    return temperature_k / ROOM_TEMPERATURE_K * boltzmann(temperature_k, activation_energy_ev)


def boltzmann(temperature_k: float, activation_energy_ev: float) -> float:
    """Return x(T) / x(25 degC) of what follows exp(Ea / kT), such as a time constant."""
    inverse_k = 1.0 / temperature_k - 1.0 / ROOM_TEMPERATURE_K
    return math.exp(activation_energy_ev / BOLTZMANN_EV_PER_K * inverse_k)


def element_of_arc(
    resistance_ohm: float, capacitance_f: float, exponent: float
) -> ConstantPhaseElement:
    """Return the element that gives an arc its capacitance after Brug, at this resistance."""
    q = capacitance_f**exponent * resistance_ohm ** (exponent - 1.0)
    return ConstantPhaseElement(q, exponent)
