"""Time: the event loop is the clock.

Everything waits with asyncio and reads `loop.time()`. Real runs use the ordinary loop, simulated
runs in process a `VirtualTimeLoop`, runs against simulators on a socket that run faster than life
a `ScaledTimeLoop`. `RunClock` turns the loop's time into UTC timestamps.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

_T = TypeVar("_T")


class RunClock:
    """UTC timestamps counted from one epoch by the loop's own clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, epoch: datetime | None = None) -> None:
        self._loop = loop
        self._start_s = loop.time()
        self._epoch = epoch if epoch is not None else utc_now()

    def elapsed_s(self) -> float:
        """Return the seconds since the clock was made."""
        return self._loop.time() - self._start_s

    def timestamp(self) -> str:
        """Return now as UTC ISO 8601 with microseconds."""
        now = self._epoch + timedelta(seconds=self.elapsed_s())
        return now.isoformat(timespec="microseconds")


def utc_now() -> datetime:
    """Return the wall clock's time; the one place that asks for it."""
    return datetime.now(UTC)  # noqa: TID251


class _TimedSelector(selectors.BaseSelector):
    """A selector that asks its loop before it waits, so that the loop decides what time does."""

    def __init__(self, before_wait: Callable[[float | None], float | None]) -> None:
        self._inner = selectors.DefaultSelector()
        self._before_wait = before_wait

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._inner.select(self._before_wait(timeout))


class ScaledTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock runs `speed` times as fast as the wall clock; sockets work as ever."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        super().__init__(_TimedSelector(lambda timeout: timeout and timeout / speed))

    def time(self) -> float:
        """Return the scaled time in s."""
        return super().time() * self._speed


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer whenever nothing is left to do now.

    Instrument calls run on their bus threads one at a time and only while the loop has nothing
    ready, so that loop and threads strictly take turns: two runs with one seed do the same things
    in the same order at the same virtual instants. A simulated read that must wait for its device
    parks its thread (`park`) and so counts as waiting, not as running. Waits on the real world
    (`hold_clock`, and whatever goes through `run_in_executor`) hold the virtual clock still.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._holds = 0
        self._pool: ThreadPoolExecutor | None = None
        self._turns: deque[Callable[[], None]] = deque()
        self._report: tuple[Callable[..., object], tuple[object, ...]] = (id, (None,))
        self._has_report = threading.Lock()
        self._has_report.acquire()
        super().__init__(_TimedSelector(self._before_wait))
        self._jump_to(0.0)

    def _jump_to(self, now_s: float) -> None:
        """Set the clock.

        asyncio fires timers that are due within its clock's resolution. A monotonic clock's 1 ns is
        lost in a float after 97 days of virtual time, and the loop would spin for ever; a coarser
        one fires timers before their time. The distance to the next float does neither.
        """
        self._now = now_s
        self._clock_resolution = math.ulp(now_s)

    def time(self) -> float:
        """Return the virtual time in s since the loop was made."""
        return self._now

    def _before_wait(self, timeout: float | None) -> float | None:
        """Return how long the selector may really wait: not at all, or until a thread reports."""
        if timeout == 0:
            return 0
        if self._turns:
            self._run_turn(self._turns.popleft())
            return 0
        if self._holds or timeout is None:
            return None
        # The head of asyncio's heap is the next timer; its own time, so that no rounding adds up.
        self._jump_to(self._scheduled[0].when())  # type: ignore[attr-defined]
        return 0

    def take_turn(self, begin: Callable[[], None]) -> None:
        """Queue an instrument call: `begin` starts it on its thread when its turn has come."""
        self._turns.append(begin)

    def _run_turn(self, begin: Callable[[], None]) -> None:
        """Start a call on its thread and wait until it reports that it has ended or has parked."""
        begin()
        self._has_report.acquire()
        callback, arguments = self._report
        callback(*arguments)

    def report(self, callback: Callable[..., object], *arguments: object) -> None:
        """End the calling thread's turn: `callback` goes on from there, on the loop."""
        self._report = callback, arguments
        self._has_report.release()

    def hold(self) -> None:
        """Hold the virtual clock still until `release`; holds add up."""
        self._holds += 1

    def release(self) -> None:
        """Let the virtual clock go on."""
        self._holds -= 1

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Run a function in a thread as usual, the virtual clock held until it is done.

        That is until its thread is: who cancels the future does not end the work.
        """
        work: Future[Any] = (executor or self._own_pool()).submit(func, *args)
        future = asyncio.wrap_future(work, loop=self)
        self.hold()
        # After the future's own callback, or the clock could run between the two.
        work.add_done_callback(lambda _: self._release_soon())
        return future

    def _own_pool(self) -> ThreadPoolExecutor:
        """Return the threads that run what names no others; they end with the loop."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="asyncio")
            self.set_default_executor(self._pool)
        return self._pool

    def _release_soon(self) -> None:
        """Release the clock, from any thread; a loop that is closed has none."""
        with suppress(RuntimeError):
            self.call_soon_threadsafe(self.release)


@contextmanager
def hold_clock(loop: asyncio.AbstractEventLoop) -> Generator[None, None, None]:
    """Hold a virtual clock still while the real world does something; else do nothing."""
    if not isinstance(loop, VirtualTimeLoop):
        yield
        return
    loop.hold()
    try:
        yield
    finally:
        loop.release()


class ParkingLot:
    """Where one bus thread waits for virtual time, until its timer or an interrupt wakes it."""

    def __init__(self) -> None:
        self._go = threading.Lock()
        self._go.acquire()
        self._loop: VirtualTimeLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_interrupted = False

    def clear(self) -> None:
        """Forget an earlier interrupt: a new call begins."""
        self._is_interrupted = False

    def park(self, loop: VirtualTimeLoop, until_s: float) -> bool:
        """Block the calling bus thread until virtual time `until_s`; False if interrupted."""
        if not self._is_interrupted:
            loop.report(self._parked, loop, until_s)
            self._go.acquire()
        return not self._is_interrupted

    def interrupt(self) -> None:
        """End the wait of the parked thread, or its next one; called on the loop."""
        self._is_interrupted = True
        self._wake()

    def _parked(self, loop: VirtualTimeLoop, until_s: float) -> None:
        """On the loop: the call that has just reported waits from now on."""
        self._loop = loop
        if math.isfinite(until_s):
            self._timer = loop.call_at(max(until_s, loop.time()), self._wake)
        if self._is_interrupted:
            self._wake()

    def _wake(self) -> None:
        """On the loop: let the parked thread, if there is one, go on at its next turn."""
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop.take_turn(self._go.release)


def run_on(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end on a loop made for it, then close the loop."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
