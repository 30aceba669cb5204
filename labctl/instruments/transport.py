"""Transports: pymeasure adapters that carry lines and never lose half of one.

A read or a write on a real line blocks for at most `LineTransport.max_block_s`, so that an abort
always finds its turn on the bus, whatever the other end does; what a read collected before it ran
out of time waits for the next one.
"""

from __future__ import annotations

import select
import socket
from abc import abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from pymeasure.adapters import Adapter

from labctl.errors import BadInputError, ReplyError, ReplyTimeoutError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyvisa.resources import MessageBasedResource

MAX_BLOCK_S = 0.5
_DRAIN_S = 0.02  # for what has arrived already, where there is no time to wait for more
_LONGEST_LINE = 65_536  # bytes
_SENT_AT_ONCE = 4096  # bytes, as pyvisa-py cuts them
_SHOWN = 80  # bytes of what makes no sense


@dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """How one instrument's line is spoken; the serial settings count on ASRL addresses only.

    Attributes:
        terminator: what ends a line in both directions; a carriage return before it is ignored.
        reply_timeout_s: how long a query's answer may take.
        min_gap_s: pause that the instrument needs between two messages.
        serial: pyvisa attributes for ASRL addresses (baud_rate, parity, ...).
    """

    terminator: str = "\n"
    reply_timeout_s: float = MAX_BLOCK_S
    min_gap_s: float = 0.0
    serial: dict[str, Any] = field(default_factory=dict[str, Any])


def check_address(address: str, *, where: str) -> None:
    """Raise BadInputError unless an address is one that VISA can open; nothing is opened."""
    from pyvisa.rname import InvalidResourceName, ResourceName

    expected = "expected a VISA address, such as ASRL3::INSTR or TCPIP::192.168.0.12::7777::SOCKET"
    try:
        parsed = ResourceName.from_string(address)
    except InvalidResourceName as error:
        raise BadInputError(f"{where} = {address!r}: {expected}") from error
    port = getattr(parsed, "port", "0")
    if not port.isdecimal():
        raise BadInputError(f"{where} = {address!r}: its port is no number; {expected}")


class LineTransport(Adapter):
    """A pymeasure adapter that reads whole lines and keeps what it has of an unfinished one."""

    max_block_s = MAX_BLOCK_S

    def __init__(self, name: str, link: LinkSettings) -> None:
        super().__init__()
        self.name = name
        self.link = link
        self._terminator = link.terminator.encode("ascii")
        self._received = bytearray()

    @abstractmethod
    def _read_some(self, max_wait_s: float) -> bytes:
        """Return at least one byte, or none if nothing came within `max_wait_s`."""

    @abstractmethod
    def _now_s(self) -> float:
        """Return the time in s that the waits of `_read_some` are measured in."""

    def poll_line(self, max_wait_s: float) -> str | None:
        """Return the next whole line without its end, or None if it is not whole in time.

        Nothing but the terminator and a carriage return before it is stripped: a trailing space is
        data to some instruments.

        Raises:
            ReplyError: so much has come without the end of a line that it can be none.
        """
        if not self._receive_line(max_wait_s):
            return None
        line, _, rest = self._received.partition(self._terminator)
        self._received = bytearray(rest)
        return line.removesuffix(b"\r").decode("latin-1")

    def _receive_line(self, max_wait_s: float) -> bool:
        """Receive until a line is whole or the time is up, however the bytes trickle in."""
        began_s = self._now_s()
        stop_s = began_s + max(max_wait_s, _DRAIN_S)
        while self._terminator not in self._received:
            now_s = self._now_s()
            some = self._read_some(max(0.0, began_s + max_wait_s - now_s))
            self._received += some
            self._check_length()
            if not some or now_s >= stop_s:
                return self._terminator in self._received
        return True

    def _check_length(self) -> None:
        """Raise ReplyError, and forget it all, if what came can be no line."""
        if len(self._received) > _LONGEST_LINE and self._terminator not in self._received:
            beginning = bytes(self._received[:_SHOWN])
            self._received.clear()
            raise ReplyError(self.name, "a line without end", reply=beginning)

    def _write(self, command: str, **kwargs: Any) -> None:
        self._write_bytes(command.encode("latin-1") + self._terminator)

    def _read(self, **kwargs: Any) -> str:
        line = self.poll_line(self.link.reply_timeout_s)
        if line is None:
            raise ReplyTimeoutError(self.name, f"no answer within {self.link.reply_timeout_s} s")
        return line

    def _read_bytes(self, count: int, break_on_termchar: bool, **kwargs: Any) -> bytes:
        stop_s = self._now_s() + self.link.reply_timeout_s
        while (len(self._received) < count or count < 0) and self._now_s() <= stop_s:
            some = self._read_some(max(0.0, stop_s - self._now_s()))
            if not some:
                break
            self._received += some
        size = len(self._received) if count < 0 else count
        taken, self._received = bytes(self._received[:size]), self._received[size:]
        return taken

    def flush_read_buffer(self) -> None:
        """Discard what has arrived and was not read.

        Raises:
            ReplyError: the instrument goes on sending for longer than any call may take.
        """
        stop_s = self._now_s() + MAX_BLOCK_S
        self._received.clear()
        latest = b""
        while some := self._read_some(0.0):
            latest = (latest + some)[-_SHOWN:]
            if self._now_s() > stop_s:
                raise ReplyError(self.name, "it does not stop sending", reply=latest)


class VisaTransport(LineTransport):
    """A line to a real instrument (or a simulated one on a socket) through pyvisa.

    Bytes are read one at a time: pyvisa throws away what a read had collected when it times out,
    and an instrument's line may well be cut by the end of a slice.
    """

    def __init__(self, name: str, address: str, link: LinkSettings, *, library: str = "") -> None:
        super().__init__(name, link)
        self._address = address
        self._resource = _open_visa(name, address, link, library)
        self.connection = self._resource
        line = self._socket()
        if line is not None:  # on some systems room for a byte is enough to be told to send all
            line.settimeout(self.max_block_s)

    def close(self) -> None:
        """Close the line; what the other end has not taken is given up."""
        if not hasattr(self, "_resource"):
            return  # it was never open
        from pyvisa import Error
        from pyvisa.constants import BufferOperation

        # A system may keep a closing serial port for half a minute until its output is taken.
        with suppress(Error, OSError):
            self._resource.flush(BufferOperation.discard_write_buffer)
        with _visa_errors(self.name, self._address):
            super().close()

    def _now_s(self) -> float:
        # pyvisa waits by the wall clock, on a thread that has no loop: so its deadlines are kept.
        return perf_counter()

    def _write_bytes(self, content: bytes, **kwargs: Any) -> None:
        with _visa_errors(self.name, self._address):
            self._limit_wait(self.max_block_s)
            line = self._socket()
            if line is None:
                self._resource.write_raw(content)
            else:
                self._send(line, content)

    def _read_some(self, max_wait_s: float) -> bytes:
        from pyvisa import VisaIOError
        from pyvisa.constants import StatusCode

        # That there is more than the one byte asked for is no news worth a warning.
        usual = self._resource.ignore_warning(StatusCode.success_max_count_read)
        with _visa_errors(self.name, self._address), usual:
            self._limit_wait(max_wait_s)
            try:
                return bytes(self._resource.visalib.read(self._resource.session, 1)[0])
            except VisaIOError as error:
                if error.error_code == StatusCode.error_timeout:
                    self._check_peer()
                    return b""
                raise

    def _limit_wait(self, max_wait_s: float) -> None:
        """Let the next read or write wait no longer than that, and never longer than it may."""
        self._resource.timeout = max(1, round(min(max_wait_s, self.max_block_s) * 1000))

    def _socket(self) -> socket.socket | None:
        """Return pyvisa-py's socket; None for other lines and other libraries."""
        session = getattr(self._resource.visalib, "sessions", {}).get(self._resource.session)
        line = getattr(session, "interface", None)
        return line if isinstance(line, socket.socket) else None

    def _send(self, line: socket.socket, content: bytes) -> None:
        """Write to a socket a part at a time, as it has room; pyvisa-py would wait for ever."""
        stop_s = self._now_s() + self.max_block_s
        for start in range(0, len(content), _SENT_AT_ONCE):
            if not select.select([], [line], [], max(0.0, stop_s - self._now_s()))[1]:
                raise TimeoutError("the other end takes nothing")
            self._resource.write_raw(content[start : start + _SENT_AT_ONCE])

    def _check_peer(self) -> None:
        """Raise ConnectionError if the other end of a socket has hung up.

        pyvisa-py takes that for silence: it reads nothing, again and again, until its time is up.
        """
        line = self._socket()
        if line is None:
            return
        readable, _, _ = select.select([line], [], [], 0)
        if readable and not line.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError("the other end hung up")


@contextmanager
def _visa_errors(name: str, address: str) -> Generator[None, None, None]:
    """Turn what pyvisa and sockets raise into UnreachableError with the instrument's name."""
    from pyvisa import Error

    try:
        yield
    except (Error, OSError) as error:
        message = f"no connection at {address}: {_one_line(error)}"
        raise UnreachableError(name, message) from error


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _open_visa(name: str, address: str, link: LinkSettings, library: str) -> MessageBasedResource:
    """Return an open pyvisa resource; without a library named, an installed VISA or pyvisa-py."""
    import pyvisa

    settings = link.serial if address.upper().startswith("ASRL") else {}
    try:
        manager = pyvisa.ResourceManager(library)
        open_timeout_ms = round(MAX_BLOCK_S * 1000)
        resource = manager.open_resource(address, open_timeout=open_timeout_ms, **settings)
    except Exception as error:  # pyvisa-py raises bare Exception where it cannot connect
        message = f"no connection at {address}: {_one_line(error)}"
        raise UnreachableError(name, message) from error
    return cast("MessageBasedResource", resource)
