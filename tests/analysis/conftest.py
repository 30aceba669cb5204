"""Cells whose truth is known, written from the textbook and independent of the code under test."""

import os
from pathlib import Path
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


@pytest.fixture
def reference_data():
    """The folder of real measured files; see its README for sources and licences."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("LABCTL_REFERENCE_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no reference data: set LABCTL_REFERENCE_DATA to their folder")
    return folder
