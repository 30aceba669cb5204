"""Techniques against time on an EmStat4 HR: the scripts of CA, CP, LSV, CV and OCP, their points.

What a loop gives of the quantity that it applies is what was set: seen in captured packets for
potentials, a comment of the vendor's for currents. So each loop adds a reading of it (`add_meas`:
see `methodscript_loops.Added` for how sure that is) and the packets hold time, measured potential
and measured current, in this order.

The points of a held quantity come at the end of each interval, a sweep has both its ends, and a
cycle closes: inference, as is that every scan of several closes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv
from labctl.instruments.techniques import Frame, Ocp
from labctl_drivers import methodscript_loops as loops
from labctl_drivers.emstat4_hr_common import (
    RANGES_A,
    dc_bandwidth_hz,
    frame,
    range_for_a,
    range_for_applied_a,
    values,
)
from labctl_drivers.methodscript_packets import EMSTAT4_HR_CURRENT_RANGES_A
from labctl_drivers.methodscript_stops import RestStop, StopLines

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from labctl_drivers.methodscript_device import Sent
    from labctl_drivers.methodscript_script import Script, Var

Dc = Ca | Cp | Lsv | Cv


def interval_s(parameters: Dc | Ocp) -> float:
    """Return the time between two points."""
    if isinstance(parameters, Lsv | Cv):
        return parameters.step_v / parameters.rate_v_per_s
    return parameters.interval_s


def write_ocp(script: Script, parameters: Ocp) -> None:
    """Add an open-circuit potential against time to a script."""
    elapsed, potential = script.var("t"), script.var("p")
    stop = RestStop(script, parameters) if parameters.stop_change_v is not None else None
    script.set_max_bandwidth(dc_bandwidth_hz(parameters.interval_s))
    script.cell_off()
    script.timer_start()
    with loops.ocp(
        script, potential, interval_s=parameters.interval_s, duration_s=parameters.duration_s
    ):
        script.timer_get(elapsed)
        script.packet(elapsed, potential)
        if stop is not None:
            stop.write(elapsed, potential)


def write_dc(script: Script, parameters: Dc, *, channel: int) -> None:
    """Add a technique to a script in galvanostat mode for CP, else in high-speed mode."""
    elapsed, potential, current = (script.var(name) for name in ("t", "p", "c"))
    read = script.var("m")
    stop = StopLines(script, parameters.stop)
    script.set_max_bandwidth(dc_bandwidth_hz(interval_s(parameters)))
    _prepare(script, parameters)
    script.cell_on()
    script.timer_start()
    is_galvanostat = isinstance(parameters, Cp)
    added = loops.Added(channel, "ba" if is_galvanostat else "ab", read)
    measured = (potential, read) if is_galvanostat else (read, current)
    with _loop(script, parameters, (potential, current), added):
        script.timer_get(elapsed)
        script.packet(elapsed, *measured)
        stop.write(elapsed, *measured)
    script.cell_off()


def _prepare(script: Script, parameters: Dc) -> None:
    if isinstance(parameters, Cp):
        range_a = range_for_applied_a(
            max(abs(parameters.current_a), parameters.largest_current_a or 0.0)
        )
        script.set_range("db", range_a)
        script.set_autoranging("db", range_a, range_a)
        script.set_i(0.0)  # as the vendor's example has it; the loop applies the current
        return
    potentials_v = _potentials_v(parameters)
    largest_a = parameters.largest_current_a
    script.set_range_minmax("da", min(potentials_v), max(potentials_v))
    script.set_range("ba", RANGES_A[-1] if largest_a is None else range_for_a(largest_a))
    script.set_autoranging("ba", RANGES_A[0], RANGES_A[-1])
    script.set_e(potentials_v[0])


def _potentials_v(parameters: Ca | Lsv | Cv) -> tuple[float, ...]:
    match parameters:
        case Ca():
            return (parameters.potential_v,)
        case Lsv():
            return (parameters.begin_v, parameters.end_v)
        case Cv():
            return (parameters.begin_v, parameters.vertex_1_v, parameters.vertex_2_v)


def _loop(
    script: Script, parameters: Dc, targets: tuple[Var, Var], added: loops.Added
) -> AbstractContextManager[None]:
    match parameters:
        case Ca():
            return loops.ca(
                script,
                *targets,
                potential_v=parameters.potential_v,
                interval_s=parameters.interval_s,
                duration_s=parameters.duration_s,
                added=added,
            )
        case Cp():
            return loops.cp(
                script,
                *targets,
                current_a=parameters.current_a,
                interval_s=parameters.interval_s,
                duration_s=parameters.duration_s,
                added=added,
            )
        case Lsv():
            return loops.lsv(
                script,
                *targets,
                begin_v=parameters.begin_v,
                end_v=parameters.end_v,
                step_v=parameters.step_v,
                rate_v_per_s=parameters.rate_v_per_s,
                added=added,
            )
        case Cv():
            return loops.cv(
                script,
                *targets,
                begin_v=parameters.begin_v,
                vertex_1_v=parameters.vertex_1_v,
                vertex_2_v=parameters.vertex_2_v,
                step_v=parameters.step_v,
                rate_v_per_s=parameters.rate_v_per_s,
                n_scans=parameters.n_scans,
                added=added,
            )


class DcPoints:
    """Turns packets into points; the charge is integrated here, from what was measured.

    By trapezoids, and before the first point with the current of the first point: the same sum that
    a stop condition on the charge forms on the instrument.
    """

    def __init__(self, parameters: Dc) -> None:
        self._units = type(parameters).UNITS
        self._has_scans = isinstance(parameters, Cv)
        self._charge_c = 0.0
        self._last_s = 0.0
        self._last_a = math.nan

    def frame(self, instrument: str, sent: Sent) -> Frame:
        """Return a point with the columns of the technique's `UNITS`."""
        packet = sent.packet
        elapsed_s, potential_v, current_a = values(instrument, packet, ("s", "V", "A"))
        before_a = current_a if math.isnan(self._last_a) else self._last_a
        self._charge_c += 0.5 * (before_a + current_a) * (elapsed_s - self._last_s)
        self._last_s, self._last_a = elapsed_s, current_a
        scan = (max(sent.scan, 1),) if self._has_scans else ()
        return frame(
            self._units,
            elapsed_s,
            potential_v,
            current_a,
            self._charge_c,
            packet.range_in(EMSTAT4_HR_CURRENT_RANGES_A),
            packet.status_bits,
            *scan,
        )


def ocp_frame(instrument: str, sent: Sent) -> Frame:
    """Return a point with the columns of `Ocp.UNITS`."""
    return frame(Ocp.UNITS, *values(instrument, sent.packet, ("s", "V")), sent.packet.status_bits)
