"""The bus: one thread that talks to one line, so that everything above can be asyncio.

This is the one place with instrument threads. A call runs to its end on the thread, since nothing
can stop a call on the wire; calls take turns in the order they were asked for.
"""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from labctl.clock import ParkingLot, VirtualTimeLoop
from labctl.errors import ReplyTimeoutError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.instruments.transport import LineTransport, LinkSettings

    Opener = Callable[[LinkSettings, ParkingLot], LineTransport]

_T = TypeVar("_T")
_ATTEMPTS = 3


class _Call(Generic[_T]):
    """One function on its way through the bus thread."""

    def __init__(self, function: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self.future: asyncio.Future[_T] = loop.create_future()

    def run(self) -> None:
        """Run on the bus thread and report to the loop; what nobody waits for is not begun."""
        try:
            result = None if self.future.cancelled() else self._function()
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
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Bus:
    """A thread and the turns on it."""

    def __init__(self, name: str) -> None:
        self.lot = ParkingLot()
        self._turn = asyncio.Lock()
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"bus-{name}", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], _T]) -> _T:
        """Return what `function` returns on the bus thread, after all calls asked for before.

        A cancelled caller leaves at once; the call on the wire ends on its own, a parked one right
        away, before the next call begins.
        """
        async with self._turn:
            call = _Call(function, asyncio.get_running_loop())
            self._begin(call)
            try:
                return await call.future
            except asyncio.CancelledError:
                self.lot.interrupt()
                raise

    def _begin(self, call: _Call[Any]) -> None:
        """Hand a call to the thread; in virtual time once the loop has nothing else to do."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualTimeLoop):
            loop.take_turn(lambda: self._calls.put(call))
        else:
            self._calls.put(call)

    async def close(self) -> None:
        """Let the thread end; what was asked before is done first."""
        if self._thread.is_alive():
            await self.call(lambda: None)
            self._calls.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self.lot.clear()
            call.run()


class Connection:
    """One instrument's line: a bus and, while open, the transport on it."""

    def __init__(
        self, name: str, opener: Callable[[LinkSettings, ParkingLot], LineTransport]
    ) -> None:
        self.name = name
        self._opener = opener
        self._bus: Bus | None = None
        self._transport: LineTransport | None = None
        self._min_gap_s = 0.0
        self._free_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether the line is open."""
        return self._transport is not None

    async def open(self, link: LinkSettings) -> LineTransport:
        """Open the line and return its transport, to be used inside `call` only."""
        bus = self._bus = Bus(self.name)
        self._min_gap_s = link.min_gap_s
        try:
            self._transport = await bus.call(lambda: self._opener(link, bus.lot))
        except BaseException:
            await self.close()
            raise
        return self._transport

    async def close(self) -> None:
        """Close the line and end its thread; idempotent."""
        transport, self._transport = self._transport, None
        bus, self._bus = self._bus, None
        if bus is None:
            return
        try:
            if transport is not None:
                await bus.call(transport.close)
        finally:
            await bus.close()

    async def call(self, function: Callable[[], _T]) -> _T:
        """Return what a function that uses the transport returns; runs on the bus thread."""
        loop = asyncio.get_running_loop()
        if self._bus is None or self._transport is None:
            raise UnreachableError(self.name, "the line is not open")
        starts_at_s = max(loop.time(), self._free_at_s)
        self._free_at_s = starts_at_s + self._min_gap_s
        if starts_at_s > loop.time():
            await asyncio.sleep(starts_at_s - loop.time())
        return await self._bus.call(function)

    async def ask(self, function: Callable[[], _T]) -> _T:
        """As `call`, for a question that may be asked again: silence is answered by two retries."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self.call(function)
            except ReplyTimeoutError:
                if attempt == _ATTEMPTS:
                    raise
                await self.call(self.transport.flush_read_buffer)
        raise AssertionError  # the loop returns or raises

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
