"""Dialogues from the PalmSens communication protocol and MethodSCRIPT manuals."""

import asyncio
import math
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from pymeasure.test import expected_protocol

from labctl.errors import (
    DeviceError,
    LimitError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments.capabilities import CanEis, CanOcp, Driver
from labctl.instruments.techniques import Eis, Frame, Ocp
from labctl.testing import expected_dialogue, in_virtual_time
from labctl_drivers.methodscript_device import StoppedError
from labctl_drivers.palmsens_emstat4_hr import EmStat4HrWire, PalmSensEmStat4Hr

Pairs = list[tuple[str | None, str | None]]

IDLE_SYNC: Pairs = [("", ""), ("Z", "Z!0006")]
IDENTITY: Pairs = [
    ("t", "tes4_hr1100#Jan 28 2022 11:04:43"),
    (None, "R*"),
    ("v", "v01.09.00"),
    ("i", "iES4HR20B0008"),
]
OPEN: Pairs = [*IDLE_SYNC, *IDENTITY]
CELL_OFF: Pairs = [("e\ncell_off\n", "e"), (None, "")]
SAFE_WHEN_IDLE: Pairs = [*IDLE_SYNC, *CELL_OFF]
SAFE_WHEN_RUNNING: Pairs = [("", None), ("Z", "Z"), (None, "*"), (None, ""), *CELL_OFF]

EIS = Eis(frequency_start_hz=200e3, frequency_end_hz=20.0, n_points=2, amplitude_v_rms=0.01)
EIS_SCRIPT = """\
e
set_pgstat_chan 0
set_pgstat_mode 3
set_acquisition_frac_autoadjust 50
set_range ab 4
set_autoranging ab 4 4
var f
var zr
var zi
var ea
var ed
var ia
var id
set_max_bandwidth 1M
set_range_minmax da 0 0
set_range ba 100u
set_autoranging ba 100n 100m
set_e 0
cell_on
meas_loop_eis f zr zi 10m 200k 20 2i 0 eis_acdc(ea ed ia id)
 pck_start
 pck_add f
 pck_add zr
 pck_add zi
 pck_add ea
 pck_add ed
 pck_end
endloop
cell_off
on_finished:
cell_off
"""
POINT = "Pdc8030D40 ;cc80509BEm,10,218;cd4F0E6CCu,14,218;ch8748770n;ci8000000 "
NAN_POINT = "PdcAFAF080m;cc     nan,12,21B;cd     nan,12,21B;ch8748770n;ci8000000 "
OLD_FIRMWARE_POINT = "Pdc8030D40 ;cc80509BEm,10;cd4F0E6CCu,10;ch8748770n;ci8000000 "
EIS_RUNS: Pairs = [(EIS_SCRIPT, "e"), (None, "M000D")]
EMPTY_LOOP: Pairs = [(None, "M000D"), (None, "*"), (None, "")]

OCP = Ocp(duration_s=2.0, interval_s=0.1)
OCP_SCRIPT = """\
e
set_pgstat_chan 0
set_pgstat_mode 3
set_acquisition_frac_autoadjust 50
set_range ab 4
set_autoranging ab 4 4
var t
var p
set_max_bandwidth 60
cell_off
timer_start
meas_loop_ocp p 100m 2
 timer_get t
 pck_start
 pck_add t
 pck_add p
 pck_end
endloop
on_finished:
cell_off
"""


def emstat(pairs: Pairs, **settings: Any) -> AbstractAsyncContextManager[PalmSensEmStat4Hr]:
    return expected_dialogue(PalmSensEmStat4Hr, [*OPEN, *pairs], name="pstat", settings=settings)


async def frames(driver: PalmSensEmStat4Hr, technique: Eis | Ocp = EIS) -> list[Frame]:
    run = driver.eis(technique) if isinstance(technique, Eis) else driver.ocp(technique)
    async with aclosing(run) as points:
        return [frame async for frame in points]


def only_point(frame: Frame) -> dict[str, float]:
    assert frame.n_points == 1
    return {name: column[0] for name, column in frame.columns.items()}


def test_the_wire_gives_the_identification_without_echoes() -> None:
    with expected_protocol(EmStat4HrWire, IDENTITY) as wire:
        assert wire.firmware == "es4_hr1100#Jan 28 2022 11:04:43 R*"
        assert wire.methodscript_version == "01.09.00"
        assert wire.serial_number == "ES4HR20B0008"


def test_the_wire_refuses_a_reply_without_the_echo() -> None:
    with (
        expected_protocol(EmStat4HrWire, [("i", "xES4HR20B0008")]) as wire,
        pytest.raises(ReplyError, match="xES4HR20B0008"),
    ):
        _ = wire.serial_number


def test_the_wire_turns_an_error_into_words() -> None:
    with (
        expected_protocol(EmStat4HrWire, [("v", "v!0006")]) as wire,
        pytest.raises(DeviceError, match="0006"),
    ):
        _ = wire.methodscript_version


@in_virtual_time
async def test_the_driver_offers_impedance_and_open_circuit() -> None:
    async with expected_dialogue(PalmSensEmStat4Hr, []) as driver:
        assert isinstance(driver, Driver)
        assert isinstance(driver, CanEis)
        assert isinstance(driver, CanOcp)


@in_virtual_time
async def test_open_tells_who_answers() -> None:
    async with emstat([]) as driver:
        identity = await driver.open()
    assert (identity.maker, identity.model) == ("PalmSens", "EmStat4 HR")
    assert (identity.serial_number, identity.firmware) == ("ES4HR20B0008", "1.1.00")
    assert identity.extra["methodscript"] == "01.09.00"


@in_virtual_time
async def test_open_stops_a_script_that_an_earlier_process_left() -> None:
    left: Pairs = [
        ("", None),
        (None, POINT),
        ("Z", "Z"),
        (None, "*"),
        (None, "+"),
        (None, ""),
    ]
    async with expected_dialogue(PalmSensEmStat4Hr, [*left, *IDENTITY]) as driver:
        await driver.open()


@in_virtual_time
async def test_open_refuses_another_potentiostat_and_says_which() -> None:
    pairs: Pairs = [*IDLE_SYNC, ("t", "tespico1304#Oct 22 2021 14:38:26"), (None, "R*")]
    async with expected_dialogue(PalmSensEmStat4Hr, pairs) as driver:
        with pytest.raises(WrongInstrumentError, match="espico1304"):
            await driver.open()


@in_virtual_time
async def test_open_refuses_something_that_is_no_methodscript_device() -> None:
    what = "-113,Undefined header"
    pairs: Pairs = [("", None), ("Z", what)] * 3
    async with expected_dialogue(PalmSensEmStat4Hr, pairs) as driver:
        with pytest.raises(WrongInstrumentError, match=what):
            await driver.open()


@in_virtual_time
async def test_open_says_that_nothing_answers() -> None:
    silence = [("", None), ("Z", None)] * 3 + [("*IDN?", None)]
    async with expected_dialogue(PalmSensEmStat4Hr, silence) as driver:
        with pytest.raises(UnreachableError, match="nothing answers"):
            await driver.open()


@in_virtual_time
async def test_close_may_be_called_at_any_time() -> None:
    async with emstat([]) as driver:
        await driver.close()
        await driver.open()
        await driver.close()
        await driver.close()


@in_virtual_time
async def test_a_spectrum_gives_what_the_instrument_reports() -> None:
    pairs: Pairs = [*EIS_RUNS, (None, POINT), (None, POINT), (None, "*"), (None, "")]
    async with emstat(pairs) as driver:
        await driver.open()
        first, second = await frames(driver)
    assert list(first.columns) == list(Eis.UNITS)
    assert only_point(first) == pytest.approx(
        {
            "frequency_hz": 200e3,
            "z_real_ohm": 330.174,
            "z_imag_ohm": -51.32114,
            "amplitude_v_rms": 7.636848e-3,
            "bias_v": 0.0,
            "current_range_a": 10e-3,
            "status_bits": 4.0,
            "is_repeat": 0.0,
        },
        rel=1e-12,
    )
    assert second == first


@in_virtual_time
async def test_a_frame_leaves_as_soon_as_its_packet_is_there() -> None:
    async with emstat([*EIS_RUNS, (None, POINT), *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()
        async with aclosing(driver.eis(EIS)) as points:
            assert (await anext(points)).n_points == 1


@in_virtual_time
async def test_a_point_of_nan_passes_with_its_status() -> None:
    pairs: Pairs = [*EIS_RUNS, (None, NAN_POINT), (None, "*"), (None, "")]
    async with emstat(pairs) as driver:
        await driver.open()
        (frame,) = await frames(driver)
    point = only_point(frame)
    assert math.isnan(point["z_real_ohm"])
    assert math.isnan(point["z_imag_ohm"])
    assert (point["frequency_hz"], point["status_bits"]) == (50e3, 2.0)


@in_virtual_time
async def test_firmware_that_tells_no_range_gives_a_range_of_nan() -> None:
    pairs: Pairs = [*EIS_RUNS, (None, OLD_FIRMWARE_POINT), (None, "*"), (None, "")]
    async with emstat(pairs) as driver:
        await driver.open()
        (frame,) = await frames(driver)
    assert math.isnan(only_point(frame)["current_range_a"])


@in_virtual_time
async def test_the_repeat_is_a_second_loop_with_the_cell_still_on() -> None:
    again = EIS_SCRIPT.replace(
        "cell_off\non_finished",
        EIS_SCRIPT[EIS_SCRIPT.index("meas_loop") : EIS_SCRIPT.index("cell_off")].replace(
            "200k 20 2i", "200k 200k 1i"
        )
        + "cell_off\non_finished",
    )
    output = ["M000D", POINT, POINT, "*", "M000D", POINT, "*", ""]
    async with emstat([(again, "e"), *((None, line) for line in output)]) as driver:
        await driver.open()
        points = [only_point(frame) for frame in await frames(driver, _repeating(EIS))]
    assert [point["is_repeat"] for point in points] == [0.0, 0.0, 1.0]


@in_virtual_time
async def test_bias_amplitude_mains_and_channel_reach_the_script() -> None:
    script = EIS_SCRIPT
    for old, new in [
        ("set_pgstat_chan 0", "set_pgstat_chan 1"),
        ("autoadjust 50", "autoadjust 60"),
        ("da 0 0", "da 1250m 1250m"),
        ("set_e 0", "set_e 1250m"),
        ("10m 200k 20 2i 0", "12300u 200k 20 2i 1250m"),
        ("set_range ba 100u", "set_range ba 1m"),
    ]:
        assert old in script
        script = script.replace(old, new)
    pairs: Pairs = [(script, "e"), *EMPTY_LOOP]
    async with emstat(pairs, channel=1, mains_frequency="60 Hz") as driver:
        await driver.open()
        technique = Eis(
            frequency_start_hz=200e3,
            frequency_end_hz=20.0,
            n_points=2,
            amplitude_v_rms=0.0123,
            bias_v=1.25,
        )
        assert await frames(driver, technique) == []


@in_virtual_time
async def test_echo_and_first_line_may_come_glued() -> None:
    pairs: Pairs = [(EIS_SCRIPT, "eM000D"), (None, POINT), (None, "*"), (None, "")]
    async with emstat(pairs) as driver:
        await driver.open()
        assert len(await frames(driver)) == 1


@in_virtual_time
async def test_text_and_generic_loops_in_the_output_are_no_points() -> None:
    lines = ["L", "Thello world!", "M000D", POINT, "*", "+", ""]
    async with emstat([(EIS_SCRIPT, "e"), *((None, line) for line in lines)]) as driver:
        await driver.open()
        assert len(await frames(driver)) == 1


@in_virtual_time
async def test_open_circuit_potential_against_time() -> None:
    lines = ["M000B", "Peb80186A0u;ab8001000u,10,206", "*", ""]
    async with emstat([(OCP_SCRIPT, "e"), *((None, line) for line in lines)]) as driver:
        await driver.open()
        (frame,) = await frames(driver, OCP)
    assert frame.columns == {"elapsed_s": [0.1], "potential_v": [4096e-6], "status_bits": [0.0]}


@in_virtual_time
async def test_a_syntax_error_quotes_the_offending_line() -> None:
    async with emstat([(EIS_SCRIPT, "e!4001: Line 19, Col 1")]) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="line 19 column 1: 'meas_loop_eis f") as caught:
            await frames(driver)
    assert caught.value.code == "4001"


@in_virtual_time
async def test_a_refused_script_needs_no_second_one() -> None:
    pairs: Pairs = [(EIS_SCRIPT, "e!4001: Line 19, Col 1"), (OCP_SCRIPT, "e"), *EMPTY_LOOP]
    async with emstat(pairs) as driver:
        await driver.open()
        with pytest.raises(DeviceError):
            await frames(driver)
        assert await frames(driver, OCP) == []


@in_virtual_time
@pytest.mark.parametrize("error", ["e!0011: Line 19", "e!0006", "e!0032: Line 19"])
async def test_an_error_behind_the_echo_that_names_no_column_switches_the_cell_off(
    error: str,
) -> None:
    async with emstat([(EIS_SCRIPT, error), *SAFE_WHEN_IDLE]) as driver:
        await driver.open()
        with pytest.raises(DeviceError) as caught:
            await frames(driver)
    assert caught.value.code == error[2:6]


@in_virtual_time
async def test_a_cell_that_does_not_go_off_because_a_script_runs_is_tried_again() -> None:
    busy: Pairs = [*IDLE_SYNC, ("e\ncell_off\n", "e!0006")]
    async with emstat([*busy, *SAFE_WHEN_IDLE]) as driver:
        await driver.open()
        await driver.safe_state()


STRAY = [
    [""],
    ["M000D", ""],
    ["M000D", POINT, ""],
    ["L", "M000D", POINT, "*", ""],
    ["M000D", "C0000", POINT, "-", ""],
]


@in_virtual_time
@pytest.mark.parametrize("lines", STRAY)
async def test_an_empty_line_before_the_end_switches_the_cell_off(lines: list[str]) -> None:
    output: Pairs = [(None, line) for line in lines]
    async with emstat([(EIS_SCRIPT, "e"), *output, *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()
        with pytest.raises(ReplyError, match="an empty line before the script's end"):
            await frames(driver)


@in_virtual_time
@pytest.mark.parametrize("blank_line_follows", [False, True])
async def test_a_runtime_error_switches_the_cell_off_by_a_second_script(
    blank_line_follows: bool,
) -> None:
    after: Pairs = [(None, "")] if blank_line_follows else []
    error: Pairs = [(None, "!0032: Line 19")]
    async with emstat([*EIS_RUNS, (None, POINT), *error, *after, *SAFE_WHEN_IDLE]) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match=r"critical overload.*line 19") as caught:
            await frames(driver)
    assert caught.value.code == "0032"


@in_virtual_time
async def test_a_caller_who_stops_early_leaves_the_cell_off() -> None:
    async with emstat([*EIS_RUNS, (None, POINT), *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()
        async with aclosing(driver.eis(EIS)) as points:
            async for _ in points:
                break


@in_virtual_time
async def test_a_cancelled_caller_leaves_the_cell_off() -> None:
    async with emstat([*EIS_RUNS, (None, POINT), *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()

        async def stop_at_the_first_point() -> None:
            async with aclosing(driver.eis(EIS)) as points:
                async for _ in points:
                    raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await stop_at_the_first_point()


@in_virtual_time
async def test_silence_is_an_error_and_leaves_the_cell_off() -> None:
    async with emstat([*EIS_RUNS, *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()
        with pytest.raises(ReplyTimeoutError):
            await frames(driver)


@in_virtual_time
@pytest.mark.parametrize(
    "line",
    [
        POINT.rstrip(),  # the trailing space is data
        POINT.replace("cc80509BEm", "cc80509Bm"),
        POINT.replace("cc", "ba"),
        "Pdc8030D40 ",
        "?garbage?",
    ],
)
async def test_a_line_that_makes_no_sense_is_kept_and_leaves_the_cell_off(line: str) -> None:
    async with emstat([*EIS_RUNS, (None, line), *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()
        with pytest.raises(ReplyError) as caught:
            await frames(driver)
    assert caught.value.reply == line


@in_virtual_time
async def test_the_abort_is_tried_again_when_its_echo_is_lost() -> None:
    lost: Pairs = [("", None), ("Z", None)]
    async with emstat([*lost, *SAFE_WHEN_IDLE]) as driver:
        await driver.open()
        await driver.safe_state()


@in_virtual_time
async def test_a_garbled_answer_does_not_end_the_safe_state() -> None:
    garbled: Pairs = [*IDLE_SYNC, ("e\ncell_off\n", "%")]
    async with emstat([*garbled, *SAFE_WHEN_IDLE]) as driver:
        await driver.open()
        await driver.safe_state()


@in_virtual_time
async def test_a_cell_that_cannot_be_confirmed_off_is_an_error() -> None:
    refused: Pairs = [*IDLE_SYNC, ("e\ncell_off\n", "e!001B: Line 1, Col 1")]
    async with emstat(refused * 4) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="'cell_off'"):
            await driver.cell_off()


@in_virtual_time
async def test_safe_state_is_idempotent() -> None:
    async with emstat([*SAFE_WHEN_IDLE, *SAFE_WHEN_IDLE]) as driver:
        await driver.open()
        await driver.safe_state()
        await driver.safe_state()


@in_virtual_time
async def test_a_measurement_that_was_made_safe_meanwhile_says_so() -> None:
    async with emstat([*EIS_RUNS, (None, POINT), *SAFE_WHEN_RUNNING]) as driver:
        await driver.open()
        async with aclosing(driver.eis(EIS)) as points:
            await anext(points)
            await driver.safe_state()
            with pytest.raises(StoppedError):
                await anext(points)


@in_virtual_time
async def test_a_new_measurement_stops_one_that_was_left_behind() -> None:
    pairs: Pairs = [*EIS_RUNS, (None, POINT), *SAFE_WHEN_RUNNING, (OCP_SCRIPT, "e"), *EMPTY_LOOP]
    async with emstat(pairs) as driver:
        await driver.open()
        left_behind = driver.eis(EIS)
        await anext(left_behind)
        assert await frames(driver, OCP) == []
        await left_behind.aclose()


LIMITS_BROKEN: list[tuple[str, float, str]] = [
    ("frequency_start_hz", 201e3, "frequency_start_hz = 201000 Hz: allowed are 1e-05 to 200000 Hz"),
    ("frequency_end_hz", 1e-6, "frequency_end_hz = 1e-06 Hz: allowed are 1e-05 to 200000 Hz"),
    ("frequency_end_hz", math.nan, "frequency_end_hz = nan Hz: allowed are 1e-05 to 200000 Hz"),
    ("amplitude_v_rms", 1.0, "amplitude_v_rms = 1 V: allowed are 0.001 to 0.9 V"),
    ("amplitude_v_rms", 0.0, "amplitude_v_rms = 0 V: allowed are 0.001 to 0.9 V"),
    ("bias_v", -6.0, "bias_v less the sine's peak = -6.01414 V: allowed are -6 to 6 V"),
    ("n_points", 0, "n_points = 0 points: allowed are 1 to inf points"),
]


@in_virtual_time
@pytest.mark.parametrize(("key", "value", "message"), LIMITS_BROKEN)
async def test_a_broken_limit_is_named_and_nothing_is_sent(
    key: str, value: float, message: str
) -> None:
    async with emstat([]) as driver:
        await driver.open()
        with pytest.raises(LimitError) as caught:
            driver.eis(replace(EIS, **{key: value}))
    assert str(caught.value) == f"pstat: {message} (MethodSCRIPT manual, device limits)"


@in_virtual_time
@pytest.mark.parametrize(("duration_s", "interval_s"), [(10.0, 0.0), (1.0, 2.0), (10.0, -1.0)])
async def test_open_circuit_with_impossible_times_is_refused(
    duration_s: float, interval_s: float
) -> None:
    async with emstat([]) as driver:
        await driver.open()
        with pytest.raises(LimitError):
            driver.ocp(Ocp(duration_s=duration_s, interval_s=interval_s))


@pytest.mark.parametrize(
    "table", [{"mains_frequency": "55 Hz"}, {"mains_frequency": 50}, {"channel": -1}, {"x": 1}]
)
def test_settings_that_make_no_sense_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PalmSensEmStat4Hr.Settings(**table)


def _repeating(technique: Eis) -> Eis:
    return replace(technique, repeats_first=True)
