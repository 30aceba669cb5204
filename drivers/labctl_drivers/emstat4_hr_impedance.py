"""Impedance on an EmStat4 HR: the scripts of EIS and GEIS, and their points.

Source: MethodSCRIPT manual, "Measurement loop commands", and the vendor's examples of both loops.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from labctl.instruments.techniques import Eis, Frame, Geis
from labctl_drivers import methodscript_loops as loops
from labctl_drivers.emstat4_hr_common import (
    RANGES_A,
    frame,
    range_for_a,
    range_for_applied_a,
    values,
)
from labctl_drivers.methodscript_packets import EMSTAT4_HR_CURRENT_RANGES_A

if TYPE_CHECKING:
    from labctl_drivers.methodscript_device import Sent
    from labctl_drivers.methodscript_script import Script, Var

_MAX_BANDWIDTH_HZ = 1e6  # what the vendor's impedance examples set
_FIRST_IMPEDANCE_OHM = 100.0  # a pellet at the first, highest frequency


def write_eis(script: Script, parameters: Eis) -> None:
    """Add impedance under a potential sine to a script in high-speed mode."""
    targets, acdc = _variables(script)
    bias_v = parameters.bias_v
    script.set_max_bandwidth(_MAX_BANDWIDTH_HZ)
    script.set_range_minmax("da", bias_v, bias_v)
    script.set_range("ba", _first_range_a(parameters))
    script.set_autoranging("ba", RANGES_A[0], RANGES_A[-1])
    script.set_e(bias_v)
    script.cell_on()
    for start_hz, end_hz, n_points in _sweeps(parameters):
        with loops.eis(
            script,
            *targets,
            amplitude_v_rms=parameters.amplitude_v_rms,
            start_hz=start_hz,
            end_hz=end_hz,
            n_points=n_points,
            bias_v=bias_v,
            acdc=acdc,
        ):
            script.packet(*targets, acdc.potential_ac, acdc.potential_dc)
    script.cell_off()


def write_geis(script: Script, parameters: Geis) -> None:
    """Add impedance under a current sine to a script in galvanostat mode.

    The range is that of what is applied and stays: bias and peak together have to fit.
    """
    targets, acdc = _variables(script)
    bias_a, amplitude_a_rms = parameters.bias_a, parameters.amplitude_a_rms
    range_a = range_for_applied_a(abs(bias_a) + math.sqrt(2) * amplitude_a_rms)
    script.set_max_bandwidth(_MAX_BANDWIDTH_HZ)
    script.set_range("db", range_a)
    script.set_autoranging("db", range_a, range_a)
    script.set_i(0.0)  # as the vendor's example has it; the loop applies the bias
    script.cell_on()
    for start_hz, end_hz, n_points in _sweeps(parameters):
        with loops.geis(
            script,
            *targets,
            amplitude_a_rms=amplitude_a_rms,
            start_hz=start_hz,
            end_hz=end_hz,
            n_points=n_points,
            bias_a=bias_a,
            acdc=acdc,
        ):
            script.packet(*targets, acdc.current_ac, acdc.potential_dc)
    script.cell_off()


def eis_frame(instrument: str, sent: Sent) -> Frame:
    """Return a point with the columns of `Eis.UNITS`."""
    return _point(instrument, sent, Eis, ("Hz", "ohm", "ohm", "V", "V"))


def geis_frame(instrument: str, sent: Sent) -> Frame:
    """Return a point with the columns of `Geis.UNITS`."""
    return _point(instrument, sent, Geis, ("Hz", "ohm", "ohm", "A", "V"))


def all_frequencies_hz(parameters: Eis | Geis) -> list[float]:
    """Return the frequencies asked for, the repeat included."""
    repeat = [parameters.frequency_start_hz] * parameters.repeats_first
    return parameters.frequencies_hz() + repeat


def _variables(script: Script) -> tuple[tuple[Var, Var, Var], loops.AcDc]:
    frequency, z_real, z_imag = (script.var(name) for name in ("f", "zr", "zi"))
    acdc = loops.AcDc(*(script.var(name) for name in ("ea", "ed", "ia", "id")))
    return (frequency, z_real, z_imag), acdc


def _point(
    instrument: str, sent: Sent, technique: type[Eis | Geis], units: tuple[str, ...]
) -> Frame:
    packet = sent.packet
    return frame(
        technique.UNITS,
        *values(instrument, packet, units),
        packet.range_in(EMSTAT4_HR_CURRENT_RANGES_A),
        packet.status_bits,
        sent.loop > 1,
    )


def _first_range_a(parameters: Eis) -> float:
    """Return the current range to begin with.

    The instrument moves one range per point at most (seen in a recorded spectrum that begins in
    10 mA with four of five points in underload), so a first guess saves the first points.
    """
    impedance_ohm = parameters.first_impedance_ohm or _FIRST_IMPEDANCE_OHM
    return range_for_a(parameters.amplitude_v_rms / impedance_ohm)


def _sweeps(parameters: Eis | Geis) -> list[tuple[float, float, int]]:
    """Return start, end and number of points of the loops that one spectrum takes."""
    start_hz, n_points = parameters.frequency_start_hz, parameters.n_points
    end_hz = parameters.frequency_end_hz if n_points > 1 else start_hz
    repeat = [(start_hz, start_hz, 1)] if parameters.repeats_first else []
    return [(start_hz, end_hz, n_points), *repeat]
