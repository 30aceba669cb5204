"""Impedance as a PalmSens EmStat4 HR measures it: its frequency grid, attenuation, noise, clipping.

Source: the vendor's recorded five-point spectrum of a dummy cell, from which come the attenuation
of the excitation (10 mV asked: 9.60 mV up to 20 kHz, 7.63 mV at 200 kHz) and two points of the
frequency grid (198.113 Hz for 200 Hz, 20 Hz for 20 Hz). Inference: the laws fitted through these
few numbers; that a current sine is attenuated as a potential sine is.
"""

import math
from dataclasses import dataclass

import numpy as np

from labctl_simulators.methodscript_packet import round_to_float32

# below 210 Hz the recorded frequencies are whole fractions of 10.5 kHz; the upper clock is a guess
# that leaves 2, 20 and 200 kHz as they are, which is how they were recorded
SLOW_CLOCK_HZ, SLOW_CLOCK_TOP_HZ, FAST_CLOCK_HZ = 10_500.0, 210.0, 84e6

AMPLITUDE_GAIN = 0.96
AMPLITUDE_CORNER_HZ = 229e3  # second order: 0.763 of what was asked is left at 200 kHz


@dataclass(frozen=True, slots=True)
class ImpedancePoint:
    """One frequency: impedance in ohm (imaginary part negative when capacitive), rms amplitudes."""

    frequency_hz: float
    impedance_ohm: complex
    amplitude_v: float
    amplitude_a: float
    dc_v: float
    dc_a: float
    status: int
    current_range: int
    potential_range: int


def quantize_frequency(frequency_hz: float) -> float:
    """The frequency in Hz the instrument really applies: a whole fraction of its clock."""
    is_slow = frequency_hz <= SLOW_CLOCK_TOP_HZ
    clock_hz = SLOW_CLOCK_HZ if is_slow else FAST_CLOCK_HZ
    # single precision: 200 Hz stays on its knife's edge whatever spacing it was computed with
    divider = math.floor(clock_hz / round_to_float32(frequency_hz) + 0.5)
    return round_to_float32(clock_hz / divider)


def applied_amplitude(amplitude: float, frequency_hz: float) -> float:
    """The amplitude that reaches the cell, in the unit of `amplitude`."""
    return amplitude * AMPLITUDE_GAIN / math.sqrt(1 + (frequency_hz / AMPLITUDE_CORNER_HZ) ** 4)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a sine is read in one range: rms noise, steps and the largest peak, in the sine's unit.

    Attributes:
        noise_fraction: rms noise relative to the sine itself.
        noise: rms noise whatever the sine.
        step: the converter's.
        room_peak: the largest peak that can be read.
        is_overloaded: whether everything is clipped (a fault).
    """

    noise_fraction: float
    noise: float
    step: float
    room_peak: float
    is_overloaded: bool

    def read(self, true_rms: complex, rng: np.random.Generator) -> complex:
        """The rms phasor as it is read."""
        relative = self.noise_fraction * phasor_noise(rng)
        noisy = true_rms * (1 + relative) + self.noise * phasor_noise(rng)
        room_rms = max(self.room_peak, 0.0) / math.sqrt(2)
        if self.is_overloaded or abs(noisy) > room_rms:
            noisy *= room_rms / abs(noisy)
        read = complex(quantize(noisy.real, self.step), quantize(noisy.imag, self.step))
        return read or complex(self.step)  # a reading of nothing is one step, no division by zero


def phasor_noise(rng: np.random.Generator) -> complex:
    """Noise of rms 1 in the plane."""
    real, imaginary = rng.standard_normal(2) / math.sqrt(2)
    return complex(real, imaginary)


def quantize(value: float, step: float) -> float:
    """The nearest whole multiple of a step."""
    return round(value / step) * step
