"""The bus: one thread that talks to one line, so that everything above can be asyncio.

This is the one place with instrument threads. A call runs to its end on the thread, since nothing
can stop a call on the wire; calls take turns in the order they were asked for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from labctl.cancellation import to_the_end
from labctl.clock import ParkingLot, VirtualTimeLoop
from labctl.errors import InstrumentError, ReplyError, ReplyTimeoutError, UnreachableError
from labctl.instruments.attempts import again

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.instruments.transport import LineTransport, LinkSettings

    Opener = Callable[[LinkSettings, ParkingLot], LineTransport]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_CLOSE_S = 3.0  # no call on a real line takes half of it, if all is well with the system's drivers


class _Call(Generic[_T]):
    """One function on its way through the bus thread."""

    def __init__(self, function: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self.future: asyncio.Future[_T] = loop.create_future()
        self.has_ended = asyncio.Event()
        self.ended_at_s = 0.0

    def run(self) -> None:
        """Run on the bus thread and report to the loop; what nobody waits for is not begun."""
        try:
            result = None if self.future.done() else self._function()
        except BaseException as error:  # noqa: BLE001 - carried to the caller
            self._report(None, error)
        else:
            self._report(result, None)

    def _report(self, result: Any, error: BaseException | None) -> None:
        """Tell the loop; in virtual time that ends this thread's turn."""
        if isinstance(self._loop, VirtualTimeLoop):
            self._loop.report(self._finish, result, error)
        else:
            self._loop.call_soon_threadsafe(self._finish, result, error)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        """On the loop: hand over the result unless the caller has gone."""
        self.ended_at_s = self._loop.time()
        self.has_ended.set()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)

    def abandon(self, error: Exception) -> None:
        """On the loop: give the caller an error instead of a result, however long it may take."""
        self.has_ended.set()
        if not self.future.done():
            self.future.set_exception(error)


class Bus:
    """A thread and the turns on it."""

    def __init__(self, name: str) -> None:
        self.lot = ParkingLot()
        self._name = name
        self._turn = asyncio.Lock()
        self._latest: _Call[Any] | None = None
        self._is_closing = False
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"bus-{name}", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], _T], *, rest_s: float = 0.0) -> _T:
        """Return what `function` returns on the bus thread, after all calls asked for before.

        A cancelled caller leaves at once; the call on the wire ends on its own, a parked one right
        away, before the next call begins.

        Args:
            function: what to run.
            rest_s: how long the line has to be left alone after the call before this one.

        Raises:
            UnreachableError: the bus is closed meanwhile.
        """
        async with self._turn:
            await self._rest(rest_s)
            if self._is_closing:
                raise self._closed()
            call = self._latest = _Call(function, asyncio.get_running_loop())
            self._begin(call)
            try:
                return await call.future
            except asyncio.CancelledError:
                self.lot.interrupt()
                raise

    async def _rest(self, rest_s: float) -> None:
        """Return `rest_s` after the latest call has ended, be its caller still there or not."""
        if self._latest is None:
            return
        await self._latest.has_ended.wait()
        wait_s = self._latest.ended_at_s + rest_s - asyncio.get_running_loop().time()
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)

    def _begin(self, *calls: _Call[Any] | None) -> None:
        """Hand calls to the thread; in virtual time once the loop has nothing else to do."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualTimeLoop):
            loop.take_turn(lambda: self._put(calls))
        else:
            self._put(calls)

    def _put(self, calls: tuple[_Call[Any] | None, ...]) -> None:
        for call in calls:
            self._calls.put(call)

    async def close(self, last: Callable[[], None] = lambda: None) -> None:
        """Let the thread end when it has run `last`, which it does in any case; idempotent.

        Whoever waits for a call gets an UnreachableError. This takes no longer than three seconds
        even if a call never returns (its thread then ends when the call does), and is not cut short
        by a cancellation.
        """
        if not self._is_closing:
            self._is_closing = True
            await to_the_end(self._end(last))

    async def _end(self, last: Callable[[], None]) -> None:
        self.lot.interrupt()
        if self._latest is not None:
            self._latest.abandon(self._closed())
        call = _Call(last, asyncio.get_running_loop())
        self._begin(call, None)
        await asyncio.wait({call.future}, timeout=_CLOSE_S)
        if not call.future.done():
            _log.warning("%s: its line does not let go of a call; left behind", self._name)
            return
        self._thread.join()
        try:
            call.future.result()
        except InstrumentError as error:  # a line that cannot even be closed is none any more
            _log.warning("%s", error)

    def _closed(self) -> UnreachableError:
        return UnreachableError(self._name, "the line is not open")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self.lot.clear()
            call.run()


class _Line:
    """A transport from its opening to its end, both on the bus thread.

    It is closed there also if whoever had it opened has gone before it was open.
    """

    def __init__(self, opener: Callable[[], LineTransport]) -> None:
        self._opener = opener
        self._transport: LineTransport | None = None

    def open(self) -> LineTransport:
        """Return the open transport."""
        self._transport = self._opener()
        return self._transport

    def close(self) -> None:
        """Close the transport if it was opened."""
        if self._transport is not None:
            self._transport.close()


class Connection:
    """One instrument's line: a bus and, while open, the transport on it."""

    def __init__(
        self, name: str, opener: Callable[[LinkSettings, ParkingLot], LineTransport]
    ) -> None:
        self.name = name
        self._opener = opener
        self._bus: Bus | None = None
        self._line: _Line | None = None
        self._transport: LineTransport | None = None
        self._min_gap_s = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether the line is open."""
        return self._transport is not None

    async def open(self, link: LinkSettings) -> LineTransport:
        """Open the line and return its transport, to be used inside `call` only.

        A line that is open is closed first. One attempt to open is short, so that an abort finds
        its turn; there are three.
        """
        await self.close()
        bus = self._bus = Bus(self.name)
        line = self._line = _Line(lambda: self._opener(link, bus.lot))
        self._min_gap_s = link.min_gap_s
        try:
            self._transport = await again(lambda: bus.call(line.open), after=(UnreachableError,))
        except BaseException:
            await self.close()
            raise
        return self._transport

    async def close(self) -> None:
        """Close the line and end its thread; idempotent, and takes three seconds at most.

        What is wrong with a line that is given up is only logged.
        """
        self._transport = None
        bus, self._bus = self._bus, None
        line, self._line = self._line, None
        if bus is not None and line is not None:
            await bus.close(line.close)

    async def call(self, function: Callable[[], _T]) -> _T:
        """Return what a function that uses the transport returns; runs on the bus thread.

        It begins no sooner than `LinkSettings.min_gap_s` after the call before it has ended.
        """
        if self._bus is None or self._transport is None:
            raise UnreachableError(self.name, "the line is not open")
        return await self._bus.call(function, rest_s=self._min_gap_s)

    async def ask(self, function: Callable[[], _T]) -> _T:
        """As `call`, for a question that may be asked again.

        Silence, or an answer that makes no sense, is answered by two retries.
        """
        is_first = True

        async def attempt() -> _T:
            nonlocal is_first
            if not is_first:
                await self.call(self.transport.flush_read_buffer)
            is_first = False
            return await self.call(function)

        return await again(attempt, after=(ReplyTimeoutError, ReplyError))

    async def read_line(self, *, timeout_s: float) -> str:
        """Return the next line that the instrument sends, waiting in slices.

        Raises:
            ReplyTimeoutError: no whole line within `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            wait_s = min(self.transport.max_block_s, max(0.0, deadline_s - loop.time()))
            line = await self._poll(wait_s)
            if line is not None:
                return line
            if loop.time() >= deadline_s:
                raise ReplyTimeoutError(self.name, f"silent for {timeout_s:.1f} s")

    async def _poll(self, wait_s: float) -> str | None:
        transport, bus = self.transport, self._bus
        if bus is None:
            raise UnreachableError(self.name, "the line is not open")
        return await bus.call(lambda: transport.poll_line(wait_s))

    @property
    def transport(self) -> LineTransport:
        """Return the open transport.

        Raises:
            UnreachableError: the line is not open.
        """
        if self._transport is None:
            raise UnreachableError(self.name, "the line is not open")
        return self._transport
