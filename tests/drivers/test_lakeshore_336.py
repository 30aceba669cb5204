"""Dialogues from the Lake Shore 336 manual, remote interface chapter."""

import math
from contextlib import AbstractAsyncContextManager
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
from labctl.instruments.capabilities import Driver, TemperatureStage
from labctl.testing import expected_dialogue, in_virtual_time
from labctl_drivers.lakeshore_336 import LakeShore336
from labctl_drivers.lakeshore_336_wire import LakeShore336Wire

Pairs = list[tuple[str | None, str | None]]

IDENTITY: Pairs = [("", None), ("*IDN?", "LSCI,MODEL336,LSA24DE/LSA24DF,2.9")]
GUARDS: Pairs = [("*ESR?", "128"), ("OUTMODE? 1", "1,1,0")]
OPEN: Pairs = [*IDENTITY, *GUARDS]
READING = "KRDG? A;RDGST? A;SETP? 1;HTR? 1;RANGE? 1;HTRST? 1;*ESR?"
READBACK = "SETP? 1;RANGE? 1"
RAMP: Pairs = [
    ("KRDG? A;RDGST? A", "+295.123;000"),
    ("RAMP 1,0,5.000;*ESR?", "0"),
    ("SETP 1,295.123;*ESR?", "0"),
    ("RAMP 1,1,5.000;*ESR?", "0"),
    ("SETP 1,330.000;*ESR?", "0"),
    ("RANGE 1,1;*ESR?", "0"),
    (READBACK, "+295.123;1"),
]
SET: Pairs = RAMP[:-1]
HEATER_OFF: Pairs = [("RANGE 1,0;*ESR?", "0"), ("RANGE? 1;HTR? 1", "0;+000.0")]
SAFE: Pairs = [
    *HEATER_OFF,
    ("RAMP 1,0,0.100;*ESR?", "0"),
    ("KRDG? A;RDGST? A", "+310.500;000"),
    ("SETP 1,310.500;*ESR?", "0"),
    HEATER_OFF[1],
]


def stage(pairs: Pairs, **settings: Any) -> AbstractAsyncContextManager[LakeShore336]:
    return expected_dialogue(LakeShore336, [*OPEN, *pairs], name="stage", settings=settings)


def test_the_wires_questions_are_those_of_the_manual() -> None:
    pairs: Pairs = [
        ("*IDN?", "LSCI,MODEL336,LSA24DE/LSA24DF,2.9"),
        ("KRDG? A", "+295.123"),
        ("CRDG? B", "+021.973"),
        ("SRDG? C", "+1.0975"),
        ("RDGST? D", "016"),
        ("TLIMIT? A", "+473.15"),
        ("SETP? 1", "+300.000"),
        ("RAMP? 1", "1,+005.000"),
        ("RANGE? 2", "3"),
        ("HTR? 1", "+012.3"),
        ("OUTMODE? 1", "1,1,0"),
    ]
    with expected_protocol(LakeShore336Wire, pairs) as wire:
        assert wire.id == "LSCI,MODEL336,LSA24DE/LSA24DF,2.9"
        assert wire.input_A.kelvin == 295.123
        assert wire.input_B.celsius == 21.973
        assert wire.input_C.sensor == 1.0975
        assert wire.input_D.reading_status == 16
        assert wire.input_A.temperature_limit == 473.15
        assert wire.output_1.setpoint == 300.0
        assert wire.output_1.ramp == [1.0, 5.0]
        assert wire.output_2.range == "high"
        assert wire.output_1.output == 12.3
        assert wire.output_1.mode == [1, 1, 0]


def test_the_wires_settings_ask_for_the_event_status() -> None:
    pairs: Pairs = [
        ("SETP 1,310.500;*ESR?", "0"),
        ("RAMP 2,1,5.000;*ESR?", "0"),
        ("RANGE 1,2;*ESR?", "0"),
        ("OUTMODE 1,1,2,0;*ESR?", "0"),
        ("TLIMIT A,473.150;*ESR?", "0"),
        ("*ESR?", "0"),
    ]
    with expected_protocol(LakeShore336Wire, pairs) as wire:
        wire.output_1.setpoint = 310.5
        wire.output_2.ramp = (1, 5.0)
        wire.output_1.range = "medium"
        wire.output_1.mode = (1, 2, 0)
        wire.input_A.temperature_limit = 473.15
        wire.check_errors()


@pytest.mark.parametrize(
    ("bits", "words"), [("32", "no such command"), ("16", "not able"), ("48", "not able.*no such")]
)
def test_a_refused_setting_is_an_error(bits: str, words: str) -> None:
    with (
        expected_protocol(LakeShore336Wire, [("SETP 1,9999.000;*ESR?", bits)]) as wire,
        pytest.raises(DeviceError, match=words),
    ):
        wire.output_1.setpoint = 9999.0


def test_other_events_are_no_error() -> None:
    with expected_protocol(LakeShore336Wire, [("SETP 1,300.000;*ESR?", "129")]) as wire:
        wire.output_1.setpoint = 300.0


@in_virtual_time
async def test_the_driver_is_a_temperature_stage() -> None:
    async with expected_dialogue(LakeShore336, []) as driver:
        assert isinstance(driver, Driver)
        assert isinstance(driver, TemperatureStage)


@in_virtual_time
async def test_open_tells_who_answers() -> None:
    async with stage([]) as driver:
        identity = await driver.open()
    assert (identity.maker, identity.model) == ("Lake Shore", "336")
    assert (identity.serial_number, identity.firmware) == ("LSA24DE/LSA24DF", "2.9")


@in_virtual_time
@pytest.mark.parametrize("answer", ["LSCI,MODEL350,LSA1/2,1.0", "KEITHLEY,MODEL 2450,1,1", "%"])
async def test_open_refuses_another_instrument_and_says_which(answer: str) -> None:
    async with expected_dialogue(LakeShore336, [("", None), ("*IDN?", answer)]) as driver:
        with pytest.raises(WrongInstrumentError) as caught:
            await driver.open()
    assert answer in str(caught.value)


@in_virtual_time
async def test_open_says_that_nothing_answers() -> None:
    async with expected_dialogue(LakeShore336, [("", None), *[("*IDN?", None)] * 3]) as driver:
        with pytest.raises(UnreachableError, match="nothing answers"):
            await driver.open()


@in_virtual_time
async def test_open_binds_the_output_to_the_input() -> None:
    pairs: Pairs = [
        *IDENTITY,
        ("*ESR?", "0"),
        ("OUTMODE? 2", "0,1,1"),
        ("OUTMODE 2,1,3,0;*ESR?", "0"),
        ("OUTMODE? 2", "1,3,0"),
    ]
    settings = {"input": "C", "output": 2}
    async with expected_dialogue(LakeShore336, pairs, settings=settings) as driver:
        await driver.open()


@in_virtual_time
async def test_open_hands_the_temperature_limit_to_the_controller() -> None:
    pairs: Pairs = [("TLIMIT A,473.150;*ESR?", "0"), ("TLIMIT? A", "+473.1")]
    async with stage(pairs, max_temperature="200 degC") as driver:
        await driver.open()


@in_virtual_time
@pytest.mark.parametrize("readback", ["+1505.0", "+0.0"])
async def test_open_fails_if_the_controller_did_not_take_the_limit(readback: str) -> None:
    pairs: Pairs = [("TLIMIT A,473.150;*ESR?", "0"), ("TLIMIT? A", readback)]
    async with stage(pairs, max_temperature="200 degC") as driver:
        with pytest.raises(DeviceError, match="temperature limit"):
            await driver.open()


@in_virtual_time
async def test_a_reading_is_one_message() -> None:
    async with stage([(READING, "+295.123;000;+300.000;+012.3;0;0;000")]) as driver:
        await driver.open()
        reading = await driver.read()
    assert (reading.temperature_k, reading.setpoint_k) == (295.123, 300.0)
    assert (reading.heater_percent, reading.status_bits) == (12.3, 0)


@in_virtual_time
@pytest.mark.parametrize("bits", [1, 16, 32, 64, 128, 17])
async def test_a_reading_that_is_not_valid_has_no_temperature(bits: int) -> None:
    async with stage([(READING, f"+0.00000;{bits:03d};+300.000;+012.3;0;0;0")]) as driver:
        await driver.open()
        reading = await driver.read()
    assert math.isnan(reading.temperature_k)
    assert reading.status_bits == bits


GARBLED = [
    "+295.123;000;+300.000",
    "%%;000;+1;+1;0;0;0",
    "+1;x;+1;+1;0;0;0",
    "+1;0;+1;+1;0;0;%",
    "",
]
WHOLE = "+295.123;000;+300.000;+012.3;0;0;000"


@in_virtual_time
@pytest.mark.parametrize("reply", GARBLED)
async def test_a_reading_garbled_three_times_is_an_error_that_holds_the_reply(reply: str) -> None:
    async with stage([(READING, reply)] * 3) as driver:
        await driver.open()
        with pytest.raises(ReplyError):
            await driver.read()


@in_virtual_time
@pytest.mark.parametrize("reply", [None, *GARBLED])
async def test_a_reading_lost_or_garbled_is_asked_for_again(reply: str | None) -> None:
    async with stage([(READING, reply), (READING, reply), (READING, WHOLE)]) as driver:
        await driver.open()
        assert (await driver.read()).temperature_k == 295.123


@in_virtual_time
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("0;0;0", r"heater range reads 0 instead of 1 \(low\)"),
        ("2;0;0", "heater range reads 2"),
        ("1;1;0", "the heater's load is open"),
        ("1;2;0", "the heater's load is shorted"),
        ("1;0;128", "its power went off"),
    ],
)
async def test_heating_that_is_lost_is_told(state: str, words: str) -> None:
    async with stage([*RAMP, (READING, f"+295.123;000;+300.000;+012.3;{state}")]) as driver:
        await driver.open()
        await driver.ramp_to(330.0, rate_k_per_min=5.0)
        with pytest.raises(DeviceError, match=words):
            await driver.read()


@in_virtual_time
async def test_a_heater_that_nobody_switched_on_may_be_off() -> None:
    async with stage([(READING, WHOLE), *RAMP, *SAFE, (READING, WHOLE)]) as driver:
        await driver.open()
        await driver.read()
        await driver.ramp_to(330.0, rate_k_per_min=5.0)
        await driver.safe_state()
        await driver.read()


@in_virtual_time
async def test_lost_power_stays_told_until_the_controller_is_opened_again() -> None:
    told = (READING, "+295.123;000;+300.000;+000.0;0;0;128")
    pairs: Pairs = [told, (READING, WHOLE), *SAFE, *OPEN, (READING, WHOLE)]
    async with stage(pairs) as driver:
        await driver.open()
        for _ in range(2):
            with pytest.raises(DeviceError, match="its power went off"):
                await driver.read()
        await driver.safe_state()
        await driver.close()
        await driver.open()
        await driver.read()


@in_virtual_time
@pytest.mark.parametrize("at", [1, 4])
async def test_nothing_is_heated_after_power_was_lost(at: int) -> None:
    said = [*SET[:at], (SET[at][0], "128"), *SET[at + 1 : -1]]
    async with stage([*said, *HEATER_OFF]) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="its power went off"):
            await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
async def test_silence_is_an_error_after_three_attempts() -> None:
    lost: Pairs = [(READING, None)]
    async with stage(lost * 3) as driver:
        await driver.open()
        with pytest.raises(ReplyTimeoutError):
            await driver.read()


@in_virtual_time
async def test_a_ramp_begins_at_the_present_temperature() -> None:
    async with stage(RAMP) as driver:
        await driver.open()
        await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
async def test_a_setpoint_may_read_back_as_the_target() -> None:
    async with stage([*SET, (READBACK, "+330.000;1")]) as driver:
        await driver.open()
        await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
@pytest.mark.parametrize("readback", ["+0.000;1", "+331.000;1", "+295.123;0", "+295.123;3"])
async def test_a_ramp_that_does_not_read_back_leaves_the_heater_off(readback: str) -> None:
    async with stage([*SET, (READBACK, readback), *HEATER_OFF]) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="reads"):
            await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
@pytest.mark.parametrize("answer", [None, "%"])
async def test_the_heater_is_told_to_go_on_once_and_read_back(answer: str | None) -> None:
    async with stage([*SET[:-1], (SET[-1][0], answer), RAMP[-1]]) as driver:
        await driver.open()
        await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
async def test_nothing_is_heated_on_a_sensor_that_reads_nothing() -> None:
    async with stage([("KRDG? A;RDGST? A", "+0.00000;001"), *HEATER_OFF]) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="invalid reading"):
            await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
async def test_a_refused_ramp_leaves_the_heater_off() -> None:
    pairs: Pairs = [*RAMP[:3], *[("RAMP 1,1,5.000;*ESR?", "16")] * 2, *HEATER_OFF]
    async with stage(pairs) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="ESR 16"):
            await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
async def test_a_fault_left_by_an_earlier_query_does_not_fail_a_ramp() -> None:
    pairs: Pairs = [*RAMP[:3], ("RAMP 1,1,5.000;*ESR?", "32"), *RAMP[3:]]
    async with stage(pairs) as driver:
        await driver.open()
        await driver.ramp_to(330.0, rate_k_per_min=5.0)


@in_virtual_time
@pytest.mark.parametrize(
    ("temperature_k", "rate_k_per_min", "words"),
    [
        (474.0, 5.0, r"stage: temperature_k = 474 K: allowed are 0.3 to 473.15 K"),
        (math.nan, 5.0, "temperature_k"),
        (330.0, 0.05, r"rate_k_per_min = 0.05 K/min: allowed are 0.1 to 100 K/min"),
        (330.0, 101.0, "rate_k_per_min"),
    ],
)
async def test_a_broken_limit_is_named_and_nothing_is_sent(
    temperature_k: float, rate_k_per_min: float, words: str
) -> None:
    pairs: Pairs = [("TLIMIT A,473.150;*ESR?", "0"), ("TLIMIT? A", "+473.15")]
    async with stage(pairs, max_temperature="200 degC") as driver:
        await driver.open()
        with pytest.raises(LimitError, match=words):
            await driver.ramp_to(temperature_k, rate_k_per_min=rate_k_per_min)


@in_virtual_time
async def test_the_safe_state_is_heater_off_ramp_off_and_setpoint_at_the_temperature() -> None:
    async with stage([*SAFE, *SAFE]) as driver:
        await driver.open()
        await driver.safe_state()
        await driver.safe_state()


@in_virtual_time
async def test_the_heater_goes_off_even_if_the_sensor_reads_nothing() -> None:
    pairs: Pairs = [*SAFE[:3], ("KRDG? A;RDGST? A", "+0.00000;128"), HEATER_OFF[1]]
    async with stage(pairs) as driver:
        await driver.open()
        await driver.safe_state()


@in_virtual_time
async def test_a_garbled_answer_does_not_end_the_safe_state() -> None:
    garbled: Pairs = [("RANGE 1,0;*ESR?", "%"), HEATER_OFF[0], ("RANGE? 1;HTR? 1", "0")]
    pairs: Pairs = [*garbled, *SAFE[1:]]
    async with stage(pairs) as driver:
        await driver.open()
        await driver.safe_state()


@in_virtual_time
async def test_a_heater_that_stays_on_is_switched_off_again_and_then_an_error() -> None:
    stays: Pairs = [("RANGE 1,0;*ESR?", "0"), ("RANGE? 1;HTR? 1", "3;+100.0")]
    async with stage([*stays, *stays, *SAFE]) as driver:
        await driver.open()
        await driver.safe_state()
    async with stage(stays * 3) as driver:
        await driver.open()
        with pytest.raises(DeviceError, match="heater range reads 3"):
            await driver.safe_state()


@in_virtual_time
async def test_a_heater_that_comes_on_again_meanwhile_is_switched_off_again() -> None:
    on_again = ("RANGE? 1;HTR? 1", "1;+100.0")
    async with stage([*SAFE[:-1], on_again, *HEATER_OFF]) as driver:
        await driver.open()
        await driver.safe_state()


@in_virtual_time
async def test_an_instrument_that_is_not_open_is_unreachable() -> None:
    async with expected_dialogue(LakeShore336, []) as driver:
        for call in (driver.read, driver.safe_state):
            with pytest.raises(UnreachableError):
                await call()
        await driver.close()


@pytest.mark.parametrize(
    "table",
    [{"input": "E"}, {"output": 3}, {"heater_range": "off"}, {"max_temperature": "2 K/min"}],
)
def test_settings_that_make_no_sense_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LakeShore336.Settings(**table)
