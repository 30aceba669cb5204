"""The event loop is the clock: virtual time, scaled time, and threads that wait on it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import perf_counter

import pytest

from labctl.clock import ParkingLot, RunClock, ScaledTimeLoop, VirtualTimeLoop, hold_clock, run_on
from labctl.instruments.bus import Bus


def virtually(main):
    return run_on(VirtualTimeLoop(), main)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_year_of_sleep_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86400.0)
        return now()

    began = perf_counter()
    assert virtually(main()) == 365 * 86400.0
    assert perf_counter() - began < 5.0


def test_timers_fire_at_their_exact_times_even_after_years() -> None:
    async def main() -> list[float]:
        await asyncio.sleep(1e9)
        fired: list[float] = []
        for _ in range(10):
            await asyncio.sleep(0.1)
            fired.append(now())
        return fired

    fired = virtually(main())
    assert fired == sorted(set(fired))
    assert fired[-1] == pytest.approx(1e9 + 1.0, abs=1e-5)


def test_no_timer_fires_before_its_time() -> None:
    async def main() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(4021.0)
        began = now()
        times = [began + 0.5 + n * 1e-9 for n in range(20)]
        fired: list[tuple[float, float]] = []
        for time in times:
            loop.call_at(time, lambda time=time: fired.append((time, now())))
        await asyncio.sleep(1)
        return fired

    fired = virtually(main())
    assert len(fired) == 20
    assert all(at == time for time, at in fired)


def test_sleepers_wake_in_order_of_their_times() -> None:
    async def main() -> list[int]:
        woken: list[int] = []

        async def sleeper(seconds: int) -> None:
            await asyncio.sleep(seconds)
            woken.append(seconds)

        async with asyncio.TaskGroup() as group:
            for seconds in (5, 1, 4, 2, 3):
                group.create_task(sleeper(seconds))
        return woken

    assert virtually(main()) == [1, 2, 3, 4, 5]


def test_a_timeout_strikes_at_its_virtual_instant() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7200):
                await asyncio.Event().wait()
        return now()

    assert virtually(main()) == 7200


def test_cancellation_does_not_move_the_clock() -> None:
    async def main() -> float:
        task = asyncio.create_task(asyncio.sleep(1e6))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return now()

    assert virtually(main()) == 1


def test_the_clock_stands_still_while_an_instrument_call_runs() -> None:
    async def main() -> tuple[float, float]:
        bus = Bus("slow")
        ticker = asyncio.create_task(asyncio.sleep(100))
        gate = threading.Event()
        threading.Timer(0.05, gate.set).start()
        await bus.call(gate.wait)  # a call that really takes time
        at_end = now()
        await ticker
        await bus.close()
        return at_end, now()

    assert virtually(main()) == (0.0, 100.0)


def test_a_parked_call_lets_time_go_on_and_wakes_on_time() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        bus = Bus("parked")
        seen: list[float] = []

        async def watch() -> None:
            await asyncio.sleep(10)
            seen.append(now())

        watcher = asyncio.create_task(watch())
        woken_at = await bus.call(lambda: (bus.lot.park(loop, 30.0), loop.time())[1])
        await watcher
        await bus.close()
        return seen[0], woken_at

    assert virtually(main()) == (10.0, 30.0)


def test_two_parked_threads_take_turns() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        log: list[tuple[str, float]] = []

        def work(name: str, period: float, lot: ParkingLot) -> None:
            for _ in range(3):
                lot.park(loop, loop.time() + period)
                log.append((name, loop.time()))

        a, b = Bus("a"), Bus("b")
        await asyncio.gather(
            a.call(lambda: work("a", 2.0, a.lot)), b.call(lambda: work("b", 3.0, b.lot))
        )
        await a.close()
        await b.close()
        return log

    expected = [("a", 2.0), ("b", 3.0), ("a", 4.0), ("b", 6.0), ("a", 6.0), ("b", 9.0)]
    first = virtually(main())
    assert sorted(first) == sorted(expected)
    assert [virtually(main()) for _ in range(20)] == [first] * 20


def test_cancelling_the_caller_wakes_its_parked_call_at_once() -> None:
    async def main() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        bus = Bus("cancelled")
        ended: list[bool] = []
        call = asyncio.create_task(bus.call(lambda: ended.append(bus.lot.park(loop, 1e9))))
        await asyncio.sleep(5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await bus.call(lambda: None)
        await bus.close()
        return ended[0], now()

    assert virtually(main()) == (False, 5.0)


def test_a_call_whose_caller_left_before_its_turn_is_not_made() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        bus = Bus("queue")
        made: list[str] = []
        first = asyncio.create_task(bus.call(lambda: bus.lot.park(loop, 10.0)))
        await asyncio.sleep(0)
        second = asyncio.create_task(bus.call(lambda: made.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await bus.call(lambda: made.append("third"))
        await bus.close()
        return made

    assert virtually(main()) == ["third"]


def test_what_a_call_raises_reaches_the_caller() -> None:
    async def main() -> None:
        bus = Bus("error")

        def fail() -> None:
            raise ValueError("no such range")

        with pytest.raises(ValueError, match="no such range"):
            await bus.call(fail)
        await bus.close()

    virtually(main())


def test_work_in_an_executor_holds_the_clock() -> None:
    async def main() -> float:
        ticker = asyncio.create_task(asyncio.sleep(1000))
        gate = threading.Event()
        threading.Timer(0.05, gate.set).start()
        await asyncio.to_thread(gate.wait)
        at_end = now()
        ticker.cancel()
        return at_end

    assert virtually(main()) == 0.0


def test_work_whose_future_is_cancelled_holds_the_clock_until_it_is_done() -> None:
    async def main() -> float:
        ticker = asyncio.create_task(asyncio.sleep(1000))
        gate, ended = threading.Event(), asyncio.Event()
        loop, seen = asyncio.get_running_loop(), []

        def work() -> None:
            gate.wait()
            loop.call_soon_threadsafe(lambda: (seen.append(now()), ended.set()))

        future = loop.run_in_executor(None, work)
        await asyncio.sleep(0)
        future.cancel()
        threading.Timer(0.05, gate.set).start()
        await asyncio.wait({asyncio.ensure_future(ended.wait())}, timeout=500)
        ticker.cancel()
        return seen[0]

    assert virtually(main()) == 0.0


def test_work_that_is_cancelled_before_it_has_begun_lets_the_clock_go() -> None:
    async def main() -> float:
        loop, gate = asyncio.get_running_loop(), threading.Event()
        with ThreadPoolExecutor(max_workers=1) as pool:
            first = loop.run_in_executor(pool, gate.wait)
            loop.run_in_executor(pool, gate.wait).cancel()
            gate.set()
            await first
        await asyncio.sleep(1000)
        return now()

    assert virtually(main()) == 1000.0


def test_hold_clock_keeps_time_while_the_real_world_works() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        ticker = asyncio.create_task(asyncio.sleep(1000))
        done = asyncio.Event()
        threading.Timer(0.05, lambda: loop.call_soon_threadsafe(done.set)).start()
        with hold_clock(loop):
            await done.wait()
        at_end = now()
        ticker.cancel()
        return at_end

    assert virtually(main()) == 0.0


def test_run_clock_counts_from_its_epoch() -> None:
    async def main() -> tuple[float, str]:
        epoch = datetime(2026, 11, 23, 12, tzinfo=UTC)
        await asyncio.sleep(7)
        clock = RunClock(asyncio.get_running_loop(), epoch=epoch)
        await asyncio.sleep(90.5)
        return clock.elapsed_s(), clock.timestamp()

    assert virtually(main()) == (90.5, "2026-11-23T12:01:30.500000+00:00")


@pytest.mark.realtime
def test_scaled_time_runs_faster_than_the_wall_clock() -> None:
    async def main() -> float:
        began = now()
        await asyncio.sleep(20.0)
        return now() - began

    began = perf_counter()
    slept = run_on(ScaledTimeLoop(200.0), main())
    assert perf_counter() - began < 10.0
    assert slept >= 20.0
