"""The EmStat4 driver when the line, the instrument or a script fails: is the cell off?

What counts is the cell switch of the simulated instrument, and not what the driver believes.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from labctl.errors import (
    DeviceError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments.bus import Connection
from labctl.instruments.techniques import Eis, Frame
from labctl.testing import in_virtual_time
from labctl_drivers.methodscript_device import MethodScriptDevice, StoppedError
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators import methodscript_measurements
from labctl_simulators.dummy_cell import resistor
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr as SimulatedEmStat4Hr
from labctl_simulators.world import World

SPECTRUM = Eis(
    frequency_start_hz=200e3,
    frequency_end_hz=1.0,
    n_points=8,
    amplitude_v_rms=0.01,
    repeats_first=True,
)
SHORT = Eis(frequency_start_hz=200e3, frequency_end_hz=1e3, n_points=3, amplitude_v_rms=0.01)

Connect = Callable[[Any], Connection]


class EmStat(SimulatedEmStat4Hr):
    """A simulated potentiostat on a resistor."""

    def __init__(self) -> None:
        instruments: dict[str, Any] = {"it": {"cell": "cell"}}
        super().__init__(
            World(seed=1, stages={}, cells={"cell": resistor(1e3)}, instruments=instruments), "it"
        )

    def say(self, line: str, now_s: float) -> None:
        """Send a line that nobody asked for."""
        self._reply(line.encode() + b"\n", due_s=now_s)


class Gluing(EmStat):
    """Firmware that sends the first line of a script's output right behind the echo."""

    _held = ""

    def _answer(self, line: str, now_s: float) -> None:
        if line == "e":
            self._held = "e"
            return
        held, self._held = self._held, ""
        if held and not line:  # the end of a script without output has a line of its own
            super()._answer(held, now_s)
            held = ""
        super()._answer(held + line, now_s)


class Chatting(EmStat):
    """Sends a packet every 10 ms for ever and does not listen to an abort."""

    is_chatting = False
    _next_s = 0.0

    def _obey(self, line: str, now_s: float) -> None:
        if not (self.is_chatting and line == "Z"):
            super()._obey(line, now_s)

    def next_due_s(self) -> float | None:
        return self._next_s if self.is_chatting else super().next_due_s()

    def transmit(self, now_s: float) -> bytes:
        said = super().transmit(now_s)
        if self.is_chatting and now_s >= self._next_s:
            self._next_s = now_s + 0.01
            said += b"Pda8000000 \n"
        return said


@asynccontextmanager
async def opened(
    connection_to: Connect, instrument: SimulatedEmStat4Hr
) -> AsyncGenerator[PalmSensEmStat4Hr, None]:
    driver = PalmSensEmStat4Hr(connection_to(instrument), PalmSensEmStat4Hr.Settings())
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


async def measured(driver: PalmSensEmStat4Hr, technique: Eis = SHORT) -> list[Frame]:
    async with aclosing(driver.eis(technique)) as points:
        return [frame async for frame in points]


def break_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every impedance measurement end with a run-time error, the cell on."""

    def refuse(request: object) -> None:
        raise ScriptError(ErrorCode.BAD_FREQUENCY)

    loops = methodscript_measurements.MEASUREMENT_LOOPS
    monkeypatch.setitem(loops, "meas_loop_eis", refuse)


def now_s() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
@pytest.mark.parametrize("firmware", [EmStat, Gluing])
async def test_a_runtime_error_leaves_the_cell_off_wherever_it_is_told(
    connection_to: Connect, monkeypatch: pytest.MonkeyPatch, firmware: type[EmStat]
) -> None:
    instrument = firmware()
    async with opened(connection_to, instrument) as driver:
        break_measurements(monkeypatch)
        with pytest.raises(DeviceError, match="frequency"):
            await measured(driver)
        await asyncio.sleep(60.0)
        assert not instrument.cell_is_on
        monkeypatch.undo()
        assert len(await measured(driver)) == SHORT.n_points


@in_virtual_time
async def test_a_script_that_is_sent_while_another_runs_leaves_the_cell_off(
    connection_to: Connect,
) -> None:
    class Deaf(EmStat):
        """Says that a script runs, which is true, and what runs is not the driver's."""

        def _begin_upload(self, line: str, now_s: float) -> None:
            super()._begin_upload(line, now_s)
            if is_disturbed.pop("once", False):
                lines = ["set_pgstat_mode 3", "set_e 0", "cell_on", "wait 1000", ""]
                for each in lines:
                    self._handle_line(each, now_s)
                self._replies.clear()
                self._refuse("e", ErrorCode.WRONG_MODE, now_s)

    is_disturbed: dict[str, bool] = {}
    instrument = Deaf()
    async with opened(connection_to, instrument) as driver:
        is_disturbed["once"] = True
        with pytest.raises(DeviceError, match="0006"):
            await measured(driver)
        assert not instrument.cell_is_on
        assert not instrument.is_running


@in_virtual_time
@pytest.mark.parametrize("n_points", range(9))
async def test_a_stray_empty_line_is_not_the_end_of_a_spectrum(
    connection_to: Connect, n_points: int
) -> None:
    instrument = EmStat()
    async with opened(connection_to, instrument) as driver:
        n_seen = 0

        async def disturbed() -> None:
            nonlocal n_seen
            if n_points == 0:
                asyncio.get_running_loop().call_later(1e-4, instrument.say, "", now_s())
            async with aclosing(driver.eis(SPECTRUM)) as points:
                async for _ in points:
                    n_seen += 1
                    if n_seen == n_points:
                        instrument.say("", now_s())

        with pytest.raises(ReplyError, match="an empty line before the script's end"):
            await disturbed()
        assert n_seen >= n_points
        assert not instrument.cell_is_on
        assert not instrument.is_running
        assert len(await measured(driver)) == SHORT.n_points


@in_virtual_time
async def test_after_a_refused_script_the_next_is_sent_when_the_instrument_hears_again(
    connection_to: Connect,
) -> None:
    instrument = EmStat()
    connection = connection_to(instrument)
    driver = PalmSensEmStat4Hr(connection, PalmSensEmStat4Hr.Settings())
    await driver.open()
    device = MethodScriptDevice(connection, cell_off=("cell_off",))
    with pytest.raises(DeviceError, match="unknown script command"):
        await anext(device.run(("fail",), timeout_after=lambda _: 1.0))
    began_s = now_s()
    run = device.run(('send_string "hello"',), timeout_after=lambda _: 1.0)
    assert [packet async for packet in run] == []
    assert now_s() - began_s < 1.0
    await driver.close()


@in_virtual_time
async def test_an_instrument_that_never_stops_talking_is_given_up_in_time(
    connection_to: Connect,
) -> None:
    instrument = Chatting()
    async with opened(connection_to, instrument) as driver:
        instrument.is_chatting = True
        began_s = now_s()
        with pytest.raises((ReplyTimeoutError, ReplyError)):
            await driver.safe_state()
        assert now_s() - began_s <= 31.0
        instrument.is_chatting = False
        await driver.safe_state()


@in_virtual_time
async def test_opening_on_an_instrument_that_never_stops_talking_ends_in_time(
    connection_to: Connect,
) -> None:
    instrument = Chatting()
    instrument.is_chatting = True
    driver = PalmSensEmStat4Hr(connection_to(instrument), PalmSensEmStat4Hr.Settings())
    began_s = now_s()
    with pytest.raises(WrongInstrumentError, match="Pda8000000"):
        await driver.open()
    assert now_s() - began_s <= 16.0


@in_virtual_time
@pytest.mark.parametrize("delay_s", [0.3, 0.8, 1.9, 2.0, 2.5, 3.0, 3.5, 4.15, 4.9])
async def test_an_instrument_that_answers_late_is_made_safe(
    connection_to: Connect, delay_s: float
) -> None:
    instrument = EmStat()
    async with opened(connection_to, instrument) as driver:
        points = driver.eis(SPECTRUM)
        await anext(points)
        assert instrument.cell_is_on
        instrument.set_faults(now_s(), delay_replies_s=delay_s)
        began_s = now_s()
        await driver.safe_state()
        assert now_s() - began_s < 30.0
        assert not instrument.cell_is_on
        assert not instrument.is_running
        await points.aclose()


@in_virtual_time
async def test_a_silent_instrument_is_given_up_in_time(connection_to: Connect) -> None:
    instrument = EmStat()
    async with opened(connection_to, instrument) as driver:
        instrument.set_faults(now_s(), refuse=True)
        began_s = now_s()
        with pytest.raises(ReplyTimeoutError):
            await driver.safe_state()
        assert now_s() - began_s < 30.0


@in_virtual_time
async def test_a_line_that_was_cut_is_opened_again_and_the_cell_switched_off(
    connection_to: Connect,
) -> None:
    slow = Eis(frequency_start_hz=1.0, frequency_end_hz=0.01, n_points=5, amplitude_v_rms=0.01)
    instrument = EmStat()
    async with opened(connection_to, instrument) as driver:
        points = driver.eis(slow)
        await anext(points)
        instrument.set_faults(now_s(), hung_up=True)
        with pytest.raises(UnreachableError):
            await anext(points)
        instrument.set_faults(now_s(), hung_up=False)
        with pytest.raises(UnreachableError):
            await driver.safe_state()
        assert instrument.cell_is_on
        await driver.close()
        await driver.open()
        await driver.safe_state()
        assert not instrument.cell_is_on
        assert len(await measured(driver)) == SHORT.n_points


@in_virtual_time
async def test_a_measurement_whose_line_was_opened_anew_meanwhile_says_that_it_was_ended(
    connection_to: Connect,
) -> None:
    instrument = EmStat()
    async with opened(connection_to, instrument) as driver:
        points = driver.eis(SPECTRUM)
        await anext(points)
        await driver.close()
        await driver.open()
        with pytest.raises(StoppedError):
            await anext(points)
        assert not instrument.is_running
        assert len(await measured(driver)) == SHORT.n_points


@in_virtual_time
async def test_the_potential_s_range_is_not_taken_for_the_current_s(connection_to: Connect) -> None:
    class Older(EmStat):
        """Firmware that names the range of the potential and none of the current."""

        def _answer(self, line: str, now_s: float) -> None:
            if line.startswith("P"):
                *parts, last = line.split(";")
                bare = [part.split(",")[0] for part in parts]
                line = ";".join([*bare, last.split(",")[0] + ",10,206"])
            super()._answer(line, now_s)

    instrument = Older()
    async with opened(connection_to, instrument) as driver:
        frames = await measured(driver)
    assert len(frames) == SHORT.n_points
    assert all(math.isnan(frame.columns["current_range_a"][0]) for frame in frames)
