"""The Lake Shore driver when the line, the power or a caller fails: is the heater off?

What counts is the heater's range at the simulated controller and the power it gives, and not what
the driver believes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import DeviceError, InstrumentError, LimitError, UnreachableError
from labctl.instruments.bus import Connection
from labctl.testing import in_virtual_time
from labctl_drivers.lakeshore_336 import LakeShore336
from labctl_simulators import lakeshore_336
from labctl_simulators.stage import Stage
from labctl_simulators.world import World

ALOCL = Path(__file__).parents[2] / "simulators" / "labctl_simulators" / "demo/alocl/world.toml"
HEATER_ON = "RANGE 1,3;*ESR?"
HEATER_OFF = "RANGE 1,0;*ESR?"
DELAYS_S = [0.0, 0.001, 0.04, 0.05, 0.06, 0.1, 0.2, 0.3, 0.45, 0.5, 0.55, 0.6, 0.8, 1.05]

Connect = Callable[[Any], Connection]


class Controller(lakeshore_336.LakeShore336):
    """A simulated controller that remembers what it heard and when, and lets a test act on it."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "stage")
        self.heard: list[tuple[float, str]] = []
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}

    def _handle_line(self, line: str, now_s: float) -> None:
        self.heard.append((now_s, line))
        self.before.pop(line, lambda: None)()
        super()._handle_line(line, now_s)
        self.after.pop(line, lambda: None)()


class Bench:
    """The controller, its stage, and an open driver at the other end."""

    def __init__(self, controller: Controller, stage: Stage, driver: LakeShore336) -> None:
        self.controller = controller
        self.stage = stage
        self.driver = driver

    def power_w(self) -> float:
        return self.stage.heater_power_w(asyncio.get_running_loop().time())

    async def heat_to(self, temperature_k: float) -> None:
        await self.driver.ramp_to(temperature_k, rate_k_per_min=100.0)
        await asyncio.sleep(3600.0)
        assert self.power_w() > 1.0

    def assert_not_switched_on_after_off(self) -> None:
        heard = [line for _, line in self.controller.heard]
        assert HEATER_ON not in heard[heard.index(HEATER_OFF) :]

    async def assert_off(self) -> None:
        """Check the heater now and two hours on."""
        assert self.controller.heater_range == 0
        await asyncio.sleep(7200.0)
        assert self.controller.heater_range == 0
        assert self.power_w() == 0.0


@asynccontextmanager
async def bench(connection_to: Connect, **settings: Any) -> AsyncGenerator[Bench, None]:
    world = World.from_toml(ALOCL)
    controller = Controller(world)
    settings = {"heater_range": "high", **settings}
    driver = LakeShore336(connection_to(controller), LakeShore336.Settings(**settings))
    await driver.open()
    try:
        yield Bench(controller, world.stage("stage"), driver)
    finally:
        await driver.close()


def later(delay_s: float, happens: Callable[[], object]) -> Callable[[], object]:
    """Return what, called on a bus thread, lets something happen on the loop."""
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(lambda: loop.call_later(delay_s, happens))


@in_virtual_time
@pytest.mark.parametrize("n_lost", [0, 1, 2, 3])
@pytest.mark.parametrize("delay_s", DELAYS_S)
async def test_no_ramp_switches_the_heater_on_after_a_safe_state(
    connection_to: Connect, delay_s: float, n_lost: int
) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        made_safe: list[asyncio.Future[None]] = []

        def make_safe() -> None:
            made_safe.append(asyncio.ensure_future(it.driver.safe_state()))

        soon = later(delay_s, make_safe)

        def lose_replies() -> None:
            it.controller.faults.drop_replies = n_lost
            soon()

        it.controller.before[HEATER_ON] = lose_replies
        ramp = asyncio.ensure_future(it.driver.ramp_to(340.0, rate_k_per_min=5.0))
        await asyncio.wait({ramp})
        await asyncio.sleep(delay_s)
        await made_safe[0]
        it.assert_not_switched_on_after_off()
        await it.assert_off()
        assert ramp.exception() is None or "made safe" in str(ramp.exception())


@in_virtual_time
@pytest.mark.parametrize("delay_s", [0.03 * n for n in range(30)])
async def test_a_ramp_at_any_stage_gives_way_to_a_safe_state(
    connection_to: Connect, delay_s: float
) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        ramp = asyncio.ensure_future(it.driver.ramp_to(340.0, rate_k_per_min=5.0))
        await asyncio.sleep(delay_s)
        await it.driver.safe_state()
        await asyncio.wait({ramp})
        it.assert_not_switched_on_after_off()
        await it.assert_off()


@in_virtual_time
@pytest.mark.parametrize("delay_s", [0.1 * n for n in range(12)])
async def test_a_ramp_asked_for_while_the_stage_is_made_safe_is_refused(
    connection_to: Connect, delay_s: float
) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        made_safe = asyncio.ensure_future(it.driver.safe_state())
        await asyncio.sleep(delay_s)
        if not made_safe.done():
            with pytest.raises(InstrumentError, match="made safe"):
                await it.driver.ramp_to(340.0, rate_k_per_min=5.0)
        await made_safe
        await it.assert_off()


@in_virtual_time
async def test_a_later_ramp_takes_over_and_goes_on(connection_to: Connect) -> None:
    async with bench(connection_to) as it:
        first = asyncio.ensure_future(it.driver.ramp_to(310.0, rate_k_per_min=100.0))
        await asyncio.sleep(0.15)
        await it.driver.ramp_to(320.0, rate_k_per_min=100.0)
        await asyncio.wait({first})
        assert isinstance(first.exception(), InstrumentError)
        await asyncio.sleep(7200.0)
        assert (await it.driver.read()).temperature_k == pytest.approx(320.0, abs=0.2)


@in_virtual_time
@pytest.mark.parametrize("command", [HEATER_ON, "SETP? 1;RANGE? 1", "RAMP 1,1,5.000;*ESR?"])
@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.06, 0.12])
async def test_a_cancelled_ramp_leaves_the_heater_off(
    connection_to: Connect, command: str, delay_s: float
) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        ramp = asyncio.ensure_future(it.driver.ramp_to(340.0, rate_k_per_min=5.0))
        it.controller.after[command] = later(delay_s, ramp.cancel)
        await asyncio.wait({ramp})
        if ramp.cancelled():
            await it.assert_off()
        else:
            assert command == "SETP? 1;RANGE? 1"  # the last of a ramp: it was confirmed before


@in_virtual_time
async def test_a_second_cancellation_does_not_keep_the_heater_on(connection_to: Connect) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        ramp = asyncio.ensure_future(it.driver.ramp_to(340.0, rate_k_per_min=5.0))

        def cancel_twice() -> None:
            ramp.cancel()
            asyncio.get_running_loop().call_later(0.01, ramp.cancel)

        it.controller.after[HEATER_ON] = later(0.01, cancel_twice)
        await asyncio.wait({ramp})
        assert ramp.cancelled()
        await it.assert_off()


@in_virtual_time
@pytest.mark.parametrize("command", [HEATER_ON, "SETP? 1;RANGE? 1", "RAMP 1,1,5.000;*ESR?"])
@pytest.mark.parametrize("n_garbled", [1, 2, 3, 4])
async def test_a_ramp_whose_answers_are_garbled_heats_or_leaves_the_heater_off(
    connection_to: Connect, command: str, n_garbled: int
) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)

        def garble() -> None:
            it.controller.faults.garble_replies = n_garbled

        it.controller.before[command] = garble
        try:
            await it.driver.ramp_to(340.0, rate_k_per_min=5.0)
        except InstrumentError:
            await it.assert_off()
        else:
            assert it.controller.heater_range == 3
            assert n_garbled < 4


@in_virtual_time
async def test_a_ramp_on_a_sensor_that_breaks_leaves_the_heater_off(connection_to: Connect) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        it.controller.set_faults(asyncio.get_running_loop().time(), overload=True)
        with pytest.raises(DeviceError, match="no valid reading"):
            await it.driver.ramp_to(340.0, rate_k_per_min=5.0)
        await it.assert_off()


@in_virtual_time
async def test_a_limit_that_is_broken_changes_nothing(connection_to: Connect) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        with pytest.raises(LimitError):
            await it.driver.ramp_to(340.0, rate_k_per_min=1000.0)
        assert it.controller.heater_range == 3


@in_virtual_time
async def test_a_power_cut_in_a_ramp_is_told_by_the_next_reading(connection_to: Connect) -> None:
    async with bench(connection_to) as it:
        await it.driver.ramp_to(330.0, rate_k_per_min=5.0)
        await asyncio.sleep(60.0)
        await it.driver.read()
        it.controller.power_cycle(asyncio.get_running_loop().time())
        with pytest.raises(DeviceError, match="its power went off and came back"):
            await it.driver.read()


@in_virtual_time
async def test_a_power_cut_whose_event_is_lost_is_told_by_the_heater(
    connection_to: Connect,
) -> None:
    async with bench(connection_to) as it:
        await it.driver.ramp_to(330.0, rate_k_per_min=5.0)
        it.controller.power_cycle(asyncio.get_running_loop().time())
        it.controller.faults.drop_replies = 1
        with pytest.raises(DeviceError, match="heater range reads 0 instead of 3"):
            await it.driver.read()


@in_virtual_time
async def test_the_controllers_own_limit_switches_the_heater_off_and_is_told(
    connection_to: Connect,
) -> None:
    async with bench(connection_to, max_temperature="30 degC") as it:
        await it.driver.ramp_to(303.1, rate_k_per_min=100.0)
        await asyncio.sleep(2 * 3600.0)
        assert it.power_w() == 0.0
        assert it.controller.heater_range == 0
        with pytest.raises(DeviceError, match="heater range reads 0"):
            await it.driver.read()


@in_virtual_time
async def test_a_heater_that_is_not_connected_is_told(connection_to: Connect) -> None:
    async with bench(connection_to, output=2) as it:
        await it.driver.ramp_to(310.0, rate_k_per_min=5.0)
        with pytest.raises(DeviceError, match="the heater's load is open"):
            await it.driver.read()


@in_virtual_time
async def test_messages_are_50_ms_apart_however_many_ask_at_once(
    connection_to: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A controller that answers at once: else its own time to answer would hide a missing pause.
    monkeypatch.setattr(lakeshore_336, "PROCESSING_S", 0.0)
    async with bench(connection_to) as it:
        it.controller.faults.drop_replies = 2
        ramp = it.driver.ramp_to(310.0, rate_k_per_min=5.0)
        calls = [ramp, *(it.driver.read() for _ in range(5)), it.driver.safe_state()]
        await asyncio.gather(*calls, return_exceptions=True)
        times_s = [time_s for time_s, _ in it.controller.heard]
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert len(gaps_s) > 15
    assert min(gaps_s) >= 0.05 - 1e-9


@in_virtual_time
async def test_the_first_line_feed_is_given_time_to_end_what_stood_there(
    connection_to: Connect,
) -> None:
    async with bench(connection_to) as it:
        (first_s, first), (second_s, second), *_ = it.controller.heard
    assert (first, second) == ("", "*IDN?")
    assert second_s - first_s >= 0.1  # what the maker's own client waits


@in_virtual_time
async def test_a_line_that_was_cut_is_opened_again_and_the_heater_switched_off(
    connection_to: Connect,
) -> None:
    async with bench(connection_to) as it:
        await it.heat_to(330.0)
        it.controller.faults.hung_up = True
        with pytest.raises(UnreachableError):
            await it.driver.read()
        it.controller.faults.hung_up = False
        with pytest.raises(UnreachableError):
            await it.driver.safe_state()
        assert it.controller.heater_range == 3
        await it.driver.close()
        await it.driver.open()
        await it.driver.safe_state()
        await it.assert_off()


@in_virtual_time
@pytest.mark.parametrize("delay_s", [0.07 * n for n in range(9)])
async def test_a_ramp_does_not_go_on_over_a_line_that_was_opened_anew(
    connection_to: Connect, delay_s: float
) -> None:
    async with bench(connection_to) as it:
        ramp = asyncio.ensure_future(it.driver.ramp_to(340.0, rate_k_per_min=5.0))
        await asyncio.sleep(delay_s)
        await it.driver.close()
        await it.driver.open()
        n_heard = len(it.controller.heard)
        await asyncio.wait({ramp})
        await asyncio.sleep(10.0)
        assert isinstance(ramp.exception(), InstrumentError)
        assert HEATER_ON not in [line for _, line in it.controller.heard[n_heard:]]
