"""The measurement loops of a MethodSCRIPT: one generator per command.

A loop yields a number to let that many seconds pass, or a `Point` when the script's body is to run
with new values. To add a technique, write its generator and enter it in `MEASUREMENT_LOOPS`.
Linear sweep, cyclic, chrono and galvanostatic loops are known to the parser and not simulated yet:
executing one answers 001B.

Timing is inference; bench notes on a sibling instrument say that a point at 0.5 Hz takes less than
20 s and that 30 periods plus 3 s is always enough.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_packet import Value, round_to_float32
from labctl_simulators.methodscript_potentiostat import (
    ImpedancePoint,
    Potentiostat,
    check_amplitude,
    check_frequency,
    check_potential,
    quantize_frequency,
)

SETTLING_S = 0.1
SETTLING_PERIODS = 1.0
ACQUISITION_S = 0.2
ACQUISITION_PERIODS = 3.0


@dataclass(frozen=True, slots=True)
class Request:
    """A measurement loop as the script asked for it.

    Attributes:
        numbers: the positional arguments behind the output variables, in SI units.
        now_s: the instrument's clock, to be read again after every yield.
    """

    numbers: tuple[float, ...]
    potentiostat: Potentiostat
    now_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Point:
    """Values for the output variables, and for the variables of each option."""

    outputs: tuple[Value, ...]
    options: Mapping[str, tuple[Value, ...]]


Steps = Generator[float | Point, None, None]
# called when the script arrives at the loop, refuses bad arguments at once, then measures
MeasurementLoop = Callable[[Request], Steps]


def measure_impedance(request: Request) -> Steps:
    """`meas_loop_eis`: E_AC (V rms), f_begin, f_end (Hz), number of points, E_DC (V)."""
    amplitude_v, begin_hz, end_hz, n_points, dc_v = request.numbers
    check_amplitude(amplitude_v)
    check_frequency(begin_hz)
    check_frequency(end_hz)
    check_potential(dc_v)
    if n_points < 1:
        raise ScriptError(ErrorCode.NO_STEPS)
    request.potentiostat.require_impedance_mode()
    request.potentiostat.set_potential(dc_v, request.now_s())
    asked_hz = np.geomspace(begin_hz, end_hz, int(n_points))
    frequencies_hz = [quantize_frequency(float(each)) for each in asked_hz]
    return _sweep(request, frequencies_hz, amplitude_v=amplitude_v)


def _sweep(request: Request, frequencies_hz: Sequence[float], *, amplitude_v: float) -> Steps:
    potentiostat = request.potentiostat
    begin_s = request.now_s()
    for frequency_hz in frequencies_hz:
        while True:
            yield point_duration_s(frequency_hz)
            point = potentiostat.measure_impedance(
                frequency_hz=frequency_hz, amplitude_v=amplitude_v, now_s=request.now_s()
            )
            if not potentiostat.raise_range(point.status):
                break
        yield _impedance_values(point, elapsed_s=request.now_s() - begin_s)
        potentiostat.follow_signal(point.status)


def point_duration_s(frequency_hz: float) -> float:
    """How long one frequency takes in s: settling, then whole periods or a shortest time."""
    settling_s = max(SETTLING_S, SETTLING_PERIODS / frequency_hz)
    return settling_s + max(ACQUISITION_S, ACQUISITION_PERIODS / frequency_hz)


def _impedance_values(point: ImpedancePoint, *, elapsed_s: float) -> Point:
    """What is sent of a point; which variable carries which range follows captured packets."""

    def of_current(type_id: str, number: float) -> Value:
        return Value(round_to_float32(number), type_id, point.status, point.current_range)

    def of_potential(type_id: str, number: float) -> Value:
        return Value(round_to_float32(number), type_id, point.status, point.potential_range)

    z_ohm = point.impedance_ohm
    outputs = (
        Value(point.frequency_hz, "dc"),
        of_current("cc", z_ohm.real),
        of_potential("cd", z_ohm.imag),
    )
    acdc = (
        of_potential("ch", point.amplitude_v),
        of_potential("ci", point.dc_v),
        of_current("cj", point.amplitude_a),
        of_current("ck", point.dc_a),
    )
    return Point(outputs, {"eis_acdc": acdc, "time": (Value(round_to_float32(elapsed_s), "eb"),)})


def measure_open_circuit(request: Request) -> Steps:
    """`meas_loop_ocp`: interval (s), duration (s); a point at the end of every interval."""
    interval_s, duration_s = request.numbers
    if interval_s <= 0:
        raise ScriptError(ErrorCode.MUST_BE_POSITIVE)
    # a run of exactly n intervals has n points whatever its quotient is rounded to
    n_points = int(duration_s / interval_s + 1e-9)
    if n_points < 1:
        raise ScriptError(ErrorCode.NO_STEPS)
    if request.potentiostat.cell_is_on:
        raise ScriptError(ErrorCode.CELL_IS_ON_FOR_OCP)
    return _rest(request, n_points, interval_s=interval_s)


def _rest(request: Request, n_points: int, *, interval_s: float) -> Steps:
    potentiostat = request.potentiostat
    begin_s = request.now_s()
    for i in range(n_points):
        yield max(0.0, begin_s + (i + 1) * interval_s - request.now_s())
        potential_v = round_to_float32(potentiostat.measure_potential(request.now_s()))
        range_index = potentiostat.potentials.range.index
        yield Point((Value(potential_v, "ab", 0, range_index),), {})


def refuse(request: Request) -> Steps:
    """A technique this firmware knows by name only."""
    raise ScriptError(ErrorCode.UNSUPPORTED)


MEASUREMENT_LOOPS: dict[str, MeasurementLoop] = {
    "meas_loop_eis": measure_impedance,
    "meas_loop_ocp": measure_open_circuit,
    "meas_loop_lsv": refuse,
    "meas_loop_cv": refuse,
    "meas_loop_ca": refuse,
    "meas_loop_cp": refuse,
    "meas_loop_lsp": refuse,
    "meas_loop_geis": refuse,
}
