"""A potentiostat with a multiplexer: each input leads to a cell of its own."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from labctl.clock import VirtualTimeLoop, run_on
from labctl.errors import DeviceError, LimitError
from labctl.instruments.bus import Connection
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.techniques import Eis, Frame
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr as SimulatedEmStat4Hr
from labctl_simulators.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from labctl.clock import ParkingLot
    from labctl.instruments.transport import LinkSettings

DEMO = Path(__file__).parents[2] / "simulators" / "labctl_simulators" / "demo"
SHORT = Eis(frequency_start_hz=1e3, frequency_end_hz=100.0, n_points=3, amplitude_v_rms=0.1)


def world(tmp_path: Path, wiring: str = 'cells = ["alocl", "lialcl4"]') -> World:
    """Return the demonstration's chamber with two of its pellets in it."""
    text = (DEMO / "alocl/world.toml").read_text(encoding="utf-8")
    other = (DEMO / "lialcl4/world.toml").read_text(encoding="utf-8")
    second = other[other.index("[cells.pellet]") : other.index("[instruments.")]
    text = text.replace("[cells.pellet]", "[cells.alocl]").replace('cell = "pellet"', wiring)
    path = tmp_path / "world.toml"
    path.write_text(text + second.replace("pellet", "lialcl4"), encoding="utf-8")
    return World.from_toml(path)


def resistance_ohm(frames: list[Frame]) -> float:
    return frames[-1].columns["z_real_ohm"][0]


def true_ohm(world: World, at_input: int) -> float:
    return world.cells("potentiostat")[at_input - 1].impedance(100.0, 0.0).real


def on_bench(
    instrument: SimulatedEmStat4Hr,
    use: Callable[[PalmSensEmStat4Hr], Awaitable[None]],
    multiplexer: str | None = "mux8-r2",
) -> None:
    """Use a driver, not open yet, at whose other end the instrument is."""

    async def main() -> None:
        loop = cast("VirtualTimeLoop", asyncio.get_running_loop())

        def opened(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
            return InProcessTransport("pstat", instrument, link, loop=loop, lot=lot)

        settings = PalmSensEmStat4Hr.Settings.model_validate({"multiplexer": multiplexer})
        driver = PalmSensEmStat4Hr(Connection("pstat", opened), settings)
        try:
            await use(driver)
        finally:
            await driver.close()

    run_on(VirtualTimeLoop(), main())


async def measured(driver: PalmSensEmStat4Hr) -> list[Frame]:
    async with aclosing(driver.eis(SHORT)) as frames:
        return [frame async for frame in frames]


def test_each_input_measures_its_own_cell(tmp_path: Path) -> None:
    bench = world(tmp_path)
    instrument = SimulatedEmStat4Hr(bench, "potentiostat")
    found: list[float] = []

    async def use(driver: PalmSensEmStat4Hr) -> None:
        await driver.open()
        for at_input in [driver.at_input(number) for number in (2, 1, 2)]:
            frames = await measured(at_input)
            found.append(resistance_ohm(frames))

    on_bench(instrument, use)
    expected = [true_ohm(bench, number) for number in (2, 1, 2)]
    assert found == pytest.approx(expected, rel=0.03)
    assert expected[0] > 10 * expected[1]
    assert not instrument.cell_is_on


def test_a_cell_can_be_mounted_at_an_input(tmp_path: Path) -> None:
    bench = world(tmp_path)
    bench.mount("potentiostat", "lialcl4", at_input=1)
    bench.mount("potentiostat", "alocl", at_input=2)
    swapped = world(tmp_path)
    assert true_ohm(bench, 1) == true_ohm(swapped, 2)
    assert true_ohm(bench, 2) == true_ohm(swapped, 1)


@pytest.mark.parametrize(
    ("cell", "at_input", "complaint"),
    [("licl", 1, "no cell 'licl' in this world"), ("alocl", 3, "has no input 3")],
)
def test_a_cell_or_an_input_that_is_not_there_is_named(
    tmp_path: Path, cell: str, at_input: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        world(tmp_path).mount("potentiostat", cell, at_input=at_input)


@pytest.mark.parametrize(
    ("wiring", "complaint"),
    [
        ('cells = ["alocl", "oven"]', "'oven': expected one of"),
        ("cells = []", "expected a list of cells"),
        ('cells = ["alocl"]\ncell = "alocl"', "expected `cell` or `cells`, not both"),
    ],
)
def test_a_mistake_in_the_cells_of_an_instrument_names_it(
    tmp_path: Path, wiring: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=rf"instruments\.potentiostat\.cells.*{complaint}"):
        world(tmp_path, wiring)


def test_an_instrument_without_a_multiplexer_refuses_to_switch(tmp_path: Path) -> None:
    instrument = SimulatedEmStat4Hr(world(tmp_path, 'cell = "alocl"'), "potentiostat")

    async def use(driver: PalmSensEmStat4Hr) -> None:
        await driver.open()
        with pytest.raises(DeviceError, match=r"mux_config 3i 0x0000.*001B"):
            await measured(driver.at_input(1))

    on_bench(instrument, use)


@pytest.mark.parametrize(
    ("multiplexer", "number", "complaint"),
    [
        (None, 1, "settings.multiplexer: missing; expected one of mux8, mux16, mux8-r2"),
        ("mux8", 9, "multiplexer_input = 9 : allowed are 1 to 8"),
    ],
)
def test_an_input_that_there_is_not_is_refused(
    tmp_path: Path, multiplexer: str | None, number: int, complaint: str
) -> None:
    async def use(driver: PalmSensEmStat4Hr) -> None:
        with pytest.raises(LimitError) as caught:
            driver.at_input(number)
        assert complaint in str(caught.value)

    instrument = SimulatedEmStat4Hr(world(tmp_path), "potentiostat")
    on_bench(instrument, use, multiplexer)
