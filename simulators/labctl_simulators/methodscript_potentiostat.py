"""The electronics behind the scripts of a PalmSens EmStat4 HR: settings, cell switch, measurement.

Sources: PalmSens device limits and range tables. Inference: the noise figures, the converters'
resolution, the compliance (about 8 V, the vendor's brochure), that a potential beyond 6 V reads as
6 V with the status "overload", that a direct current too large for its range is read again at
once in the next one, since the instrument samples much faster than it sends, the errors of a
multiplexer, and that its first input is connected until a script selects one.
"""

import math

import numpy as np

from labctl_simulators.cell import MeasuredCell
from labctl_simulators.device import Faults
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_impedance import (
    ImpedancePoint,
    Reader,
    applied_amplitude,
    quantize,
)
from labctl_simulators.methodscript_packet import Value, round_to_float32
from labctl_simulators.methodscript_ranges import (
    EMSTAT4_HR_CURRENT_RANGES,
    EMSTAT4_POTENTIAL_RANGES,
    STATUS_OK,
    STATUS_OVERLOAD,
    Range,
    RangeSelector,
)

MAX_POTENTIAL_V = 6.0
COMPLIANCE_V = 8.0
MAX_CURRENT_A = 0.2
MAX_FREQUENCY_HZ = 200e3
MAX_AMPLITUDE_V = 0.9
RESOLUTION_V = 2 * MAX_POTENTIAL_V / 2**16  # of what is applied: 183 uV

N_MULTIPLEXER_INPUTS = {1: 8, 2: 16, 3: 8}  # MUX8, MUX16, MUX8-R2

MODE_OFF = 0
MODE_LOW_SPEED = 2
MODE_HIGH_SPEED = 3
MODE_GALVANOSTAT = 6
MODES = (MODE_OFF, MODE_LOW_SPEED, MODE_HIGH_SPEED, MODE_GALVANOSTAT)

CURRENT_NOISE_RATIO = 5e-6  # rms, of the nominal range
RESOLUTION_RATIO = 6.0 / 2**20  # of the nominal range
POTENTIAL_NOISE_V = 20e-6
_NOISE_BLOCK = 256
_SLACK = 1.001


class Potentiostat:
    """What a script acts on: it has settings and a cell, and no notion of scripts.

    Args:
        cells: what the leads can be connected to: one cell, or one at each input of a multiplexer.
        noise_fraction: rms error of an impedance relative to itself.
        rng: where all noise comes from.
        faults: `overload` makes every current appear too large.

    Attributes:
        mode: PGStat mode, 0 off, 2 low speed, 3 high speed, 6 galvanostat.
        cell_is_on: whether the cell is connected.
        applied_v: what is applied between WE and RE while the cell is on, unless a galvanostat.
        applied_a: the same of a galvanostat.
        currents, potentials: the ranges.
    """

    def __init__(
        self,
        *cells: MeasuredCell,
        noise_fraction: float,
        rng: np.random.Generator,
        faults: Faults,
    ) -> None:
        self._cells = cells
        self._noise_fraction = noise_fraction
        self._rng = rng
        self._noise: list[float] = []
        self._faults = faults
        self._forget()

    def _forget(self) -> None:
        self._cell = self._cells[0]
        self._n_inputs = 0
        self.mode = MODE_OFF
        self.cell_is_on = False
        self.applied_v = 0.0
        self.applied_a = 0.0
        self.currents = RangeSelector(EMSTAT4_HR_CURRENT_RANGES)
        self.potentials = RangeSelector(EMSTAT4_POTENTIAL_RANGES)

    def reset(self, now_s: float) -> None:
        """The state after power-on: everything off, the highest ranges."""
        self._cell.open_circuit(now_s)
        self._forget()

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
        self._apply(now_s)

    def switch_cell_off(self, now_s: float) -> None:
        """Disconnect the cell."""
        self.cell_is_on = False
        self._cell.open_circuit(now_s)

    def configure_multiplexer(self, kind: float) -> None:
        """Say which multiplexer there is."""
        if len(self._cells) == 1:
            raise ScriptError(ErrorCode.UNSUPPORTED)
        if kind not in N_MULTIPLEXER_INPUTS:
            raise ScriptError(ErrorCode.OUT_OF_BOUNDS)
        self._n_inputs = N_MULTIPLEXER_INPUTS[int(kind)]

    def connect_input(self, number: float, now_s: float) -> None:
        """Connect the cell at an input of the multiplexer, counted from 1."""
        if number not in range(1, min(self._n_inputs, len(self._cells)) + 1):
            raise ScriptError(ErrorCode.OUT_OF_BOUNDS)
        self._cell.open_circuit(now_s)
        self._cell = self._cells[int(number) - 1]
        self._apply(now_s)

    def set_potential(self, potential_v: float, now_s: float) -> None:
        """Apply a potential, now or as soon as the cell is on."""
        check_potential(potential_v)
        self.applied_v = potential_v
        self._apply(now_s)

    def set_current(self, current_a: float, now_s: float) -> None:
        """Apply a current, now or as soon as the cell is on."""
        check_current(current_a, EMSTAT4_HR_CURRENT_RANGES[-1])
        self.applied_a = current_a
        self._apply(now_s)

    def _apply(self, now_s: float) -> None:
        if not self.cell_is_on:
            return
        if self.mode == MODE_GALVANOSTAT:
            self._cell.apply_current(self.applied_a, now_s, limit_v=COMPLIANCE_V)
        else:
            self._cell.apply_potential(self.applied_v, now_s, limit_a=MAX_CURRENT_A)

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
        self._require_cell()

    def require_potential_control(self) -> None:
        """A potential against time needs a potentiostat and a connected cell."""
        if self.mode not in (MODE_LOW_SPEED, MODE_HIGH_SPEED):
            raise ScriptError(ErrorCode.WRONG_PGSTAT_MODE)
        self._require_cell()

    def require_current_control(self) -> None:
        """A current needs a galvanostat and a connected cell."""
        if self.mode != MODE_GALVANOSTAT:
            raise ScriptError(ErrorCode.WRONG_PGSTAT_MODE)
        self._require_cell()

    def _require_cell(self) -> None:
        if not self.cell_is_on:
            raise ScriptError(ErrorCode.CELL_MUST_BE_ON)

    def read(self, vartype: str, now_s: float) -> Value:
        """A direct reading with its status and range: `ab` potential, `ba` current."""
        if vartype == "ab":
            number, status, range_index = self.measure_potential(now_s)
        elif vartype == "ba":
            number, status, range_index = self.measure_current(now_s)
        else:
            raise ScriptError(ErrorCode.WRONG_VARTYPE)
        return Value(round_to_float32(number), vartype, status, range_index)

    def measure_potential(self, now_s: float) -> tuple[float, int, int]:
        """The potential in V between WE and RE at `now_s`, its status and its range."""
        scale = self.potentials.range
        true_v = self._cell.potential_v(now_s)
        noisy_v = true_v + POTENTIAL_NOISE_V * self._draw()
        status = STATUS_OVERLOAD if abs(true_v) > MAX_POTENTIAL_V + RESOLUTION_V else STATUS_OK
        if status:
            noisy_v = math.copysign(MAX_POTENTIAL_V, noisy_v)
        return quantize(noisy_v, RESOLUTION_RATIO * scale.nominal), status, scale.index

    def measure_current(self, now_s: float) -> tuple[float, int, int]:
        """The current in A at `now_s`, its status and the range it was measured in.

        The range goes up at once where it may, and down for the next reading.
        """
        current_a = self._current_a(now_s)
        size_a = abs(current_a)
        status = self._status(peak_a=size_a, signal_a=size_a)
        while self.currents.raise_on(status):
            status = self._status(peak_a=size_a, signal_a=size_a)
        scale = self.currents.range
        noisy_a = current_a + CURRENT_NOISE_RATIO * scale.nominal * self._draw()
        clipped_a = max(-scale.limit, min(scale.limit, noisy_a))
        self.currents.lower_on(status)
        return quantize(clipped_a, RESOLUTION_RATIO * scale.nominal), status, scale.index

    def measure_impedance(
        self, *, frequency_hz: float, amplitude_v: float, now_s: float
    ) -> ImpedancePoint:
        """One point at an already quantised frequency, `amplitude_v` rms asked for."""
        applied_v = applied_amplitude(amplitude_v, frequency_hz)
        true_a = applied_v / self._cell.impedance(frequency_hz, now_s)
        dc_a = self._current_a(now_s)
        peak_a = abs(dc_a) + math.sqrt(2) * abs(true_a)
        status = self._status(peak_a=peak_a, signal_a=abs(true_a))
        measured_a = self._current_reader(dc_a).read(true_a, self._rng)
        return self._point(
            frequency_hz, applied_v / measured_a, applied_v, abs(measured_a), now_s, dc_a, status
        )

    def measure_galvanostatic_impedance(
        self, *, frequency_hz: float, amplitude_a: float, now_s: float
    ) -> ImpedancePoint:
        """One point at an already quantised frequency, `amplitude_a` rms asked for."""
        applied_a = applied_amplitude(amplitude_a, frequency_hz)
        true_v = applied_a * self._cell.impedance(frequency_hz, now_s)
        dc_a, dc_v = self._current_a(now_s), self._cell.potential_v(now_s)
        peak_a = abs(dc_a) + math.sqrt(2) * applied_a
        peak_v = abs(dc_v) + math.sqrt(2) * abs(true_v)
        status = self._status(peak_a=peak_a, signal_a=peak_a) & STATUS_OVERLOAD
        if peak_v > MAX_POTENTIAL_V:
            status |= STATUS_OVERLOAD
        measured_v = self._potential_reader(dc_v).read(true_v, self._rng)
        return self._point(
            frequency_hz, measured_v / applied_a, abs(measured_v), applied_a, now_s, dc_a, status
        )

    def _point(
        self,
        frequency_hz: float,
        impedance_ohm: complex,
        amplitude_v: float,
        amplitude_a: float,
        now_s: float,
        dc_a: float,
        status: int,
    ) -> ImpedancePoint:
        return ImpedancePoint(
            frequency_hz=frequency_hz,
            impedance_ohm=impedance_ohm,
            amplitude_v=amplitude_v,
            amplitude_a=amplitude_a,
            dc_v=self._cell.potential_v(now_s),
            dc_a=dc_a,
            status=status,
            current_range=self.currents.range.index,
            potential_range=self.potentials.range.index,
        )

    def _status(self, *, peak_a: float, signal_a: float) -> int:
        # A galvanostat may apply all there is; a potentiostat that needs all has lost control.
        most_a = MAX_CURRENT_A * (_SLACK if self.mode == MODE_GALVANOSTAT else 1.0)
        if self._faults.overload or peak_a >= most_a:
            return STATUS_OVERLOAD
        return self.currents.range.status(peak=peak_a, signal=signal_a)

    def _current_reader(self, dc_a: float) -> Reader:
        scale = self.currents.range
        return Reader(
            noise_fraction=self._noise_fraction,
            noise=CURRENT_NOISE_RATIO * scale.nominal,
            step=RESOLUTION_RATIO * scale.nominal,
            room_peak=min(scale.limit, MAX_CURRENT_A) - abs(dc_a),
            is_overloaded=self._faults.overload,
        )

    def _potential_reader(self, dc_v: float) -> Reader:
        return Reader(
            noise_fraction=self._noise_fraction,
            noise=POTENTIAL_NOISE_V / 10,  # a lock-in sees less of it
            step=RESOLUTION_RATIO * self.potentials.range.nominal,
            room_peak=MAX_POTENTIAL_V - abs(dc_v),
            is_overloaded=self._faults.overload,
        )

    def _draw(self) -> float:
        """One number of normal noise; drawn in blocks, which is much faster."""
        if not self._noise:
            self._noise = self._rng.standard_normal(_NOISE_BLOCK).tolist()
        return self._noise.pop()

    def _current_a(self, now_s: float) -> float:
        return self._cell.current_a(now_s) if self.cell_is_on else 0.0


def check_potential(potential_v: float) -> None:
    """Refuse a potential the instrument cannot apply.

    Raises:
        ScriptError: beyond 6 V (000F).
    """
    if abs(potential_v) > MAX_POTENTIAL_V:
        raise ScriptError(ErrorCode.BAD_POTENTIAL)


def check_current(current_a: float, scale: Range) -> None:
    """Refuse a current the instrument cannot apply in a range.

    Raises:
        ScriptError: beyond 200 mA or what the range holds (4205; the code is inference).
    """
    if abs(current_a) > min(MAX_CURRENT_A, scale.limit):
        raise ScriptError(ErrorCode.OUT_OF_BOUNDS)


def check_amplitude(amplitude_v: float) -> None:
    """Refuse an excitation the instrument cannot apply.

    Raises:
        ScriptError: not above 0, or beyond 0.9 V rms (0012).
    """
    if not 0 < amplitude_v <= MAX_AMPLITUDE_V:
        raise ScriptError(ErrorCode.BAD_AMPLITUDE)


def check_amplitude_of_current(amplitude_a: float) -> None:
    """Refuse an excitation the instrument cannot apply.

    Raises:
        ScriptError: not above 0, or with peaks beyond 200 mA (0012).
    """
    if not 0 < amplitude_a <= MAX_CURRENT_A / math.sqrt(2):
        raise ScriptError(ErrorCode.BAD_AMPLITUDE)


def check_frequency(frequency_hz: float) -> None:
    """Refuse a frequency the instrument cannot apply.

    Raises:
        ScriptError: not above 0, or beyond 200 kHz (0011).
    """
    if not 0 < frequency_hz <= MAX_FREQUENCY_HZ:
        raise ScriptError(ErrorCode.BAD_FREQUENCY)
