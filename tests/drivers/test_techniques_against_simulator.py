"""Techniques against time and GEIS, driver against simulated instrument, in virtual time."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from labctl.errors import DeviceError
from labctl.instruments.bus import Connection
from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv, Stop
from labctl.instruments.in_process import WireDevice
from labctl.instruments.techniques import Frame, Geis, Ocp
from labctl.testing import in_virtual_time
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.dummy_cell import DummyCell, resistor
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr as SimulatedEmStat4Hr
from labctl_simulators.world import World

Connect = Callable[[WireDevice], Connection]
Points = list[dict[str, float]]
OVERLOAD, UNDERLOAD = 2, 4


@dataclass
class Bench:
    """A simulated potentiostat on a cell and an open driver at its other end."""

    instrument: SimulatedEmStat4Hr
    driver: PalmSensEmStat4Hr

    def measured(self, technique: Any) -> AsyncGenerator[Frame, None]:
        return getattr(self.driver, technique.NAME)(technique)

    async def points(self, technique: Any) -> Points:
        async with aclosing(self.measured(technique)) as frames:
            return [{key: x[0] for key, x in frame.columns.items()} async for frame in frames]


@asynccontextmanager
async def bench(connection_to: Connect, cell: DummyCell, **settings: Any) -> AsyncGenerator[Bench]:
    wiring: dict[str, Any] = {"it": {"cell": "c", "noise_fraction": 1e-3}}
    world = World(seed=1, stages={}, cells={"c": cell}, instruments=wiring)
    instrument = SimulatedEmStat4Hr(world, "it")
    driver = PalmSensEmStat4Hr(connection_to(instrument), PalmSensEmStat4Hr.Settings(**settings))
    await driver.open()
    try:
        yield Bench(instrument, driver)
    finally:
        await driver.close()


def battery(*, farad: float = 10.0, ohm: float = 10.0) -> DummyCell:
    return DummyCell(series_ohm=ohm, parallel_ohm=math.inf, capacitance_f=farad, rest_v=3.0)


def column(points: Points, name: str) -> list[float]:
    return [point[name] for point in points]


CP = Cp(current_a=5e-3, duration_s=600.0, interval_s=10.0)
CA = Ca(potential_v=3.5, duration_s=300.0, interval_s=5.0)
LSV = Lsv(begin_v=3.0, end_v=3.2, step_v=5e-3, rate_v_per_s=1e-3)
CV = Cv(begin_v=3.0, vertex_1_v=3.05, vertex_2_v=2.95, step_v=5e-3, rate_v_per_s=1e-3, n_scans=2)
OCP = Ocp(duration_s=60.0, interval_s=1.0)
GEIS = Geis(
    frequency_start_hz=10e3, frequency_end_hz=1.0, n_points=5, amplitude_a_rms=1e-3, bias_a=1e-3
)
ALL = pytest.mark.parametrize("technique", [CP, CA, LSV, CV, OCP, GEIS], ids=lambda x: x.NAME)


@in_virtual_time
@ALL
async def test_there_are_as_many_points_as_expected(connection_to: Connect, technique: Any) -> None:
    async with bench(connection_to, battery()) as it:
        points = await it.points(technique)
        assert len(points) == technique.expected_points
        assert list(points[0]) == list(technique.UNITS)
        assert not it.instrument.cell_is_on


@in_virtual_time
@pytest.mark.parametrize(
    ("begin_v", "end_v", "step_v"),
    [(0.0, 1.0, 0.1), (1.0, 0.0, 0.1), (0.0, 1.0, 0.3), (-0.35, 0.35, 0.007), (0.0, 0.01, 0.01)],
)
async def test_a_sweep_has_both_its_ends(
    connection_to: Connect, begin_v: float, end_v: float, step_v: float
) -> None:
    sweep = Lsv(begin_v=begin_v, end_v=end_v, step_v=step_v, rate_v_per_s=step_v / 0.1)
    async with bench(connection_to, resistor(1e3)) as it:
        potentials_v = column(await it.points(sweep), "potential_v")
    assert len(potentials_v) == sweep.expected_points
    assert potentials_v[0] == pytest.approx(begin_v, abs=2e-4)
    assert abs(potentials_v[-1] - end_v) < step_v * 0.51 + 2e-4


@in_virtual_time
async def test_a_cycle_turns_at_its_vertices_and_closes(connection_to: Connect) -> None:
    async with bench(connection_to, battery()) as it:
        points = await it.points(CV)
    for scan in (1.0, 2.0):
        potentials_v = [point["potential_v"] for point in points if point["scan"] == scan]
        assert len(potentials_v) == CV.expected_points / 2
        assert potentials_v[0] == pytest.approx(3.0, abs=2e-4)
        assert potentials_v[10] == max(potentials_v) == pytest.approx(3.05, abs=2e-4)
        assert potentials_v[30] == min(potentials_v) == pytest.approx(2.95, abs=2e-4)
        assert potentials_v[-1] == pytest.approx(3.0, abs=2e-4)


@in_virtual_time
async def test_a_current_charges_the_cell_and_the_charge_is_counted(connection_to: Connect) -> None:
    async with bench(connection_to, battery()) as it:
        points = await it.points(CP)
    for point in points:
        charge_c = CP.current_a * point["elapsed_s"]
        assert point["current_a"] == pytest.approx(CP.current_a, rel=1e-4)
        assert point["charge_c"] == pytest.approx(charge_c, rel=1e-4)
        assert point["potential_v"] == pytest.approx(3.05 + charge_c / 10.0, abs=2e-4)
        assert point["current_range_a"] == 10e-3
        assert point["status_bits"] == 0


@in_virtual_time
async def test_a_potential_gives_the_current_of_the_cell(connection_to: Connect) -> None:
    async with bench(connection_to, battery()) as it:
        points = await it.points(CA)
    for point in points:
        current_a = 0.05 * math.exp(-point["elapsed_s"] / 100.0)
        assert point["current_a"] == pytest.approx(current_a, rel=1e-3)
        assert point["potential_v"] == pytest.approx(3.5, abs=2e-4)
    # Trapezoids over steps of a twentieth of the time constant; before the first a rectangle.
    true_c = 5.0 * (1 - math.exp(-points[-1]["elapsed_s"] / 100.0))
    assert points[-1]["charge_c"] == pytest.approx(true_c, rel=5e-3)


@in_virtual_time
async def test_the_current_range_follows_the_current(connection_to: Connect) -> None:
    sweep = Lsv(begin_v=0.0, end_v=5.0, step_v=0.05, rate_v_per_s=0.5, largest_current_a=1e-6)
    async with bench(connection_to, resistor(1e3)) as it:
        points = await it.points(sweep)
        back = await it.points(replace(sweep, begin_v=5.0, end_v=0.0, largest_current_a=None))
    assert sorted(set(column(points, "current_range_a"))) == [1e-6, 100e-6, 1e-3, 10e-3]
    assert column(points, "current_range_a") == sorted(column(points, "current_range_a"))
    assert not any(int(bits) & OVERLOAD for bits in column(points, "status_bits"))
    assert back[0]["current_range_a"] == 100e-3
    assert int(back[0]["status_bits"]) & UNDERLOAD
    assert back[1]["current_range_a"] == 10e-3
    for point in points[1:] + back[:-1]:
        assert point["current_a"] == pytest.approx(point["potential_v"] / 1e3, rel=1e-2)


@in_virtual_time
async def test_a_small_current_in_a_high_range_is_noisier(connection_to: Connect) -> None:
    async def scatter(largest_a: float) -> float:
        held = Cp(current_a=1e-6, duration_s=50.0, largest_current_a=largest_a)
        async with bench(connection_to, resistor(1e3)) as it:
            values_a = column(await it.points(held), "current_a")
        return max(values_a) - min(values_a)

    assert await scatter(1e-3) > 30 * await scatter(1e-6)


@in_virtual_time
async def test_a_galvanostatic_spectrum_is_that_of_the_cell(connection_to: Connect) -> None:
    cell = DummyCell(rest_v=0.25)
    wide = replace(GEIS, amplitude_a_rms=10e-6, bias_a=20e-6, n_points=9, repeats_first=True)
    async with bench(connection_to, cell) as it:
        points = await it.points(wide)
    assert column(points, "is_repeat") == [0.0] * 9 + [1.0]
    for point in points:
        z = complex(point["z_real_ohm"], point["z_imag_ohm"])
        assert z == pytest.approx(cell.impedance(point["frequency_hz"], 0.0), rel=0.01)
        assert point["amplitude_a_rms"] == pytest.approx(10e-6, rel=0.1)
        # the bias through both resistors, once the capacitor is charged
        assert point["potential_v"] == pytest.approx(0.25 + 20e-6 * 10645.0, abs=2e-3)


STOPPED: list[tuple[Any, str]] = [
    (replace(CP, stop=Stop(potential_above_v=3.203)), "potential above 3.203 V"),
    (replace(CP, current_a=-5e-3, stop=Stop(potential_below_v=2.803)), "potential below 2.803 V"),
    (replace(CP, stop=Stop(charge_above_c=1.72)), "charge above 1.72 C"),
    (replace(CP, current_a=-5e-3, stop=Stop(charge_above_c=1.72)), "charge above 1.72 C"),
    (replace(CA, stop=Stop(current_below_a=20e-3)), "current below 0.02 A"),
    (replace(CA, potential_v=2.5, stop=Stop(current_below_a=20e-3)), "current below 0.02 A"),
    (replace(LSV, stop=Stop(current_above_a=5.2e-3)), "current above 0.0052 A"),
    (replace(LSV, end_v=2.8, stop=Stop(current_above_a=5.2e-3)), "current above 0.0052 A"),
    (replace(CV, stop=Stop(potential_below_v=2.968)), "potential below 2.968 V"),
]


@in_virtual_time
@pytest.mark.parametrize(("technique", "reason"), STOPPED)
async def test_a_stop_condition_ends_it_on_the_first_point_that_fulfils_it(
    connection_to: Connect, technique: Any, reason: str
) -> None:
    async with bench(connection_to, battery()) as it:
        points = await it.points(technique)
        assert not it.instrument.cell_is_on
        assert not it.instrument.is_running
    assert 1 < len(points) < technique.expected_points
    assert technique.ended_by(points[-1]) == reason
    assert [technique.ended_by(point) for point in points[:-1]] == [""] * (len(points) - 1)


@in_virtual_time
async def test_the_condition_acts_without_a_host(connection_to: Connect) -> None:
    stopping = replace(CP, stop=Stop(potential_above_v=3.203))
    async with bench(connection_to, battery()) as it, aclosing(it.measured(stopping)) as frames:
        await anext(frames)
        await asyncio.sleep(CP.duration_s)  # nobody reads
        it.instrument.advance(asyncio.get_running_loop().time())
        assert not it.instrument.cell_is_on
        assert not it.instrument.is_running
        last = [frame async for frame in frames][-1]
    assert stopping.ended_by({key: x[0] for key, x in last.columns.items()})


@in_virtual_time
async def test_host_and_instrument_agree_whatever_the_limit(connection_to: Connect) -> None:
    draw = random.Random(7)
    async with bench(connection_to, resistor(1e3)) as it:
        for _ in range(60):
            size_v = 10.0 ** draw.uniform(-2.0, 0.7)
            limit_v = float(f"{size_v:.{draw.randint(3, 9)}g}")
            sweep = Lsv(
                begin_v=limit_v - 2e-3,
                end_v=limit_v + 2e-3,
                step_v=2e-4,
                rate_v_per_s=2e-3,
                stop=Stop(potential_above_v=limit_v),
            )
            points = await it.points(sweep)
            assert len(points) < sweep.expected_points
            assert sweep.ended_by(points[-1]), limit_v
            late = [point for point in points[:-1] if point["potential_v"] > limit_v * 1.00002]
            assert late == []


@in_virtual_time
async def test_a_rest_ends_once_the_potential_has_come_to_rest(connection_to: Connect) -> None:
    relaxing = DummyCell(series_ohm=10.0, parallel_ohm=100.0, capacitance_f=1.0, rest_v=3.0)
    rest = Ocp(duration_s=3600.0, interval_s=1.0, stop_change_v=5e-3, stop_window_s=60.0)
    async with bench(connection_to, relaxing) as it:
        await it.points(Cp(current_a=5e-3, duration_s=600.0, interval_s=10.0))
        points = await it.points(rest)
    # 0.5 V exp(-t / 100 s): a window of 60 s sees less than 5 mV from t = 380 s on
    assert points[-1]["elapsed_s"] == pytest.approx(481.0, abs=61.0)
    assert (len(points) - 1) % 60 == 0
    change_v = points[-61]["potential_v"] - points[-1]["potential_v"]
    assert abs(change_v) <= 5e-3
    assert rest.ended_by(points[-1]) == "changed by less than 0.005 V in 60 s"


@in_virtual_time
async def test_a_cell_beyond_the_compliance_gets_less_charge_than_was_asked(
    connection_to: Connect,
) -> None:
    asked = Cp(current_a=10e-3, duration_s=60.0, interval_s=1.0)
    async with bench(connection_to, resistor(2e3)) as it:
        points = await it.points(asked)
    assert column(points, "current_a") == pytest.approx([4e-3] * 60, rel=1e-3)
    assert points[-1]["charge_c"] == pytest.approx(0.24, rel=1e-3)
    assert all(int(bits) & OVERLOAD for bits in column(points, "status_bits"))


@in_virtual_time
async def test_a_current_beyond_the_instrument_is_flagged(connection_to: Connect) -> None:
    async with bench(connection_to, resistor(10.0)) as it:
        points = await it.points(Ca(potential_v=5.0, duration_s=5.0))
    assert column(points, "potential_v") == pytest.approx([2.0] * 5, abs=1e-3)
    assert column(points, "current_a") == pytest.approx([0.2] * 5, rel=1e-3)
    assert all(int(bits) & OVERLOAD for bits in column(points, "status_bits"))


@in_virtual_time
@ALL
async def test_it_streams_point_by_point(connection_to: Connect, technique: Any) -> None:
    loop = asyncio.get_running_loop()
    async with bench(connection_to, battery()) as it:
        times_s = []
        async with aclosing(it.measured(technique)) as frames:
            async for frame in frames:
                assert frame.n_points == 1
                times_s.append(loop.time())
    assert all(later > earlier for earlier, later in pairwise(times_s))


@in_virtual_time
@ALL
async def test_cancelled_at_any_instant_it_leaves_the_cell_off(
    connection_to: Connect, technique: Any
) -> None:
    async with bench(connection_to, battery()) as it:
        begins_s = asyncio.get_running_loop().time()
        await it.points(technique)
        duration_s = asyncio.get_running_loop().time() - begins_s
        was_on = 0
        for i in range(12):
            task = asyncio.ensure_future(it.points(technique))
            await asyncio.sleep(duration_s * i / 12)
            was_on += it.instrument.cell_is_on
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not it.instrument.cell_is_on
            assert not it.instrument.is_running
        assert was_on > 8 or technique is OCP


@in_virtual_time
@ALL
async def test_a_runtime_error_is_told_and_leaves_the_cell_off(
    connection_to: Connect, technique: Any
) -> None:
    async with bench(connection_to, battery(), channel=9) as it:
        with pytest.raises(DeviceError, match="set_pgstat_chan 9"):
            await it.points(technique)
        assert not it.instrument.cell_is_on


@in_virtual_time
async def test_a_minute_between_two_points_is_no_silence(connection_to: Connect) -> None:
    slow = Cp(current_a=1e-3, duration_s=3600.0, interval_s=60.0)
    async with bench(connection_to, battery()) as it:
        assert len(await it.points(slow)) == 60
