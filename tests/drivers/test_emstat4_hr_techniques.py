"""The scripts of the techniques against time and of GEIS, word for word, and what comes back."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Any

import pytest

from labctl.errors import DeviceError, LimitError, ReplyError, ReplyTimeoutError
from labctl.instruments.capabilities import CanCa, CanCp, CanCv, CanGeis, CanLsv
from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv, Stop
from labctl.instruments.techniques import Frame, Geis, Ocp
from labctl.testing import expected_dialogue, in_virtual_time
from labctl_drivers.methodscript_script import literal
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr

Pairs = list[tuple[str | None, str | None]]
Any_ = Ca | Cp | Lsv | Cv | Geis | Ocp

IDLE_SYNC: Pairs = [("", ""), ("Z", "Z!0006")]
OPEN: Pairs = [
    *IDLE_SYNC,
    ("t", "tes4_hr1500#Mar 12 2026 14:28:01"),
    (None, "R*"),
    ("v", "v01.09.00"),
    ("i", "iES4HR20B0008"),
]
CELL_OFF: Pairs = [("e\ncell_off\n", "e"), (None, "")]
SAFE_WHEN_IDLE: Pairs = [*IDLE_SYNC, *CELL_OFF]
SAFE_WHEN_RUNNING: Pairs = [("", None), ("Z", "Z"), (None, "*"), (None, ""), *CELL_OFF]

SET_UP = """\
e
set_pgstat_chan 0
set_pgstat_mode {mode}
set_acquisition_frac_autoadjust 50
set_range ab 4
set_autoranging ab 4 4
"""
VARIABLES = "var t\nvar p\nvar c\nvar m\n"
PACKET = (
    " timer_get t\n pck_start\n pck_add t\n pck_add {potential}\n pck_add {current}\n pck_end\n"
)
END = "endloop\ncell_off\non_finished:\ncell_off\n"
ON = "cell_on\ntimer_start\n"

CP = Cp(current_a=1e-3, duration_s=10.0, interval_s=0.5)
CP_SCRIPT = (
    SET_UP.format(mode=6)
    + VARIABLES
    + "set_max_bandwidth 12\nset_range db 1m\nset_autoranging db 1m 1m\nset_i 0\n"
    + ON
    + "meas_loop_cp p c 1m 500m 10 add_meas(0 ba m)\n"
    + PACKET.format(potential="p", current="m")
    + END
)
CA = Ca(potential_v=-0.25, duration_s=2.0, interval_s=0.1, largest_current_a=20e-6)
CA_SCRIPT = (
    SET_UP.format(mode=3)
    + VARIABLES
    + "set_max_bandwidth 60\nset_range_minmax da -250m -250m\n"
    + "set_range ba 100u\nset_autoranging ba 100n 100m\nset_e -250m\n"
    + ON
    + "meas_loop_ca p c -250m 100m 2 add_meas(0 ab m)\n"
    + PACKET.format(potential="m", current="c")
    + END
)
LSV = Lsv(begin_v=0.5, end_v=-0.5, step_v=0.01, rate_v_per_s=0.1)
LSV_SCRIPT = (
    SET_UP.format(mode=3)
    + VARIABLES
    + "set_max_bandwidth 60\nset_range_minmax da -500m 500m\n"
    + "set_range ba 100m\nset_autoranging ba 100n 100m\nset_e 500m\n"
    + ON
    + "meas_loop_lsv p c 500m -500m 10m 100m add_meas(0 ab m)\n"
    + PACKET.format(potential="m", current="c")
    + END
)
CV = Cv(begin_v=0.0, vertex_1_v=0.5, vertex_2_v=-0.5, step_v=0.01, rate_v_per_s=0.1, n_scans=2)
CV_SCRIPT = (
    SET_UP.format(mode=3)
    + VARIABLES
    + "set_max_bandwidth 60\nset_range_minmax da -500m 500m\n"
    + "set_range ba 100m\nset_autoranging ba 100n 100m\nset_e 0\n"
    + ON
    + "meas_loop_cv p c 0 500m -500m 10m 100m nscans(2) add_meas(0 ab m)\n"
    + PACKET.format(potential="m", current="c")
    + END
)
GEIS = Geis(
    frequency_start_hz=100e3,
    frequency_end_hz=100.0,
    n_points=11,
    amplitude_a_rms=5e-3,
    bias_a=10e-3,
)
GEIS_SCRIPT = (
    SET_UP.format(mode=6)
    + """\
var f
var zr
var zi
var ea
var ed
var ia
var id
set_max_bandwidth 1M
set_range db 10m
set_autoranging db 10m 10m
set_i 0
cell_on
meas_loop_geis f zr zi 5m 100k 100 11i 10m eis_acdc(ea ed ia id)
 pck_start
 pck_add f
 pck_add zr
 pck_add zi
 pck_add ia
 pck_add ed
 pck_end
"""
    + END
)
OCP = Ocp(duration_s=3600.0, interval_s=1.0, stop_change_v=1e-3, stop_window_s=600.0)
OCP_SCRIPT = (
    SET_UP.format(mode=3)
    + """\
var t
var p
var wt
var wp
var dt
var dp
store_var wt 0 eb
set_max_bandwidth 6
cell_off
timer_start
meas_loop_ocp p 1 3600
 timer_get t
 pck_start
 pck_add t
 pck_add p
 pck_end
 if wt <= 0
  copy_var t wt
  copy_var p wp
 endif
 copy_var t dt
 sub_var dt wt
 if dt >= 599500m
  copy_var p dp
  sub_var dp wp
  if dp <= 1m
   if dp >= -1m
    breakloop
   endif
  endif
  copy_var t wt
  copy_var p wp
 endif
endloop
on_finished:
cell_off
"""
)
ALL: list[tuple[Any_, str, str]] = [
    (CP, CP_SCRIPT, "M000A"),
    (CA, CA_SCRIPT, "M0007"),
    (LSV, LSV_SCRIPT, "M0000"),
    (CV, CV_SCRIPT, "M0005"),
    (GEIS, GEIS_SCRIPT, "M000E"),
    (OCP, OCP_SCRIPT, "M000B"),
]
EACH = pytest.mark.parametrize(
    ("technique", "script", "mark"), ALL, ids=[technique.NAME for technique, _, _ in ALL]
)
GEIS_POINT = "Pdc8030D40 ;cc80509BEm,10,218;cd4F0E6CCu,10,218;cj84C4B40n,10,218;ci8393870u,10,206"
DC_POINT = "Peb80F4240u;ab8400000u,10,206;ba80F4240n,10,215"  # 1 s, 4.194304 V, 1 mA

POINTS = dict.fromkeys(("cp", "ca", "lsv", "cv"), DC_POINT)
POINTS |= {"geis": GEIS_POINT, "ocp": "Peb80F4240u;ab8400000u,10,206"}


def emstat(pairs: Pairs) -> AbstractAsyncContextManager[PalmSensEmStat4Hr]:
    return expected_dialogue(PalmSensEmStat4Hr, [*OPEN, *pairs], name="pstat", settings={})


def measured(driver: PalmSensEmStat4Hr, technique: Any_) -> AsyncGenerator[Frame, None]:
    return getattr(driver, technique.NAME)(technique)


async def points(pairs: Pairs, technique: Any_) -> list[dict[str, float]]:
    async with emstat(pairs) as driver:
        await driver.open()
        async with aclosing(measured(driver, technique)) as frames:
            return [{key: x[0] for key, x in frame.columns.items()} async for frame in frames]


def says(script: str, *lines: str) -> Pairs:
    return [(script, "e"), *((None, line) for line in lines)]


@in_virtual_time
async def test_the_driver_offers_every_technique() -> None:
    async with expected_dialogue(PalmSensEmStat4Hr, []) as driver:
        for capability in (CanGeis, CanLsv, CanCv, CanCa, CanCp):
            assert isinstance(driver, capability)


@in_virtual_time
@EACH
async def test_the_script_is_this_word_for_word(technique: Any_, script: str, mark: str) -> None:
    assert await points(says(script, mark, "*", ""), technique) == []


@in_virtual_time
@EACH
async def test_a_runtime_error_is_followed_by_a_script_that_switches_the_cell_off(
    technique: Any_, script: str, mark: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        await points([*says(script, mark, "!0032: Line 19"), *SAFE_WHEN_IDLE], technique)
    assert caught.value.code == "0032"


@in_virtual_time
@EACH
async def test_a_cancelled_caller_leaves_the_cell_off(
    technique: Any_, script: str, mark: str
) -> None:
    async with emstat([*says(script, mark, POINTS[technique.NAME]), *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()

        async def stop_at_the_first_point() -> None:
            async with aclosing(measured(driver, technique)) as frames:
                async for _ in frames:
                    raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await stop_at_the_first_point()


@in_virtual_time
@EACH
async def test_silence_is_an_error_and_leaves_the_cell_off(
    technique: Any_, script: str, mark: str
) -> None:
    with pytest.raises(ReplyTimeoutError):
        await points([*says(script, mark), *SAFE_WHEN_RUNNING], technique)


@in_virtual_time
@pytest.mark.parametrize(("technique", "script", "mark"), [*ALL[:4]])
async def test_a_packet_without_the_added_reading_is_refused(
    technique: Any_, script: str, mark: str
) -> None:
    pairs = [*says(script, mark, "Peb80F4240u;ab8400000u,10,206"), *SAFE_WHEN_RUNNING]
    with pytest.raises(ReplyError, match="expected variables in s, V, A"):
        await points(pairs, technique)


@in_virtual_time
@pytest.mark.parametrize(("technique", "script", "mark"), [*ALL[:3]])
async def test_a_point_holds_what_was_measured(technique: Any_, script: str, mark: str) -> None:
    (point,) = await points(says(script, mark, DC_POINT, "*", ""), technique)
    assert list(point) == list(technique.UNITS)
    assert point == {
        "elapsed_s": 1.0,
        "potential_v": 4.194304,
        "current_a": 1e-3,
        "charge_c": 1e-3,
        "current_range_a": 1e-3,
        "status_bits": 0.0,
    }


@in_virtual_time
async def test_the_charge_is_the_integral_of_the_measured_current_over_the_measured_time() -> None:
    lines = [
        "Peb80F4240u;ab8000000 ;ba80F4240n",  # 1 s, 1 mA
        "Peb81E8480u;ab8000000 ;ba82DC6C0n",  # 2 s, 3 mA
        "Peb83D0900u;ab8000000 ;ba7F0BDC0n",  # 4 s, -1 mA
    ]
    rows = await points(says(CP_SCRIPT, "M000A", *lines, "*", ""), CP)
    assert [row["charge_c"] for row in rows] == pytest.approx([1e-3, 3e-3, 5e-3], rel=1e-12)


@in_virtual_time
async def test_firmware_that_names_no_range_gives_a_range_of_nan() -> None:
    point = "Peb80F4240u;ab8400000u,10;ba80F4240n,12"
    (row,) = await points(says(CP_SCRIPT, "M000A", point, "*", ""), CP)
    assert math.isnan(row["current_range_a"])
    assert row["status_bits"] == 2.0


@in_virtual_time
async def test_scans_are_counted_by_their_marks() -> None:
    lines = ["M0005", "C0000", DC_POINT, DC_POINT, "-", "C0001", DC_POINT, "-", "*", ""]
    rows = await points(says(CV_SCRIPT, *lines), CV)
    assert [row["scan"] for row in rows] == [1.0, 1.0, 2.0]


@in_virtual_time
async def test_a_single_scan_has_no_marks_and_is_the_first() -> None:
    script = CV_SCRIPT.replace(" nscans(2)", "")
    rows = await points(says(script, "M0005", DC_POINT, "*", ""), replace(CV, n_scans=1))
    assert [row["scan"] for row in rows] == [1.0]


@in_virtual_time
async def test_a_galvanostatic_spectrum_gives_what_the_instrument_reports() -> None:
    (row,) = await points(says(GEIS_SCRIPT, "M000E", GEIS_POINT, "*", ""), GEIS)
    assert row == {
        "frequency_hz": 200e3,
        "z_real_ohm": 330.174,
        "z_imag_ohm": -51.32114,
        "amplitude_a_rms": 5e-3,
        "potential_v": 3.75,
        "current_range_a": 10e-3,
        "status_bits": 0.0,
        "is_repeat": 0.0,
    }


CHARGE_VARIABLES = """\
var q
var ql
var qs
var lt
var lc
var dt
var dq
store_var q 0 ja
store_var ql 0 ja
store_var lt 0 eb
"""
CHARGE_LINES = """\
 if lt <= 0
  copy_var m lc
 endif
 copy_var t dt
 sub_var dt lt
 copy_var m dq
 add_var dq lc
 mul_var dq dt
 mul_var dq 500m
 sub_var dq ql
 copy_var q qs
 add_var qs dq
 copy_var qs ql
 sub_var ql q
 sub_var ql dq
 copy_var qs q
 copy_var t lt
 copy_var m lc
 if q >= 3600m
  breakloop
 endif
 if q <= -3600m
  breakloop
 endif
"""
STOPS = [
    (Stop(potential_above_v=4.2), "", " if p >= 4200m\n  breakloop\n endif\n"),
    (Stop(potential_below_v=-0.5), "", " if p <= -500m\n  breakloop\n endif\n"),
    (
        Stop(current_above_a=2e-3),
        "",
        " if m >= 2m\n  breakloop\n endif\n if m <= -2m\n  breakloop\n endif\n",
    ),
    (
        Stop(current_below_a=50e-6),
        "",
        " if m <= 50u\n  if m >= -50u\n   breakloop\n  endif\n endif\n",
    ),
    (Stop(charge_above_c=3.6), CHARGE_VARIABLES, CHARGE_LINES),
]


@in_virtual_time
@pytest.mark.parametrize(("stop", "variables", "lines"), STOPS)
async def test_a_stop_condition_acts_on_the_instrument_behind_the_packet(
    stop: Stop, variables: str, lines: str
) -> None:
    script = CP_SCRIPT.replace("var m\n", f"var m\n{variables}")
    script = script.replace(" pck_end\n", f" pck_end\n{lines}")
    assert await points(says(script, "M000A", "*", ""), replace(CP, stop=stop)) == []


@in_virtual_time
@pytest.mark.parametrize(
    ("current_a", "largest_a", "range_text"),
    [(2e-3, None, "1m"), (2.1e-3, None, "10m"), (-0.2, None, "100m"), (1e-6, 1e-3, "1m")],
)
async def test_the_range_of_an_applied_current_holds_it(
    current_a: float, largest_a: float | None, range_text: str
) -> None:
    script = CP_SCRIPT.replace("db 1m 1m", f"db {range_text} {range_text}")
    script = script.replace("set_range db 1m", f"set_range db {range_text}")
    script = script.replace("p c 1m", f"p c {literal(current_a)}")
    technique = replace(CP, current_a=current_a, largest_current_a=largest_a)
    assert await points(says(script, "M000A", "*", ""), technique) == []


LIMITS_BROKEN: list[tuple[Any_, str]] = [
    (replace(CP, current_a=0.21), "current_a = 0.21 A: allowed are -0.2 to 0.2 A"),
    (replace(CP, interval_s=1e-4), "interval_s = 0.0001 s: allowed are 0.001 to inf s"),
    (replace(CP, duration_s=0.1), "duration_s = 0.1 s: allowed are 0.5 to inf s"),
    (
        replace(CP, stop=Stop(potential_above_v=6.5)),
        "stop.potential_above_v = 6.5 V: allowed are -6 to 6 V",
    ),
    (
        replace(CP, stop=Stop(charge_above_c=-1.0)),
        "stop.charge_above_c = -1 C: allowed are 0 to inf C",
    ),
    (replace(CA, potential_v=-6.1), "potential_v = -6.1 V: allowed are -6 to 6 V"),
    (replace(LSV, end_v=7.0), "end_v = 7 V: allowed are -6 to 6 V"),
    (replace(LSV, end_v=0.5), "end_v - begin_v = 0 V: allowed are 0.01 to inf V"),
    (
        replace(LSV, step_v=1e-4, rate_v_per_s=1e-4),
        "step_v = 0.0001 V: allowed are 0.000183105 to 12 V",
    ),
    (replace(LSV, step_v=-0.01), "step_v / rate_v_per_s = -0.1 s: allowed are 0.001 to inf s"),
    (replace(LSV, rate_v_per_s=20.0), "rate_v_per_s = 20 V/s: allowed are 1e-06 to 10 V/s"),
    (replace(CV, vertex_2_v=-6.5), "vertex_2_v = -6.5 V: allowed are -6 to 6 V"),
    (replace(CV, n_scans=0), "n_scans = 0 scans: allowed are 1 to inf scans"),
    (replace(GEIS, amplitude_a_rms=0.0), "amplitude_a_rms = 0 A: allowed are 1e-09 to 0.1 A"),
    (
        replace(GEIS, bias_a=0.2),
        "bias_a plus the sine's peak = 0.207071 A: allowed are -0.2 to 0.2 A",
    ),
    (replace(OCP, stop_window_s=0.5), "stop_window_s = 0.5 s: allowed are 1 to inf s"),
    (replace(OCP, stop_change_v=-1.0), "stop_change_v = -1 V: allowed are 0 to inf V"),
]


@in_virtual_time
@pytest.mark.parametrize(("technique", "message"), LIMITS_BROKEN)
async def test_a_broken_limit_is_named_and_nothing_is_sent(technique: Any_, message: str) -> None:
    async with emstat([]) as driver:
        await driver.open()
        with pytest.raises(LimitError) as caught:
            measured(driver, technique)
    assert str(caught.value) == f"pstat: {message} (MethodSCRIPT manual, device limits)"


def test_every_technique_is_listed_here() -> None:
    names: list[Any] = [technique.NAME for technique, _, _ in ALL]
    assert sorted([*names, "eis"]) == ["ca", "cp", "cv", "eis", "geis", "lsv", "ocp"]
