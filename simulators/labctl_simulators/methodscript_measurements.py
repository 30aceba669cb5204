"""The measurement loops of a MethodSCRIPT: impedance, and the table of all of them.

A loop yields a number to let that many seconds pass, or a `Point` when the script's body is to run
with new values. To add a technique, write its generator and enter it in `MEASUREMENT_LOOPS`.

Timing is inference; bench notes on a sibling instrument say that a point at 0.5 Hz takes less than
20 s and that 30 periods plus 3 s is always enough.
"""

from collections.abc import Callable, Sequence

import numpy as np

from labctl_simulators.methodscript_dc import (
    cycle_potential,
    hold_current,
    hold_potential,
    rest,
    sweep_current,
    sweep_potential,
)
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_impedance import ImpedancePoint, quantize_frequency
from labctl_simulators.methodscript_packet import Value, round_to_float32
from labctl_simulators.methodscript_potentiostat import (
    MODE_GALVANOSTAT,
    check_amplitude,
    check_amplitude_of_current,
    check_current,
    check_frequency,
    check_potential,
)
from labctl_simulators.methodscript_steps import MeasurementLoop, Point, Request, Steps

SETTLING_S = 0.1
SETTLING_PERIODS = 1.0
ACQUISITION_S = 0.2
ACQUISITION_PERIODS = 3.0


def measure_impedance(request: Request) -> Steps:
    """`meas_loop_eis`: E_AC (V rms), f_begin, f_end (Hz), number of points, E_DC (V)."""
    amplitude_v, begin_hz, end_hz, n_points, dc_v = request.numbers
    check_amplitude(amplitude_v)
    frequencies_hz = _frequencies_hz(begin_hz, end_hz, n_points)
    check_potential(dc_v)
    potentiostat = request.potentiostat
    potentiostat.require_impedance_mode()
    potentiostat.set_potential(dc_v, request.now_s())
    return _sweep(
        request,
        frequencies_hz,
        lambda frequency_hz: potentiostat.measure_impedance(
            frequency_hz=frequency_hz, amplitude_v=amplitude_v, now_s=request.now_s()
        ),
    )


def measure_galvanostatic_impedance(request: Request) -> Steps:
    """`meas_loop_geis`: I_AC (A rms), f_begin, f_end (Hz), number of points, I_DC (A)."""
    amplitude_a, begin_hz, end_hz, n_points, dc_a = request.numbers
    check_amplitude_of_current(amplitude_a)
    frequencies_hz = _frequencies_hz(begin_hz, end_hz, n_points)
    potentiostat = request.potentiostat
    potentiostat.require_current_control()
    check_current(dc_a, potentiostat.currents.range)
    potentiostat.set_current(dc_a, request.now_s())
    return _sweep(
        request,
        frequencies_hz,
        lambda frequency_hz: potentiostat.measure_galvanostatic_impedance(
            frequency_hz=frequency_hz, amplitude_a=amplitude_a, now_s=request.now_s()
        ),
    )


def _frequencies_hz(begin_hz: float, end_hz: float, n_points: float) -> list[float]:
    check_frequency(begin_hz)
    check_frequency(end_hz)
    if n_points < 1:
        raise ScriptError(ErrorCode.NO_STEPS)
    asked_hz = np.geomspace(begin_hz, end_hz, int(n_points))
    return [quantize_frequency(float(each)) for each in asked_hz]


def _sweep(
    request: Request,
    frequencies_hz: Sequence[float],
    measure: Callable[[float], ImpedancePoint],
) -> Steps:
    potentiostat = request.potentiostat
    # The range that follows the signal is that of the answer, never of what is applied.
    is_galvanostat = potentiostat.mode == MODE_GALVANOSTAT
    ranges = potentiostat.potentials if is_galvanostat else potentiostat.currents
    begin_s = request.now_s()
    for frequency_hz in frequencies_hz:
        while True:
            yield point_duration_s(frequency_hz)
            point = measure(frequency_hz)
            if not ranges.raise_on(point.status):
                break
        yield _impedance_values(point, elapsed_s=request.now_s() - begin_s)
        ranges.lower_on(point.status)


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


MEASUREMENT_LOOPS: dict[str, MeasurementLoop] = {
    "meas_loop_eis": measure_impedance,
    "meas_loop_geis": measure_galvanostatic_impedance,
    "meas_loop_ocp": rest,
    "meas_loop_lsv": sweep_potential,
    "meas_loop_cv": cycle_potential,
    "meas_loop_ca": hold_potential,
    "meas_loop_cp": hold_current,
    "meas_loop_lsp": sweep_current,
}
