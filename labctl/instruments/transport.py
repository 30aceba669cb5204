"""Transports: pymeasure adapters that carry lines and never lose half of one.

A read on a real line blocks for at most `LineTransport.max_block_s`, so that an abort always finds
its turn on the bus; whatever a read collected before it ran out of time waits for the next one.
"""

from __future__ import annotations

import math
import select
import socket
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pymeasure.adapters import Adapter

from labctl.errors import ReplyTimeoutError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyvisa.resources import MessageBasedResource

MAX_BLOCK_S = 0.5
_REST_OF_LINE_S = 0.05


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

    def poll_line(self, max_wait_s: float) -> str | None:
        """Return the next whole line without its end, or None if it is not whole in time.

        Nothing but the terminator and a carriage return before it is stripped: a trailing space is
        data to some instruments.
        """
        wait_s = max_wait_s
        while self._terminator not in self._received:
            some = self._read_some(wait_s)
            if not some:
                return None
            self._received += some
            wait_s = min(wait_s, _REST_OF_LINE_S) if math.isfinite(self.max_block_s) else wait_s
        line, _, rest = self._received.partition(self._terminator)
        self._received = bytearray(rest)
        return line.removesuffix(b"\r").decode("latin-1")

    def _write(self, command: str, **kwargs: Any) -> None:
        self._write_bytes(command.encode("latin-1") + self._terminator)

    def _read(self, **kwargs: Any) -> str:
        line = self.poll_line(self.link.reply_timeout_s)
        # A line that has begun and pauses is given as long again as one that has not.
        if line is None and self._received:
            line = self.poll_line(self.link.reply_timeout_s)
        if line is None:
            raise ReplyTimeoutError(self.name, f"no answer within {self.link.reply_timeout_s} s")
        return line

    def _read_bytes(self, count: int, break_on_termchar: bool, **kwargs: Any) -> bytes:
        while len(self._received) < count or count < 0:
            some = self._read_some(self.link.reply_timeout_s)
            if not some:
                break
            self._received += some
        size = len(self._received) if count < 0 else count
        taken, self._received = bytes(self._received[:size]), self._received[size:]
        return taken

    def flush_read_buffer(self) -> None:
        """Discard what has arrived and was not read."""
        while self._read_some(0.0):
            pass
        self._received.clear()


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

    def _write_bytes(self, content: bytes, **kwargs: Any) -> None:
        with _visa_errors(self.name, self._address):
            self._resource.write_raw(content)

    def _read_some(self, max_wait_s: float) -> bytes:
        from pyvisa import VisaIOError
        from pyvisa.constants import StatusCode

        self._resource.timeout = max(1, round(min(max_wait_s, self.max_block_s) * 1000))
        # "There may be more" is what reading one byte at a time means.
        usual = self._resource.ignore_warning(StatusCode.success_max_count_read)
        with _visa_errors(self.name, self._address), usual:
            try:
                # That there is more than the one byte asked for is no news worth a warning.
                with self._resource.ignore_warning(StatusCode.success_max_count_read):
                    return bytes(self._resource.visalib.read(self._resource.session, 1)[0])
            except VisaIOError as error:
                if error.error_code == StatusCode.error_timeout:
                    self._check_peer()
                    return b""
                raise

    def _check_peer(self) -> None:
        """Raise ConnectionError if the other end of a socket has hung up.

        pyvisa-py takes that for silence: it reads nothing, again and again, until its time is up.
        """
        session = getattr(self._resource.visalib, "sessions", {}).get(self._resource.session)
        line = getattr(session, "interface", None)
        if not isinstance(line, socket.socket):
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
        resource = manager.open_resource(address, open_timeout=2000, **settings)
    except Exception as error:  # pyvisa-py raises bare Exception where it cannot connect
        message = f"no connection at {address}: {_one_line(error)}"
        raise UnreachableError(name, message) from error
    return cast("MessageBasedResource", resource)
