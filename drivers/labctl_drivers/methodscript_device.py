"""The dialogue with a MethodSCRIPT device: start a script, read what it sends, stop it for sure.

Lines end in LF. Source: PalmSens communication protocol manual (commands `e` and `Z`, script
output) and the vendor's Python examples (how to abort and synchronise).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from labctl.errors import DeviceError, InstrumentError, ReplyError, ReplyTimeoutError
from labctl_drivers.methodscript_errors import ScriptError, find_error
from labctl_drivers.methodscript_packets import Packet, parse_packet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
    from typing import Any

    from labctl.instruments.bus import Connection

_log = logging.getLogger(__name__)

# After a reply with "!" the device is deaf for about 50 ms; the vendor's code waits twice that.
_DEAF_S = 0.1
_LINE_S = 2.0
_ABORT_S = 5.0
_SAFE_S = 30.0
_ATTEMPTS = 3
# Owner of a script that nobody reads any more and that has to be stopped before the next one.
_NOBODY = object()
# First characters of lines that open and close loops and scans, and of text sent by a script.
_MARKS = "M*L+C-T"


class StoppedError(InstrumentError):
    """A measurement was ended by another call (cell off, safe state, the next measurement)."""


class MethodScriptDevice:
    """One MethodSCRIPT device on an open connection.

    One script runs at a time and belongs to whoever runs it. Whoever makes the cell safe takes the
    script away from its owner, who gets a `StoppedError`.
    """

    def __init__(self, connection: Connection, *, cell_off: Sequence[str]) -> None:
        self.name = connection.name
        self._connection = connection
        self._cell_off = cell_off
        self._owner: object | None = None
        self._script: Sequence[str] = ()
        self._held_back: list[str] = []
        self._reading: asyncio.Task[str] | None = None
        self._turn = asyncio.Lock()

    async def run(
        self, script: Sequence[str], *, timeout_after: Callable[[int], float]
    ) -> AsyncGenerator[tuple[int, Packet], None]:
        """Run a script and yield its packets, each with the number of its loop, counted from 1.

        However this ends before the script does (an error, a caller who stops or is cancelled),
        the script is aborted and the cell switched off first. Another script that still runs when
        this one begins is stopped.

        Args:
            script: its lines.
            timeout_after: how long, in s, the device may be silent after so many packets.

        Raises:
            DeviceError: the device refuses the script, or the script ended with an error.
            ReplyError: a line that makes no sense.
            ReplyTimeoutError: silence.
            StoppedError: another call switched the cell off or began a measurement.
        """
        owner = object()
        n_packets = n_loops = 0
        try:
            await self._start(owner, script)
            while line := await self._next_line(owner, timeout_after(n_packets)):
                item = self._understand(line)
                if isinstance(item, Packet):
                    n_packets += 1
                    yield n_loops, item
                elif item.startswith("M"):
                    n_loops += 1
        finally:
            if self._owner is owner:
                await _to_the_end(self._take_and_make_safe(only_from=owner))

    async def make_cell_safe(self) -> None:
        """Stop whatever runs and switch the cell off; to its end even if the caller is cancelled.

        Raises:
            ReplyTimeoutError: the device did not confirm in time.
            DeviceError: the device refused to switch the cell off.
        """
        await _to_the_end(self._take_and_make_safe())

    async def synchronise(self) -> list[str]:
        """Stop whatever runs and leave the device idle; return what it sent meanwhile.

        Raises:
            ReplyTimeoutError: silence, three times.
            ReplyError: something answers, three times, but never to the abort.
        """
        heard: list[str] = []
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._abort(heard)
            except ReplyTimeoutError:
                if attempt == _ATTEMPTS:
                    self._check_understood(heard)
                    raise
            else:
                return heard
        raise AssertionError  # the loop returns or raises

    async def _start(self, owner: object, script: Sequence[str]) -> None:
        self._interrupt_reading()
        async with self._turn:
            if self._owner is not None:
                await self._make_cell_safe()
            self._owner = owner
            try:
                await self._upload(script)
            except DeviceError:
                self._owner = None  # refused: nothing runs
                raise

    async def _next_line(self, owner: object, timeout_s: float) -> str:
        """Return the next line of a script's output; the empty one at its end frees the device."""
        async with self._turn:
            if self._owner is not owner:
                raise self._stopped()
            line = await self._interruptible_line(timeout_s)
            if not line:
                self._owner = None
            return line

    async def _take_and_make_safe(self, *, only_from: object | None = None) -> None:
        # No await between the two: else the owner could begin a read of many seconds in between.
        self._interrupt_reading()
        async with _within(_SAFE_S, self.name), self._turn:
            if only_from is None or self._owner is only_from:
                await self._make_cell_safe()

    async def _make_cell_safe(self) -> None:
        """Switch the cell off; what is lost or garbled on the line does not end the attempt."""
        self._owner = _NOBODY
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._abort_and_switch_off()
            except (ReplyError, ReplyTimeoutError):
                if attempt == _ATTEMPTS:
                    raise
            else:
                self._owner = None
                return

    async def _abort_and_switch_off(self) -> None:
        """Abort, then run a script that only switches the cell off, whatever ran before.

        `on_finished:` of the aborted script has done it already, unless a runtime error ended that
        script: then nothing after it runs (MethodSCRIPT manual, section 10.1).
        """
        await self.synchronise()
        await self._upload(self._cell_off)
        while line := await self._line(_LINE_S):
            self._understand(line)

    async def _abort(self, heard: list[str]) -> None:
        """Send the vendor's recipe: an empty line, `Z`, then read until the device is idle.

        The empty line ends a script whose upload was cut; the device may be deaf after that.
        """
        self._held_back.clear()
        await self._send("")
        await asyncio.sleep(_DEAF_S)
        await self._send("Z")
        await self._read_to_echo(heard)
        await asyncio.sleep(_DEAF_S)
        await self._connection.call(self._connection.transport.flush_read_buffer)

    async def _read_to_echo(self, heard: list[str]) -> None:
        """Read the rest of a script's output, the echo of `Z`, and what the script says after."""
        async with _within(_ABORT_S, self.name):
            while not (line := await self._line(_LINE_S)).startswith("Z"):
                heard.append(line)
            while line and find_error(line) is None:
                line = await self._line(_LINE_S)

    def _check_understood(self, heard: list[str]) -> None:
        """Raise ReplyError if something answered an abort, even if not as it should."""
        words = [line for line in heard if line]
        if words:
            raise ReplyError(self.name, "no answer to an abort", reply=words[-1])

    async def _upload(self, script: Sequence[str]) -> None:
        """Send a script in one piece, so that no cancellation leaves half of it on the device."""
        self._script = script
        self._held_back.clear()
        await self._send("\n".join(("e", *script, "")))
        # An empty line may still stand there: the end of a script that stopped with an error.
        while not (line := await self._line(_LINE_S)):
            pass
        if not line.startswith("e"):
            raise ReplyError(self.name, "expected the echo of a script's start", reply=line)
        error = find_error(line)
        if error is not None:
            await asyncio.sleep(_DEAF_S)
            raise self._device_error(error)
        if line != "e":  # some firmware sends the first line of output right behind the echo
            self._held_back.append(line[1:])

    def _understand(self, line: str) -> Packet | str:
        error = find_error(line)
        if error is not None:
            raise self._device_error(error)
        if line[0] in _MARKS:
            return line
        try:
            return parse_packet(line)
        except ValueError as problem:
            raise ReplyError(self.name, str(problem), reply=line) from problem

    def _device_error(self, error: ScriptError) -> DeviceError:
        """Return the error with the offending line of the script, for people."""
        message = error.meaning
        if error.line is not None:
            message += f", line {error.line}"
            message += f" column {error.column}" if error.column is not None else ""
            if 1 <= error.line <= len(self._script):
                message += f": {self._script[error.line - 1].strip()!r}"
        return DeviceError(self.name, message, code=error.code)

    async def _send(self, text: str) -> None:
        transport = self._connection.transport
        await self._connection.call(lambda: transport.write(text))

    async def _line(self, timeout_s: float) -> str:
        if self._held_back:
            return self._held_back.pop(0)
        return await self._connection.read_line(timeout_s=timeout_s)

    async def _interruptible_line(self, timeout_s: float) -> str:
        """Return the next line, or raise StoppedError when another call wants the line."""
        task = self._reading = asyncio.ensure_future(self._line(timeout_s))
        try:
            await asyncio.wait({task})
        finally:
            self._reading = None
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise self._stopped()
        return task.result()

    def _stopped(self) -> StoppedError:
        return StoppedError(self.name, "the measurement was ended by another call")

    def _interrupt_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()


@asynccontextmanager
async def _within(duration_s: float, name: str) -> AsyncGenerator[None, None]:
    """Bound what is inside in time."""
    scope = asyncio.timeout(duration_s)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise ReplyTimeoutError(name, f"not done within {duration_s:g} s") from error


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that a cancellation of the caller must not stop; then let it take its course."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    failure = task.exception()
    if failure is not None:
        _log.error("%s", failure)
    raise cancelled from failure
