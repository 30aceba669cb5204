"""The dialogue with a MethodSCRIPT device: start a script, read what it sends, stop it for sure.

Lines end in LF. Source: PalmSens communication protocol manual (commands `e` and `Z`, script
output) and the vendor's Python examples (how to abort and synchronise).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from labctl.cancellation import to_the_end
from labctl.errors import DeviceError, InstrumentError, ReplyError, ReplyTimeoutError
from labctl.instruments.attempts import again, within
from labctl_drivers.methodscript_errors import ScriptError, find_error
from labctl_drivers.methodscript_packets import Packet, parse_packet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from labctl.instruments.bus import Connection

# After a reply with "!" the device is deaf for about 50 ms; the vendor's code waits twice that.
_DEAF_S = 0.1
_LINE_S = 2.0
_PATIENT_LINE_S = 8.0  # for one that answers late, when the cell's safety hangs on it
_LATE_S = 5.0  # in which late answers to the attempts before arrive
_ABORT_S = 3.0  # beyond the wait for one line: what a script may say between abort and end
_SAFE_S = 30.0
# Owner of a script that nobody reads any more and that has to be stopped before the next one.
_NOBODY = object()
# First characters of lines that open and close loops and scans, and of text sent by a script.
_OPENING, _CLOSING, _TEXT = "MLC", "*+-", "T"
_MEASUREMENT = "meas_loop"  # how the commands that open a measurement loop begin


class StoppedError(InstrumentError):
    """A measurement was ended by another call (cell off, safe state, the next measurement)."""


class _RefusedError(DeviceError):
    """The device did not accept a script, so that nothing of it runs."""


class Sent(NamedTuple):
    """A packet and where in a script's output it stands: loops and scans, counted from 1.

    A scan is counted only where the device marks it: in a cyclic sweep of several; else it is 0.
    """

    loop: int
    scan: int
    packet: Packet


class _Output:
    """What a script has sent so far; tells the empty line at its end from a stray one."""

    def __init__(self, script: Sequence[str]) -> None:
        self.n_packets = 0
        self.n_loops = 0
        self.n_scans = 0
        self._n_open = 0
        self._n_expected = sum(line.lstrip().startswith(_MEASUREMENT) for line in script)

    def add(self, line: str) -> None:
        """Take note of a line that is no packet."""
        self.n_loops += line.startswith("M")
        self.n_scans += line.startswith("C")
        self._n_open += line[0] in _OPENING
        self._n_open -= line[0] in _CLOSING

    @property
    def is_complete(self) -> bool:
        """Return whether all loops have begun and ended."""
        return self._n_open == 0 and self.n_loops >= self._n_expected


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
    ) -> AsyncGenerator[Sent, None]:
        """Run a script and yield its packets as they come.

        However this ends before the script does (an error, a caller who stops or is cancelled),
        the script is aborted and the cell switched off first. Another script that still runs when
        this one begins is stopped.

        Args:
            script: its lines.
            timeout_after: how long, in s, the device may be silent after so many packets.

        Raises:
            DeviceError: the device refuses the script, or the script ended with an error.
            ReplyError: a line that makes no sense; an empty one too, if loops are still to end.
            ReplyTimeoutError: silence.
            StoppedError: another call switched the cell off or began a measurement.
        """
        owner, output = object(), _Output(script)
        try:
            await self._start(owner, script)
            while line := await self._next_line(owner, timeout_after(output.n_packets)):
                item = self._understand(line)
                if isinstance(item, Packet):
                    output.n_packets += 1
                    yield Sent(output.n_loops, output.n_scans, item)
                else:
                    output.add(item)
            if not output.is_complete:
                raise ReplyError(self.name, "an empty line before the script's end", reply=line)
            self._owner = None
        finally:
            if self._owner is owner:
                await to_the_end(self._take_and_make_safe(only_from=owner))

    async def make_cell_safe(self) -> None:
        """Stop whatever runs and switch the cell off; to its end even if the caller is cancelled.

        Raises:
            ReplyTimeoutError: the device did not confirm in time.
            DeviceError: the device refused to switch the cell off.
        """
        await to_the_end(self._take_and_make_safe())

    async def synchronise(self) -> None:
        """Stop whatever runs and leave the device idle.

        Raises:
            ReplyTimeoutError: silence, three times.
            ReplyError: something answers, three times, but never to the abort.
        """
        heard: list[str] = []
        self._interrupt_reading()
        async with self._turn:
            if self._owner is not None:
                self._owner = _NOBODY
            try:
                await again(lambda: self._abort(heard), after=(ReplyTimeoutError, ReplyError))
            except ReplyTimeoutError:
                self._check_understood(heard)
                raise

    async def _start(self, owner: object, script: Sequence[str]) -> None:
        self._interrupt_reading()
        async with self._turn:
            if self._owner is not None:
                await self._make_cell_safe()
            self._owner = owner
            try:
                await self._upload(script)
            except _RefusedError:
                self._owner = None
                raise

    async def _next_line(self, owner: object, timeout_s: float) -> str:
        """Return the next line of a script's output."""
        async with self._turn:
            if self._owner is not owner:
                raise self._stopped()
            return await self._interruptible_line(timeout_s)

    async def _take_and_make_safe(self, *, only_from: object | None = None) -> None:
        # No await between the two: else the owner could begin a read of many seconds in between.
        self._interrupt_reading()
        async with within(_SAFE_S, self.name), self._turn:
            if only_from is None or self._owner is only_from:
                await self._make_cell_safe()

    async def _make_cell_safe(self) -> None:
        """Switch the cell off; what is lost or garbled on the line does not end the attempt."""
        self._owner = _NOBODY
        after = ReplyError, ReplyTimeoutError, DeviceError
        try:
            await again(self._abort_and_switch_off, after=after)
        except after:
            await self._abort_and_switch_off_patiently()
        self._owner = None

    async def _abort_and_switch_off(self, line_s: float = _LINE_S) -> None:
        """Abort, then run a script that only switches the cell off, whatever ran before.

        `on_finished:` of the aborted script has done it already, unless a runtime error ended that
        script: then nothing after it runs (MethodSCRIPT manual, section 10.1).
        """
        await self._abort([], line_s)
        await self._upload(self._cell_off, line_s)
        while line := await self._line(line_s):
            self._understand(line)

    async def _abort_and_switch_off_patiently(self) -> None:
        """As before, for a device that answers, but late: first let its late answers pass."""
        await asyncio.sleep(_LATE_S)
        await self._connection.call(self._connection.transport.flush_read_buffer)
        await self._abort_and_switch_off(_PATIENT_LINE_S)

    async def _abort(self, heard: list[str], line_s: float = _LINE_S) -> None:
        """Send the vendor's recipe: an empty line, `Z`, then read until the device is idle.

        The empty line ends a script whose upload was cut; the device may be deaf after that.
        """
        self._held_back.clear()
        await self._send("")
        await asyncio.sleep(_DEAF_S)
        await self._send("Z")
        await self._read_to_echo(heard, line_s)
        await asyncio.sleep(_DEAF_S)
        await self._connection.call(self._connection.transport.flush_read_buffer)

    async def _read_to_echo(self, heard: list[str], line_s: float) -> None:
        """Read the rest of a script's output, the echo of `Z`, and what the script says after."""
        async with within(line_s + _ABORT_S, self.name):
            while not (line := await self._line(line_s)).startswith("Z"):
                heard.append(line)
            while line and find_error(line) is None:
                line = await self._line(line_s)

    def _check_understood(self, heard: list[str]) -> None:
        """Raise ReplyError if something answered an abort, even if not as it should."""
        words = [line for line in heard if line]
        if words:
            raise ReplyError(self.name, "no answer to an abort", reply=words[-1])

    async def _upload(self, script: Sequence[str], line_s: float = _LINE_S) -> None:
        """Send a script in one piece, so that no cancellation leaves half of it on the device."""
        self._script = script
        self._held_back.clear()
        await self._send("\n".join(("e", *script, "")))
        # An empty line may still stand there: the end of a script that stopped with an error.
        while not (line := await self._line(line_s)):
            pass
        if not line.startswith("e"):
            raise ReplyError(self.name, "expected the echo of a script's start", reply=line)
        error = find_error(line)
        if error is not None:
            await asyncio.sleep(_DEAF_S)
            raise self._device_error(error, is_start=True)
        if line != "e":  # some firmware sends the first line of output right behind the echo
            self._held_back.append(line[1:])

    def _understand(self, line: str) -> Packet | str:
        error = find_error(line)
        if error is not None:
            raise self._device_error(error)
        if line[0] in _OPENING + _CLOSING + _TEXT:
            return line
        try:
            return parse_packet(line)
        except ValueError as problem:
            raise ReplyError(self.name, str(problem), reply=line) from problem

    def _device_error(self, error: ScriptError, *, is_start: bool = False) -> DeviceError:
        """Return the error with the offending line of the script, for people.

        Behind the echo of a script's start, only an error that names a column is a refusal: it is
        one of syntax. One that names a line alone, glued there by some firmware, has ended a script
        that ran; one that names neither may say that another script runs.
        """
        message = error.meaning
        if error.line is not None:
            message += f", line {error.line}"
            message += f" column {error.column}" if error.column is not None else ""
            if 1 <= error.line <= len(self._script):
                message += f": {self._script[error.line - 1].strip()!r}"
        kind = _RefusedError if is_start and error.column is not None else DeviceError
        return kind(self.name, message, code=error.code)

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
