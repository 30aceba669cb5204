"""The drivers against the simulated instruments, byte by byte, in virtual time."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from labctl.clock import ParkingLot, VirtualTimeLoop
from labctl.errors import (
    DeviceError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
)
from labctl.instruments.bus import Connection
from labctl.instruments.in_process import InProcessTransport, WireDevice
from labctl.instruments.techniques import Eis, Frame, Ocp
from labctl.instruments.transport import LinkSettings
from labctl.testing import in_virtual_time
from labctl_drivers.lakeshore_336 import LakeShore336
from labctl_drivers.methodscript_device import StoppedError
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.dummy_cell import DummyCell
from labctl_simulators.lakeshore_336 import LakeShore336 as SimulatedLakeShore336
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr as SimulatedEmStat4Hr
from labctl_simulators.world import World

ALOCL = Path(__file__).parents[2] / "simulators" / "labctl_simulators" / "demo/alocl/world.toml"
SPECTRUM = Eis(
    frequency_start_hz=200e3,
    frequency_end_hz=1.0,
    n_points=8,
    amplitude_v_rms=0.01,
    repeats_first=True,
)
SHORT = Eis(frequency_start_hz=200e3, frequency_end_hz=1e3, n_points=3, amplitude_v_rms=0.01)


@dataclass
class Bench:
    """A simulated potentiostat on a dummy cell and an open driver at its other end."""

    instrument: SimulatedEmStat4Hr
    driver: PalmSensEmStat4Hr

    async def measure(self, technique: Eis | Ocp) -> list[Frame]:
        driver = self.driver
        run = driver.eis(technique) if isinstance(technique, Eis) else driver.ocp(technique)
        async with aclosing(run) as points:
            return [frame async for frame in points]


def connection_to(name: str, device: WireDevice) -> Connection:
    loop = cast("VirtualTimeLoop", asyncio.get_running_loop())

    def open_transport(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
        return InProcessTransport(name, device, link, loop=loop, lot=lot)

    return Connection(name, open_transport)


def simulated_emstat() -> SimulatedEmStat4Hr:
    instruments: dict[str, Any] = {"pstat": {"cell": "dummy"}}
    world = World(
        seed=1, stages={}, cells={"dummy": DummyCell(rest_v=0.25)}, instruments=instruments
    )
    return SimulatedEmStat4Hr(world, "pstat")


@asynccontextmanager
async def emstat_bench() -> AsyncGenerator[Bench, None]:
    instrument = simulated_emstat()
    settings = PalmSensEmStat4Hr.Settings()
    driver = PalmSensEmStat4Hr(connection_to("pstat", instrument), settings)
    await driver.open()
    try:
        yield Bench(instrument, driver)
    finally:
        await driver.close()


@asynccontextmanager
async def lakeshore_bench(
    **settings: Any,
) -> AsyncGenerator[tuple[SimulatedLakeShore336, LakeShore336], None]:
    instrument = SimulatedLakeShore336(World.from_toml(ALOCL), "stage")
    connection = connection_to("stage", instrument)
    driver = LakeShore336(connection, LakeShore336.Settings(heater_range="high", **settings))
    await driver.open()
    try:
        yield instrument, driver
    finally:
        await driver.close()


def column(frames: list[Frame], name: str) -> list[float]:
    return [frame.columns[name][0] for frame in frames]


@in_virtual_time
async def test_a_spectrum_is_that_of_the_dummy_cell() -> None:
    async with emstat_bench() as bench:
        frames = await bench.measure(SPECTRUM)
    assert len(frames) == SPECTRUM.expected_points
    assert column(frames, "is_repeat") == [0.0] * 8 + [1.0]
    assert column(frames, "frequency_hz") == pytest.approx(
        [*SPECTRUM.frequencies_hz(), 200e3], rel=0.01
    )
    cell = DummyCell(rest_v=0.25)
    for frame in frames:
        point = {name: values[0] for name, values in frame.columns.items()}
        z = complex(point["z_real_ohm"], point["z_imag_ohm"])
        expected = cell.impedance(point["frequency_hz"], 0.0)
        assert z == pytest.approx(expected, rel=0.03)
        assert point["z_imag_ohm"] < 0
        assert point["amplitude_v_rms"] == pytest.approx(0.01, rel=0.3)


@in_virtual_time
async def test_the_open_circuit_potential_is_that_of_the_cell() -> None:
    async with emstat_bench() as bench:
        frames = await bench.measure(Ocp(duration_s=5.0, interval_s=0.5))
        assert not bench.instrument.cell_is_on
    assert len(frames) == 10
    assert column(frames, "potential_v") == pytest.approx([0.25] * 10, abs=1e-3)
    assert column(frames, "elapsed_s") == pytest.approx([0.5 * i for i in range(1, 11)], abs=0.6)


@in_virtual_time
async def test_the_cell_is_on_only_while_a_spectrum_is_measured() -> None:
    async with emstat_bench() as bench:
        assert not bench.instrument.cell_is_on
        async with aclosing(bench.driver.eis(SPECTRUM)) as points:
            async for _ in points:
                assert bench.instrument.cell_is_on or not bench.instrument.is_running
        assert not bench.instrument.cell_is_on


@in_virtual_time
async def test_a_spectrum_cancelled_at_any_instant_leaves_the_cell_off() -> None:
    async with emstat_bench() as bench:
        begins_s = asyncio.get_running_loop().time()
        await bench.measure(SPECTRUM)
        duration_s = asyncio.get_running_loop().time() - begins_s
        was_on = 0
        for i in range(60):
            task = asyncio.ensure_future(bench.measure(SPECTRUM))
            await asyncio.sleep(duration_s * i / 60)
            was_on += bench.instrument.cell_is_on
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not bench.instrument.cell_is_on
            assert not bench.instrument.is_running
            assert len(await bench.measure(SHORT)) == SHORT.expected_points
        assert was_on > 40


@in_virtual_time
async def test_a_spectrum_cancelled_after_any_number_of_loop_turns_leaves_the_cell_off() -> None:
    async with emstat_bench() as bench:
        for n_turns in range(80):
            task = asyncio.ensure_future(bench.measure(SHORT))
            for _ in range(n_turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert not bench.instrument.cell_is_on
            assert not bench.instrument.is_running
        assert len(await bench.measure(SHORT)) == SHORT.expected_points


@in_virtual_time
async def test_a_second_cancellation_does_not_cut_the_abort_short() -> None:
    async with emstat_bench() as bench:
        for delay_s in (0.0, 0.05, 0.11, 0.15, 0.21):
            task = asyncio.ensure_future(bench.measure(SPECTRUM))
            await asyncio.sleep(2.0)
            assert bench.instrument.cell_is_on
            task.cancel()
            await asyncio.sleep(delay_s)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert not bench.instrument.cell_is_on


@in_virtual_time
async def test_an_abort_takes_less_than_a_second_even_at_low_frequency() -> None:
    slow = Eis(frequency_start_hz=0.001, frequency_end_hz=0.0005, n_points=2, amplitude_v_rms=0.01)
    async with emstat_bench() as bench:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(bench.measure(slow))
        await asyncio.sleep(1000.0)
        assert bench.instrument.cell_is_on
        begins_s = loop.time()
        task.cancel()
        await asyncio.wait({task})
        assert loop.time() - begins_s < 1.0
        assert not bench.instrument.cell_is_on


@in_virtual_time
async def test_a_caller_who_leaves_the_loop_leaves_the_cell_off() -> None:
    async with emstat_bench() as bench:
        points = bench.driver.eis(SPECTRUM)
        async for _ in points:
            break
        assert bench.instrument.cell_is_on
        await points.aclose()
        assert not bench.instrument.cell_is_on
        assert len(await bench.measure(SHORT)) == SHORT.expected_points


@in_virtual_time
async def test_a_measurement_nobody_reads_any_more_gives_way_to_the_next() -> None:
    async with emstat_bench() as bench:
        async for _ in bench.driver.eis(SPECTRUM):
            break
        assert len(await bench.measure(SHORT)) == SHORT.expected_points
        assert not bench.instrument.cell_is_on


@in_virtual_time
async def test_the_safe_state_ends_a_measurement_that_another_task_reads() -> None:
    slow = Eis(frequency_start_hz=0.001, frequency_end_hz=0.0005, n_points=2, amplitude_v_rms=0.01)
    async with emstat_bench() as bench:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(bench.measure(slow))
        await asyncio.sleep(1000.0)
        begins_s = loop.time()
        await bench.driver.safe_state()
        assert loop.time() - begins_s < 1.0
        assert not bench.instrument.cell_is_on
        with pytest.raises(StoppedError):
            await task
        assert not bench.instrument.cell_is_on
        assert len(await bench.measure(SHORT)) == SHORT.expected_points


@in_virtual_time
async def test_a_script_left_by_a_dead_process_is_stopped() -> None:
    instrument = simulated_emstat()
    loop = asyncio.get_running_loop()
    lines = "e\nvar f\nvar r\nvar j\nset_pgstat_chan 0\nset_pgstat_mode 3\nset_e 0\ncell_on\n"
    lines += "meas_loop_eis f r j 10m 1 1m 9i 0\npck_start\npck_add f\npck_end\nendloop\n\n"
    instrument.connect(loop.time())
    instrument.receive(lines.encode(), loop.time())
    await asyncio.sleep(100.0)
    instrument.disconnect(loop.time())
    assert instrument.cell_is_on
    driver = PalmSensEmStat4Hr(connection_to("pstat", instrument), PalmSensEmStat4Hr.Settings())
    await driver.open()
    assert not instrument.is_running
    await driver.safe_state()
    assert not instrument.cell_is_on
    await driver.close()


@in_virtual_time
@pytest.mark.parametrize("rubbish", [b"%&!", b"e\nvar x\n", b"e\ncell_on\n", b"\n\n\n", b"l\n"])
async def test_the_safe_state_works_whatever_was_sent_before(rubbish: bytes) -> None:
    async with emstat_bench() as bench:
        loop = asyncio.get_running_loop()
        begins_s = loop.time()
        bench.instrument.receive(rubbish, begins_s)
        await bench.driver.safe_state()
        assert loop.time() - begins_s < 1.0
        assert not bench.instrument.cell_is_on
        assert len(await bench.measure(SHORT)) == SHORT.expected_points


@in_virtual_time
async def test_silence_is_noticed_after_thirty_periods() -> None:
    slow = Eis(frequency_start_hz=1.0, frequency_end_hz=0.1, n_points=2, amplitude_v_rms=0.01)
    async with emstat_bench() as bench:
        loop = asyncio.get_running_loop()
        async with aclosing(bench.driver.eis(slow)) as points:
            await anext(points)
            begins_s = loop.time()
            bench.instrument.faults.refuse = True
            with pytest.raises(ReplyTimeoutError):
                await anext(points)
        waited_s = loop.time() - begins_s
        assert 303.0 <= waited_s <= 303.0 + 60.0


@in_virtual_time
@pytest.mark.parametrize("n_garbled", [1, 2, 3])
async def test_garbled_answers_leave_the_cell_off(n_garbled: int) -> None:
    async with emstat_bench() as bench:
        async with aclosing(bench.driver.eis(SPECTRUM)) as points:
            await anext(points)
            bench.instrument.faults.garble_replies = n_garbled
            with pytest.raises(ReplyError):
                async for _ in points:
                    pass
        assert not bench.instrument.cell_is_on
        assert len(await bench.measure(SHORT)) == SHORT.expected_points


@in_virtual_time
@pytest.mark.parametrize("n_lost", range(1, 6))
async def test_lost_answers_do_not_keep_the_cell_on(n_lost: int) -> None:
    async with emstat_bench() as bench:
        points = bench.driver.eis(SPECTRUM)
        await anext(points)
        bench.instrument.faults.drop_replies = n_lost
        await bench.driver.safe_state()
        assert not bench.instrument.cell_is_on
        await points.aclose()


@in_virtual_time
async def test_a_cut_line_is_unreachable() -> None:
    async with emstat_bench() as bench:
        points = bench.driver.eis(SPECTRUM)
        await anext(points)
        bench.instrument.faults.hung_up = True
        with pytest.raises(UnreachableError):
            await anext(points)


@in_virtual_time
async def test_what_the_instrument_refuses_is_told_with_the_line_of_the_script() -> None:
    instrument = simulated_emstat()
    settings = PalmSensEmStat4Hr.Settings(channel=9)
    driver = PalmSensEmStat4Hr(connection_to("pstat", instrument), settings)
    await driver.open()
    with pytest.raises(DeviceError, match="set_pgstat_chan 9"):
        await anext(driver.eis(SHORT))
    assert not instrument.cell_is_on
    await driver.close()


@in_virtual_time
async def test_a_stage_is_ramped_and_made_safe() -> None:
    async with lakeshore_bench(max_temperature="200 degC") as (_, driver):
        before = await driver.read()
        await driver.ramp_to(310.0, rate_k_per_min=1.0)
        await asyncio.sleep(600.0)
        during = await driver.read()
        assert during.temperature_k > before.temperature_k + 2.0
        assert during.setpoint_k == pytest.approx(before.temperature_k + 10.0, abs=0.1)
        assert during.heater_percent > 0
        await asyncio.sleep(4 * 3600.0)
        assert (await driver.read()).temperature_k == pytest.approx(310.0, abs=0.2)
        await driver.safe_state()
        after = await driver.read()
    assert after.heater_percent == 0.0
    assert after.setpoint_k == pytest.approx(after.temperature_k, abs=0.1)


@in_virtual_time
@pytest.mark.parametrize("n_lost", [1, 2])
async def test_lost_answers_of_the_controller_are_asked_for_again(n_lost: int) -> None:
    async with lakeshore_bench() as (instrument, driver):
        instrument.faults.drop_replies = n_lost
        assert math.isfinite((await driver.read()).temperature_k)
        instrument.faults.garble_replies = n_lost
        assert math.isfinite((await driver.read()).temperature_k)


@in_virtual_time
async def test_a_late_answer_is_not_taken_for_the_next() -> None:
    async with lakeshore_bench() as (instrument, driver):
        instrument.faults.delay_replies_s = 2.0
        with pytest.raises(ReplyTimeoutError):
            await driver.read()
        instrument.faults.delay_replies_s = 0.0
        await asyncio.sleep(2.0)
        await driver.ramp_to(310.0, rate_k_per_min=1.0)
        await driver.safe_state()
        assert (await driver.read()).heater_percent == 0.0
