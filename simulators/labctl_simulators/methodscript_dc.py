"""The measurement loops of a MethodSCRIPT against time: held or swept potentials and currents.

Source: PalmSens MethodSCRIPT manual and the vendor's examples for the order of the arguments.
Inference: a point is measured at the end of its interval, so that a run of n intervals has n
points; a sweep has both its ends; a cycle ends where it began, and so does every scan of several;
scans are counted from 0 in the output; what the loop gives beside the measured quantity is what was
set (captured for potentials, a comment of the vendor's for currents).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat

from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_packet import Value, round_to_float32
from labctl_simulators.methodscript_potentiostat import (
    RESOLUTION_V,
    check_current,
    check_potential,
)
from labctl_simulators.methodscript_steps import Point, Request, Steps

_ROUND = 1e-6  # of a step: a sweep of exactly n steps has n + 1 points, however it is rounded


def hold_potential(request: Request) -> Steps:
    """`meas_loop_ca`: potential (V), interval (s), duration (s)."""
    potential_v, interval_s, duration_s = request.numbers
    check_potential(potential_v)
    n_points = count_points(interval_s, duration_s)
    request.potentiostat.require_potential_control()
    return _potentials(request, repeat(potential_v, n_points), interval_s)


def hold_current(request: Request) -> Steps:
    """`meas_loop_cp`: current (A), interval (s), duration (s)."""
    current_a, interval_s, duration_s = request.numbers
    n_points = count_points(interval_s, duration_s)
    request.potentiostat.require_current_control()
    check_current(current_a, request.potentiostat.currents.range)
    return _currents(request, repeat(current_a, n_points), interval_s)


def sweep_potential(request: Request) -> Steps:
    """`meas_loop_lsv`: begin, end, step (V), rate (V/s)."""
    begin_v, end_v, step_v, rate_v_per_s = request.numbers
    interval_s = _check_stairs((begin_v, end_v), step_v, rate_v_per_s)
    request.potentiostat.require_potential_control()
    return _potentials(request, list(stairs((begin_v, end_v), step_v)), interval_s)


def cycle_potential(request: Request) -> Steps:
    """`meas_loop_cv`: begin, vertex 1, vertex 2, step (V), rate (V/s); option number of scans."""
    begin_v, vertex_1_v, vertex_2_v, step_v, rate_v_per_s = request.numbers
    n_scans = int(request.option("nscans", 1))
    if n_scans < 1:
        raise ScriptError(ErrorCode.NO_STEPS)
    turns = (begin_v, vertex_1_v, vertex_2_v, begin_v)
    interval_s = _check_stairs(turns, step_v, rate_v_per_s)
    request.potentiostat.require_potential_control()
    scan_v = list(stairs(turns, step_v))
    if n_scans == 1:
        return _potentials(request, scan_v, interval_s)
    return _scans(request, scan_v, interval_s, n_scans)


def sweep_current(request: Request) -> Steps:
    """`meas_loop_lsp`: begin, end, step (A), rate (A/s)."""
    begin_a, end_a, step_a, rate_a_per_s = request.numbers
    if step_a <= 0 or rate_a_per_s <= 0:
        raise ScriptError(ErrorCode.MUST_BE_POSITIVE)
    request.potentiostat.require_current_control()
    for current_a in (begin_a, end_a):
        check_current(current_a, request.potentiostat.currents.range)
    return _currents(request, list(stairs((begin_a, end_a), step_a)), step_a / rate_a_per_s)


def count_points(interval_s: float, duration_s: float) -> int:
    """How many points a run against time has."""
    if interval_s <= 0:
        raise ScriptError(ErrorCode.MUST_BE_POSITIVE)
    # a run of exactly n intervals has n points whatever its quotient is rounded to
    n_points = int(duration_s / interval_s + 1e-9)
    if n_points < 1:
        raise ScriptError(ErrorCode.NO_STEPS)
    return n_points


def stairs(turns: Sequence[float], step: float) -> Iterator[float]:
    """The values of a staircase along its turning points, the first included, at equal steps."""
    legs = [abs(b - a) for a, b in pairwise(turns)]
    n_steps = int(sum(legs) / step + _ROUND)
    leg, begin = 0, 0.0
    for i in range(n_steps + 1):
        while leg < len(legs) - 1 and i * step > begin + legs[leg] + _ROUND * step:
            begin += legs[leg]
            leg += 1
        sign = 1.0 if turns[leg + 1] >= turns[leg] else -1.0
        yield turns[leg] + sign * (i * step - begin)


def _check_stairs(turns: Sequence[float], step_v: float, rate_v_per_s: float) -> float:
    """The interval in s that a staircase spends on each of its steps."""
    for potential_v in turns:
        check_potential(potential_v)
    if step_v <= 0 or rate_v_per_s <= 0:
        raise ScriptError(ErrorCode.MUST_BE_POSITIVE)
    if step_v < RESOLUTION_V:
        raise ScriptError(ErrorCode.STEP_BELOW_RESOLUTION)
    if all(a == b for a, b in pairwise(turns)):
        raise ScriptError(ErrorCode.NO_STEPS)
    return step_v / rate_v_per_s


def _scans(request: Request, scan_v: Sequence[float], interval_s: float, n_scans: int) -> Steps:
    for i in range(n_scans):
        yield f"C{i:04X}"
        yield from _potentials(request, scan_v, interval_s)
        yield "-"


def _potentials(request: Request, potentials_v: Iterable[float], interval_s: float) -> Steps:
    potentiostat, now_s = request.potentiostat, request.now_s
    begin_s = now_s()
    applied, applied_v = Value(0.0, "da"), math.nan
    for i, potential_v in enumerate(potentials_v, start=1):
        if potential_v != applied_v:
            potentiostat.set_potential(potential_v, now_s())
            applied, applied_v = Value(round_to_float32(potential_v), "da"), potential_v
        yield max(0.0, begin_s + i * interval_s - now_s())
        yield Point((applied, potentiostat.read("ba", now_s())))


def _currents(request: Request, currents_a: Iterable[float], interval_s: float) -> Steps:
    potentiostat, now_s = request.potentiostat, request.now_s
    begin_s = now_s()
    applied, applied_a = Value(0.0, "db"), math.nan
    for i, current_a in enumerate(currents_a, start=1):
        if current_a != applied_a:
            potentiostat.set_current(current_a, now_s())
            applied, applied_a = Value(round_to_float32(current_a), "db"), current_a
        yield max(0.0, begin_s + i * interval_s - now_s())
        yield Point((potentiostat.read("ab", now_s()), applied))


def rest(request: Request) -> Steps:
    """`meas_loop_ocp`: interval (s), duration (s)."""
    interval_s, duration_s = request.numbers
    n_points = count_points(interval_s, duration_s)
    if request.potentiostat.cell_is_on:
        raise ScriptError(ErrorCode.CELL_IS_ON_FOR_OCP)
    return _rest(request, n_points, interval_s)


def _rest(request: Request, n_points: int, interval_s: float) -> Steps:
    potentiostat, now_s = request.potentiostat, request.now_s
    begin_s = now_s()
    for i in range(1, n_points + 1):
        yield max(0.0, begin_s + i * interval_s - now_s())
        yield Point((potentiostat.read("ab", now_s()),))
