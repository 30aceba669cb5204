"""Impedances as sums of relaxations, so that one model lives in the frequency and the time domain.

Every impedance here is Z(s) = series_ohm + sum of elastance / (s + rate): capacitors, each beside
its resistor; the elastance is 1/C, and a rate of 0 is a capacitor alone. In this form a state moves
by exponentials alone, for any length of time.

Expansions: a constant phase element by the trapezoidal rule in ln(tau), two relaxations a decade,
whose tails are geometric series and so exact; a depressed arc by its distribution of relaxation
times, tau(u) = tau0 [sin(n pi u) / sin(n pi (1-u))]^(1/n) with equal weight for every u in 0 to 1,
by the trapezoidal rule in ln(u / (1-u)), which lies dense at both ends where tau goes to 0 and to
infinity; diffusion in a plane sheet by its own modes. Errors, of |Z| or of the arc's resistance:
4e-4 or less for exponents from 0.5 to 1, 1e-3 for the sheet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labctl_simulators.elements import ConstantPhaseElement, Zarc

    Numbers = NDArray[np.float64]

CPE_PER_DECADE = 2
CPE_FASTEST_S, CPE_SLOWEST_S = 1e-8, 1e9
ZARC_NODES = 24
# The first modes of a sheet are taken one by one, the rest in panels of a factor in their number.
SHEET_SINGLE_MODES = 8
SHEET_PANEL_FACTOR = 2.5
SHEET_PANEL_NODES = 3
SHEET_PANELS = 6


@dataclass(frozen=True, eq=False)
class Relaxations:
    """Z(s) = series_ohm + sum of elastance_per_f / (s + rate_per_s); arrays of shape (n,)."""

    elastance_per_f: Numbers
    rate_per_s: Numbers
    series_ohm: float = 0.0

    def impedance(self, frequency_hz: float) -> complex:
        """Return the impedance of the sum in ohm; the frequency is above 0."""
        s = 2j * math.pi * frequency_hz
        return self.series_ohm + complex(np.sum(self.elastance_per_f / (s + self.rate_per_s)))


def in_series(*parts: Relaxations) -> Relaxations:
    """Return what several are one after the other, their states in the same order."""
    return Relaxations(
        np.concatenate([part.elastance_per_f for part in parts]),
        np.concatenate([part.rate_per_s for part in parts]),
        sum(part.series_ohm for part in parts),
    )


def of_element(element: ConstantPhaseElement) -> Relaxations:
    """Return a constant phase element's: 35 in 17 decades, the slowest a capacitor alone."""
    n = element.exponent
    step = math.log(10.0) / CPE_PER_DECADE
    count = round(math.log(CPE_SLOWEST_S / CPE_FASTEST_S) / step)
    tau_s = CPE_FASTEST_S * np.exp(step * np.arange(count))
    resistance_ohm = math.sin(n * math.pi) / (math.pi * element.q_siemens_s_n) * step * tau_s**n
    elastance = resistance_ohm / tau_s
    faster_ohm = float(resistance_ohm[0]) / math.expm1(n * step)
    slower_per_f = float(elastance[-1]) / math.expm1((1.0 - n) * step)
    return Relaxations(np.append(elastance, slower_per_f), np.append(1.0 / tau_s, 0.0), faster_ohm)


def of_arc(arc: Zarc) -> Relaxations:
    """Return a depressed arc's: `ZARC_NODES` that share its resistance."""
    n = arc.element.exponent
    tau_s = (arc.resistance_ohm * arc.element.q_siemens_s_n) ** (1.0 / n)
    ratio, weight = _arc_nodes(n)
    rate_per_s = 1.0 / (tau_s * ratio)
    return Relaxations(arc.resistance_ohm * weight * rate_per_s, rate_per_s)


@dataclass(frozen=True, eq=False)
class SheetModes:
    """How the surface of a plane sheet departs from its mean while a flux enters its one side.

    In units of the diffusion time L^2/D: mode k has the rate `rate` and gains `gain` per unit of
    mean change; `instant` is what all faster modes add at once. With the mean itself they are
    coth(z)/z of z^2 = s L^2/D.
    """

    rate: Numbers
    gain: Numbers
    instant: float


@cache
def sheet_modes() -> SheetModes:
    """Return the modes of a sheet: coth(z)/z - 1/z^2 = sum of 2 / (z^2 + k^2 pi^2)."""
    single = np.arange(1, SHEET_SINGLE_MODES + 1, dtype=float)
    number, weight = [single], [np.ones_like(single)]
    nodes, shares = _legendre(SHEET_PANEL_NODES)
    low = SHEET_SINGLE_MODES + 0.5  # the midpoint rule, read backwards
    for _ in range(SHEET_PANELS):
        number.append(low * SHEET_PANEL_FACTOR**nodes)
        weight.append(shares * math.log(SHEET_PANEL_FACTOR) * number[-1])
        low *= SHEET_PANEL_FACTOR
    modes = np.concatenate(number)
    instant = 2.0 / (math.pi**2 * low)
    return SheetModes((math.pi * modes) ** 2, 2.0 * np.concatenate(weight), instant)


@cache
def _arc_nodes(n: float) -> tuple[Numbers, Numbers]:
    """Return tau / tau0 and weight of an arc's relaxations, slowest last."""
    # The wider the arc, the nearer the poles of 1 / (1 + s tau) come and the finer the step.
    step = 0.4 + 0.6 * n
    u = 1.0 / (1.0 + np.exp(-step * (np.arange(ZARC_NODES) - 0.5 * (ZARC_NODES - 1))))
    weight = step * u * (1.0 - u)
    weight[[0, -1]] += 0.5 * (1.0 - float(np.sum(weight)))
    ratio = (np.sin(n * math.pi * u) / np.sin(n * math.pi * (1.0 - u))) ** (1.0 / n)
    return ratio, weight


@cache
def _legendre(count: int) -> tuple[Numbers, Numbers]:
    """Return nodes and weights on 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1.0) / 2.0, weights / 2.0
