"""The electronics behind the scripts of a PalmSens EmStat4 HR: settings, cell switch, measurement.

Sources: PalmSens device limits and range tables; the vendor's recorded five-point spectrum of a
dummy cell, from which come the attenuation of the excitation (10 mV asked: 9.60 mV up to 20 kHz,
7.63 mV at 200 kHz) and two points of the frequency grid (198.113 Hz for 200 Hz, 20 Hz for 20 Hz).
Inference: the laws fitted through these few numbers, the noise figures, the converter's resolution.
"""

import math
from dataclasses import dataclass

import numpy as np

from labctl_simulators.cell import MeasuredCell
from labctl_simulators.device import Faults
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_packet import round_to_float32
from labctl_simulators.methodscript_ranges import (
    EMSTAT4_HR_CURRENT_RANGES,
    EMSTAT4_POTENTIAL_RANGES,
    STATUS_OVERLOAD,
    STATUS_UNDERLOAD,
    RangeSelector,
)

MAX_POTENTIAL_V = 6.0
MAX_CURRENT_A = 0.2
MAX_FREQUENCY_HZ = 200e3
MAX_AMPLITUDE_V = 0.9

MODE_OFF = 0
MODE_LOW_SPEED = 2
MODE_HIGH_SPEED = 3
MODE_GALVANOSTAT = 6
MODES = (MODE_OFF, MODE_LOW_SPEED, MODE_HIGH_SPEED, MODE_GALVANOSTAT)

# below 210 Hz the recorded frequencies are whole fractions of 10.5 kHz; the upper clock is a guess
# that leaves 2, 20 and 200 kHz as they are, which is how they were recorded
SLOW_CLOCK_HZ, SLOW_CLOCK_TOP_HZ, FAST_CLOCK_HZ = 10_500.0, 210.0, 84e6

AMPLITUDE_GAIN = 0.96
AMPLITUDE_CORNER_HZ = 229e3  # second order: 0.763 of what was asked is left at 200 kHz

CURRENT_NOISE_RATIO = 5e-6  # rms, of the nominal range
RESOLUTION_RATIO = 6.0 / 2**20  # of the nominal range
POTENTIAL_NOISE_V = 20e-6


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


class Potentiostat:
    """What a script acts on: it has settings and a cell, and no notion of scripts.

    Args:
        cell: what the leads are connected to.
        noise_fraction: rms error of the current relative to itself.
        rng: where all noise comes from.
        faults: `overload` makes every current appear too large.

    Attributes:
        mode: PGStat mode, 0 off, 2 low speed, 3 high speed, 6 galvanostat.
        cell_is_on: whether the cell is connected.
        potential_v: what is applied between WE and RE while the cell is on.
        currents, potentials: the ranges.
    """

    def __init__(
        self,
        cell: MeasuredCell,
        *,
        noise_fraction: float,
        rng: np.random.Generator,
        faults: Faults,
    ) -> None:
        self._cell = cell
        self._noise_fraction = noise_fraction
        self._rng = rng
        self._faults = faults
        self.reset()

    def reset(self) -> None:
        """The state after power-on: everything off, the highest ranges."""
        self.mode = MODE_OFF
        self.cell_is_on = False
        self.potential_v = 0.0
        self.currents = RangeSelector(EMSTAT4_HR_CURRENT_RANGES)
        self.potentials = RangeSelector(EMSTAT4_POTENTIAL_RANGES)

    def set_mode(self, mode: float) -> None:
        """Choose the PGStat mode; the cell must be off to change it (inference)."""
        if mode not in MODES:
            raise ScriptError(ErrorCode.UNKNOWN_PGSTAT_MODE)
        if self.cell_is_on and mode != self.mode:
            raise ScriptError(ErrorCode.CELL_MUST_BE_OFF)
        self.mode = int(mode)

    def switch_cell_on(self, now_s: float) -> None:
        """Connect the cell."""
        if self.mode == MODE_OFF:
            raise ScriptError(ErrorCode.WRONG_PGSTAT_MODE)
        self.cell_is_on = True
        self._wire(now_s)

    def switch_cell_off(self, now_s: float) -> None:
        """Disconnect the cell."""
        self.cell_is_on = False
        self._wire(now_s)

    def set_potential(self, potential_v: float, now_s: float) -> None:
        """Apply a potential, now or as soon as the cell is on."""
        check_potential(potential_v)
        self.potential_v = potential_v
        self._wire(now_s)

    def selector(self, vartype: str) -> RangeSelector:
        """The ranges that belong to a variable type."""
        if vartype in ("ba", "db"):
            return self.currents
        if vartype in ("ab", "da"):
            return self.potentials
        raise ScriptError(ErrorCode.RANGING_UNSUPPORTED)

    def require_impedance_mode(self) -> None:
        """Potentiostatic impedance needs high speed mode and a connected cell."""
        if self.mode != MODE_HIGH_SPEED:
            raise ScriptError(ErrorCode.WRONG_PGSTAT_MODE)
        if not self.cell_is_on:
            raise ScriptError(ErrorCode.CELL_MUST_BE_ON)

    def measure_potential(self, now_s: float) -> float:
        """The potential in V between WE and RE at `now_s`."""
        self._wire(now_s)
        true_v = self._cell.potential_v(now_s)
        noisy_v = true_v + POTENTIAL_NOISE_V * float(self._rng.standard_normal())
        return _quantize(noisy_v, RESOLUTION_RATIO * self.potentials.range.nominal)

    def measure_current(self, now_s: float) -> tuple[float, int, int]:
        """The current in A at `now_s`, its status and the range it was measured in."""
        scale = self.currents.range
        current_a = self._dc_current(now_s)
        status = self._status(peak_a=abs(current_a), signal_a=abs(current_a))
        noisy_a = current_a + self._current_noise()
        clipped_a = max(-scale.limit, min(scale.limit, noisy_a))
        return _quantize(clipped_a, RESOLUTION_RATIO * scale.nominal), status, scale.index

    def measure_impedance(
        self, *, frequency_hz: float, amplitude_v: float, now_s: float
    ) -> ImpedancePoint:
        """One point at an already quantised frequency, `amplitude_v` rms asked for."""
        applied_v = applied_amplitude(amplitude_v, frequency_hz)
        true_a = applied_v / self._cell.impedance(frequency_hz, now_s)
        dc_a = self._dc_current(now_s)
        peak_a = abs(dc_a) + math.sqrt(2) * abs(true_a)
        status = self._status(peak_a=peak_a, signal_a=abs(true_a))
        measured_a = self._measured_phasor(true_a, dc_a=dc_a)
        return ImpedancePoint(
            frequency_hz=frequency_hz,
            impedance_ohm=applied_v / measured_a,
            amplitude_v=applied_v,
            amplitude_a=abs(measured_a),
            dc_v=self.potential_v,
            dc_a=dc_a,
            status=status,
            current_range=self.currents.range.index,
            potential_range=self.potentials.range.index,
        )

    def follow_signal(self, status: int) -> None:
        """Autoranging after a point: one range down when the signal was too small for it."""
        if status == STATUS_UNDERLOAD:
            self.currents.step_down()

    def raise_range(self, status: int) -> bool:
        """Autoranging on overload: True if the range was raised and the point must be redone."""
        return status == STATUS_OVERLOAD and self.currents.step_up()

    def _status(self, *, peak_a: float, signal_a: float) -> int:
        if self._faults.overload or peak_a >= MAX_CURRENT_A:
            return STATUS_OVERLOAD
        return self.currents.range.status(peak=peak_a, signal=signal_a)

    def _measured_phasor(self, true_a: complex, *, dc_a: float) -> complex:
        """The rms current as it is read: relative noise, noise of the range, clipping, steps."""
        scale = self.currents.range
        relative = self._noise_fraction * self._phasor_noise()
        noisy_a = (
            true_a * (1 + relative) + CURRENT_NOISE_RATIO * scale.nominal * self._phasor_noise()
        )
        room_a = max(min(scale.limit, MAX_CURRENT_A) - abs(dc_a), 0.0) / math.sqrt(2)
        if self._faults.overload or abs(noisy_a) > room_a:
            noisy_a *= room_a / abs(noisy_a)
        step_a = RESOLUTION_RATIO * scale.nominal
        read_a = complex(_quantize(noisy_a.real, step_a), _quantize(noisy_a.imag, step_a))
        return read_a or complex(step_a)  # a reading of nothing is one step, not a division by zero

    def _phasor_noise(self) -> complex:
        real, imaginary = self._rng.standard_normal(2) / math.sqrt(2)
        return complex(real, imaginary)

    def _current_noise(self) -> float:
        scale_a = CURRENT_NOISE_RATIO * self.currents.range.nominal
        return scale_a * float(self._rng.standard_normal())

    def _dc_current(self, now_s: float) -> float:
        self._wire(now_s)
        return self._cell.current_a(now_s)

    def _wire(self, now_s: float) -> None:
        if self.cell_is_on:
            self._cell.apply_potential(self.potential_v, now_s, limit_a=MAX_CURRENT_A)
        else:
            self._cell.open_circuit(now_s)


def check_potential(potential_v: float) -> None:
    """Refuse a potential the instrument cannot apply.

    Raises:
        ScriptError: beyond 6 V (000F).
    """
    if abs(potential_v) > MAX_POTENTIAL_V:
        raise ScriptError(ErrorCode.BAD_POTENTIAL)


def check_amplitude(amplitude_v: float) -> None:
    """Refuse an excitation the instrument cannot apply.

    Raises:
        ScriptError: not above 0, or beyond 0.9 V rms (0012).
    """
    if not 0 < amplitude_v <= MAX_AMPLITUDE_V:
        raise ScriptError(ErrorCode.BAD_AMPLITUDE)


def check_frequency(frequency_hz: float) -> None:
    """Refuse a frequency the instrument cannot apply.

    Raises:
        ScriptError: not above 0, or beyond 200 kHz (0011).
    """
    if not 0 < frequency_hz <= MAX_FREQUENCY_HZ:
        raise ScriptError(ErrorCode.BAD_FREQUENCY)


def _quantize(value: float, step: float) -> float:
    return round(value / step) * step
