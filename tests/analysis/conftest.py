"""Cells whose truth is known, written from the textbook and independent of the code under test."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest


class Cells:
    """Impedances in ohm of cells between blocking electrodes, and the sum of their resistances."""

    TRUE_OHM: ClassVar = {
        "spike": 100.0,
        "arc_and_spike": 2e4,
        "licl": 12.7e6,
        "two_arcs": 3e4,
        "series_and_arc": 2300.0,
        "cut_arc": 3e10,
        "leaking_licl": 12.7e6,
        "leaking_spike": 100.0,
    }
    WINDOW_HZ: ClassVar = {
        "spike": (1e6, 1.0),
        "two_arcs": (1e6, 0.1),
        "leaking_spike": (1e6, 0.01),
        "leaking_licl": (2e5, 0.01),
    }

    @staticmethod
    def arc(f, r_ohm, capacitance_f, n):
        """R||CPE whose peak is that of R and an ideal capacitance."""
        return r_ohm / (1 + (2j * np.pi * f * r_ohm * capacitance_f) ** n)

    @staticmethod
    def cpe(f, q, n):
        return 1 / (q * (2j * np.pi * f) ** n)

    @staticmethod
    def beside(z_ohm, r_ohm):
        return 1 / (1 / z_ohm + 1 / r_ohm)

    def spike(self, f, r_ohm=100.0, inductance_h=5e-7):
        """A good conductor: its arc is far above the window."""
        return r_ohm + self.cpe(f, 2e-6, 0.9) + 2j * np.pi * f * inductance_h

    def arc_and_spike(self, f):
        return self.arc(f, 2e4, 8e-11, 0.95) + self.cpe(f, 1e-6, 0.88)

    def licl(self, f):
        """An arc whose peak is at 1.8 kHz."""
        return self.arc(f, 12.7e6, 7e-12, 0.97) + self.cpe(f, 5e-7, 0.88)

    def two_arcs(self, f):
        bulk = self.arc(f, 1e4, 2e-11, 0.97)
        return bulk + self.arc(f, 2e4, 2e-9, 0.88) + self.cpe(f, 1e-6, 0.9)

    def series_and_arc(self, f):
        return 300 + self.arc(f, 2e3, 2e-9, 0.88) + self.cpe(f, 1e-6, 0.88)

    def cut_arc(self, f):
        """An arc whose peak is at 0.5 Hz: a window down to 1 Hz sees less than half of it."""
        return self.arc(f, 3e10, 1e-11, 0.97)

    def leaking_licl(self, f):
        return self.beside(self.licl(f), 2e8)

    def leaking_spike(self, f):
        return self.beside(100 + self.cpe(f, 1e-6, 0.9), 1e6)

    def frequencies(self, name):
        top_hz, bottom_hz = self.WINDOW_HZ.get(name, (2e5, 1.0))
        return np.geomspace(top_hz, bottom_hz, 55)

    def measured(self, name, *, noise=0.003, seed=0):
        """Return frequencies and the impedance of a cell as an instrument with noise gives it."""
        f = self.frequencies(name)
        return f, self.with_noise(getattr(self, name)(f), noise=noise, seed=seed)

    @staticmethod
    def with_noise(z, *, noise=0.003, seed=0):
        rng = np.random.default_rng(seed)
        return z * (1 + noise * (rng.normal(size=z.size) + 1j * rng.normal(size=z.size)))


@pytest.fixture
def cells():
    return Cells()


@dataclass(frozen=True)
class PelletAtTemperatures:
    """A pellet whose arcs keep their Q while their resistances follow the temperature.

    Attributes:
        bulk: resistance in ohm and Brug's capacitance in F at 25 degC, and the exponent; likewise
            grain_boundary.
        electrode: Q in S s^n and n.
    """

    bulk: tuple[float, float, float]
    grain_boundary: tuple[float, float, float]
    electrode: tuple[float, float]
    ea_ev: float
    inductance_h: float
    bottom_hz: float

    def growth(self, celsius):
        kelvin = celsius + 273.15
        inverse_k = 1 / kelvin - 1 / 298.15
        return kelvin / 298.15 * np.exp(self.ea_ev / 8.617333e-5 * inverse_k)

    def total_ohm(self, celsius):
        return (self.bulk[0] + self.grain_boundary[0]) * self.growth(celsius)

    def bulk_ohm(self, celsius):
        return self.bulk[0] * self.growth(celsius)

    def measured(self, celsius, *, noise, seed, bottom_hz=None):
        """Return 60 frequencies and the impedance as an instrument with noise gives it."""
        f = np.geomspace(2e5, bottom_hz or self.bottom_hz, 60)
        s = 2j * np.pi * f
        z = s * self.inductance_h + 1 / (self.electrode[0] * s ** self.electrode[1])
        for r_25_ohm, capacitance_f, n in (self.bulk, self.grain_boundary):
            q = capacitance_f**n * r_25_ohm ** (n - 1)
            r_ohm = r_25_ohm * self.growth(celsius)
            z = z + r_ohm / (1 + r_ohm * q * s**n)
        return f, Cells.with_noise(z, noise=noise, seed=seed)


@pytest.fixture
def licl():
    """1e-8 S/cm, 0.78 eV: two arcs that overlap."""
    arcs = (10.19e6, 7e-12, 0.95), (2.55e6, 2e-10, 0.9)
    return PelletAtTemperatures(*arcs, (1e-6, 0.9), 0.78, 3e-7, 0.5)


@pytest.fixture
def lialcl4():
    """1e-6 S/cm, 0.5 eV: the bulk's arc leaves the window as it warms."""
    arcs = (8.91e4, 7e-12, 0.95), (3.82e4, 3e-10, 0.9)
    return PelletAtTemperatures(*arcs, (2e-6, 0.9), 0.5, 3e-7, 1.0)


@pytest.fixture
def alocl():
    """1 mS/cm, 0.38 eV: a spike."""
    arcs = (87.4, 7e-12, 0.95), (37.4, 3e-10, 0.9)
    return PelletAtTemperatures(*arcs, (4e-6, 0.9), 0.38, 3e-7, 10.0)
