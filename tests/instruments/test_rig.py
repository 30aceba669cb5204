"""The rig: instruments built from a file, opened together, made safe together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from labctl.clock import VirtualTimeLoop, run_on
from labctl.config import load_rig
from labctl.errors import BadInputError, UnreachableError, UnsafeError, WrongInstrumentError
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.quantities import kelvin
from labctl_simulators.lakeshore_336 import LakeShore336
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from labctl_simulators.device import SimulatedInstrument


class Bench:
    """A rig file and the simulated instruments at the ends of its lines."""

    def __init__(self, folder: Path) -> None:
        world = World.from_toml(folder / "world.toml")
        self.file = folder / "rig.toml"
        self.devices: dict[str, SimulatedInstrument] = {
            "potentiostat": PalmSensEmStat4Hr(world, "potentiostat"),
            "stage": LakeShore336(world, "stage"),
        }

    def rig(self) -> Rig:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        return Rig(
            load_rig(self.file),
            "cell-1",
            source="rig.toml",
            opener_for=lambda name, _: (
                lambda link, lot: InProcessTransport(
                    name, self.devices[name], link, loop=loop, lot=lot
                )
            ),
        )

    def virtually(self, use: Callable[[Rig], Awaitable[object]]) -> None:
        async def main() -> None:
            await use(self.rig())

        run_on(VirtualTimeLoop(), main())


@pytest.fixture
def bench(tmp_path: Path, write_bench: Callable[..., Path]) -> Bench:
    return Bench(write_bench(tmp_path))


def test_opening_tells_who_answers(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        identities = await rig.open()
        await rig.close()
        assert list(identities) == ["potentiostat", "stage"]
        assert identities["potentiostat"].model == "EmStat4 HR"
        assert identities["stage"].serial_number.startswith("LSA24DE")

    bench.virtually(use)


def test_limits_are_the_tighter_of_instrument_and_file(
    bench: Bench, change_toml: Callable[[Path, Mapping[str, str]], None]
) -> None:
    change_toml(bench.file, {"temperature_max": '"120 degC"', "rate_max": '"3 K/min"'})

    async def use(rig: Rig) -> None:
        limits = rig.channel.limits
        assert limits.temperature_k == pytest.approx((0.3, kelvin(120.0)))
        assert limits.rate_k_per_min == (0.1, 3.0)
        assert limits.frequency_hz[1] == 200e3

    bench.virtually(use)


def test_setpoints_beyond_the_stage_s_own_guard_are_not_to_be_allowed(
    bench: Bench, change_toml: Callable[[Path, Mapping[str, str]], None]
) -> None:
    change_toml(bench.file, {"temperature_max": '"201 degC"'})

    async def use(_: Rig) -> None:
        pytest.fail("the rig was built")

    with pytest.raises(BadInputError, match=r"temperature_max = 201 degC: .* at most 200 degC"):
        bench.virtually(use)


def test_an_instrument_in_a_role_that_it_cannot_play_is_refused(bench: Bench) -> None:
    text = bench.file.read_text()
    bench.file.write_text(text.replace('stage = "stage"', 'stage = "potentiostat"'))

    async def use(_: Rig) -> None:
        pytest.fail("the rig was built")

    with pytest.raises(BadInputError, match=r"rig\.toml: channels\.cell-1\.stage = 'potentiostat'"):
        bench.virtually(use)


def test_one_instrument_that_cannot_be_opened_closes_the_others(bench: Bench, left_behind) -> None:
    bench.devices["stage"].faults.hung_up = True

    async def use(rig: Rig) -> None:
        with pytest.raises(UnreachableError, match="stage: the line is cut"):
            await rig.open()

    bench.virtually(use)
    assert left_behind() == []


def test_another_instrument_that_answers_is_shown_as_it_answers(bench: Bench, left_behind) -> None:
    bench.devices["stage"] = bench.devices["potentiostat"]
    bench.devices["potentiostat"] = Bench(bench.file.parent).devices["potentiostat"]

    async def use(rig: Rig) -> None:
        with pytest.raises(WrongInstrumentError, match=r"stage: no Lake Shore 336, but '\*!0003'"):
            await rig.open()

    bench.virtually(use)
    assert left_behind() == []


def test_an_instrument_that_does_not_let_go_keeps_no_other_open(bench, left_behind, monkeypatch):
    async def use(rig: Rig) -> None:
        await rig.open()
        first = next(iter(rig.drivers.values()))
        close = first.close

        async def stuck() -> None:
            await close()
            raise OSError("does not let go")

        monkeypatch.setattr(first, "close", stuck)
        with pytest.raises(OSError, match="does not let go"):
            await rig.close()

    bench.virtually(use)
    assert left_behind() == []


def test_closing_twice_is_harmless(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        await rig.open()
        await rig.close()
        await rig.close()

    bench.virtually(use)


def test_an_instrument_that_is_lost_does_not_keep_the_other_from_being_made_safe(
    bench: Bench,
) -> None:
    async def use(rig: Rig) -> None:
        await rig.open()
        await rig.channel.stage.ramp_to(kelvin(50.0), rate_k_per_min=2.0)
        bench.devices["potentiostat"].faults.hung_up = True
        told = await rig.safe_state(timeout_s=30.0)
        assert told == {"potentiostat": "potentiostat: the line is cut", "stage": ""}
        assert (await rig.channel.stage.read()).heater_percent == 0.0
        await rig.close()

    bench.virtually(use)


def test_another_instrument_on_the_new_line_is_not_taken_for_the_lost_one(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        await rig.open()
        bench.devices["stage"].faults.hung_up = True
        bench.devices["stage"] = Bench(bench.file.parent).devices["potentiostat"]
        told = await rig.safe_state(timeout_s=30.0)
        assert told["stage"].startswith("stage: no Lake Shore 336, but ")
        await rig.close()

    bench.virtually(use)


def test_opening_makes_safe_what_answers_even_where_another_does_not(
    bench: Bench, left_behind
) -> None:
    stage = bench.devices["stage"]
    stage.connect(0.0)
    stage.receive(b"SETP 1,350;RANGE 1,3\n", 0.0)
    bench.devices["potentiostat"].faults.hung_up = True

    async def use(rig: Rig) -> None:
        with pytest.raises(UnreachableError, match="potentiostat: the line is cut"):
            await rig.open_safe(timeout_s=30.0)
        stage.receive(b"RANGE? 1\n", asyncio.get_running_loop().time())
        assert stage.transmit(asyncio.get_running_loop().time() + 1.0) == b"0\r\n"

    bench.virtually(use)
    assert left_behind() == []


def test_opening_refuses_what_cannot_be_made_safe(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        with pytest.raises(UnsafeError, match="NOT SAFE, nothing was started: potentiostat: not"):
            await rig.open_safe(timeout_s=0.01)

    bench.virtually(use)


def test_the_safe_state_ends_in_time_whatever_an_instrument_does(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        await rig.open()
        for device in bench.devices.values():
            device.faults.refuse = True
        began_s = asyncio.get_running_loop().time()
        told = await rig.safe_state(timeout_s=30.0)
        assert asyncio.get_running_loop().time() - began_s < 61.0
        assert told["stage"].startswith("stage: nothing answers: ")
        assert told["potentiostat"].startswith("potentiostat: ")
        await rig.close()

    bench.virtually(use)


def test_a_safe_state_that_takes_too_long_is_not_safe(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        await rig.open()
        bench.devices["stage"].faults.delay_replies_s = 0.4
        told = await rig.safe_state(timeout_s=0.5)
        assert told["stage"] == "stage: not safe within 0.5 s"
        await rig.close()

    bench.virtually(use)


def test_the_safe_state_may_be_asked_for_again(bench: Bench) -> None:
    async def use(rig: Rig) -> None:
        await rig.open()
        for _ in range(3):
            assert await rig.safe_state(timeout_s=30.0) == {"potentiostat": "", "stage": ""}
        await rig.close()

    bench.virtually(use)
