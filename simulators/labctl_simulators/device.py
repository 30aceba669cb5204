"""What every simulated instrument is: bytes in, bytes out, and time as an argument.

Nothing here waits, opens a socket or reads a clock. Whoever holds the instrument (an in-process
adapter in virtual time, a TCP server in real time) hands it what arrived, asks when the next byte
is due and fetches it then. `now_s` counts from the start of the simulated world and never falls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

_GARBLED_EVERY = 3  # every third byte of a garbled reply is lost


@dataclass
class Faults:
    """What is broken on purpose.

    `SimulatedInstrument.set_faults` sets them at an instant. An attribute set by hand does the same
    to the line, but what is measured it changes only when the instrument is next spoken to: nothing
    that has happened is ever changed.

    Attributes:
        drop_replies: how many of the replies that leave next get lost.
        garble_replies: how many of the replies that leave next arrive with wrong bytes in them.
        delay_replies_s: every reply leaves this much later than it should.
        refuse: the instrument hangs: it ignores what it gets and says nothing.
        overload: the quantity measured is beyond the range; each instrument reports it its way.
        hung_up: the line is cut; a server closes the connection and accepts none.
    """

    drop_replies: int = 0
    garble_replies: int = 0
    delay_replies_s: float = 0.0
    refuse: bool = False
    overload: bool = False
    hung_up: bool = False

    @property
    def is_silent(self) -> bool:
        """Nothing gets in or out."""
        return self.refuse or self.hung_up


class ReplyQueue:
    """Replies that wait for the instant they are due, in the order they were given."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._waiting: deque[tuple[float, bytes]] = deque()

    def put(self, reply: bytes, *, due_s: float) -> None:
        """Let `reply` leave at `due_s`, but never before the reply put before it."""
        if self._waiting:
            due_s = max(due_s, self._waiting[-1][0])
        self._waiting.append((due_s, reply))

    def next_due_s(self) -> float | None:
        """Return when the next reply leaves that will not be dropped; None if there is none."""
        dropped = self._faults.drop_replies
        if self._faults.is_silent or len(self._waiting) <= dropped:
            return None
        return self._waiting[dropped][0] + self._faults.delay_replies_s

    def take(self, now_s: float) -> bytes:
        """Return all bytes due by `now_s` as the faults leave them; each is given once."""
        taken = bytearray()
        while self._waiting and self._waiting[0][0] + self._faults.delay_replies_s <= now_s:
            taken += self._damage(self._waiting.popleft()[1])
        return bytes(taken)

    def clear(self) -> None:
        """Forget every waiting reply."""
        self._waiting.clear()

    def _damage(self, reply: bytes) -> bytes:
        if self._faults.is_silent:
            return b""
        if self._faults.drop_replies > 0:
            self._faults.drop_replies -= 1
            return b""
        if self._faults.garble_replies > 0:
            self._faults.garble_replies -= 1
            return garbled(reply)
        return reply


def garbled(reply: bytes) -> bytes:
    """Return `reply` with wrong bytes in it; its line ends stay, so that a reader gets a line."""
    return bytes(
        ord("#") if i % _GARBLED_EVERY == 0 and byte not in b"\r\n" else byte
        for i, byte in enumerate(reply)
    )


class SimulatedInstrument(ABC):
    """One simulated instrument, without I/O.

    Attributes:
        port: the TCP port the real instrument listens on; 0 for one without a network socket.
        faults: what is broken on purpose.
    """

    port: ClassVar[int] = 0

    def __init__(self) -> None:
        self.faults = Faults()
        self._replies = ReplyQueue(self.faults)
        self._is_connected = False

    @property
    def hung_up(self) -> bool:
        """Return whether the line is cut, so that whoever serves it hangs up."""
        return self.faults.hung_up

    def set_faults(self, now_s: float, **faults: float) -> None:
        """Break, or mend, at `now_s`: names and values are those of `Faults`.

        Raises:
            AttributeError: no such fault.
        """
        self.advance(now_s)
        for name, value in faults.items():
            getattr(self.faults, name)
            setattr(self.faults, name, value)
        self.advance(now_s)

    def advance(self, now_s: float) -> None:  # noqa: B027 - many an instrument only answers
        """Let all happen that is to happen by `now_s`, as things stood until now."""

    def connect(self, now_s: float) -> None:
        """A client opened the line; what fell due while nobody listened is lost."""
        self._replies.take(now_s)
        self._is_connected = True

    def disconnect(self, now_s: float) -> None:
        """A client closed the line; the instrument goes on with what it does."""
        self._is_connected = False

    @abstractmethod
    def receive(self, data: bytes, now_s: float) -> None:
        """Take in bytes that arrived at `now_s`: a part of a message, one or several."""

    def next_due_s(self) -> float | None:
        """Return the earliest instant at which `transmit` gives bytes; None if none wait."""
        return self._replies.next_due_s()

    def transmit(self, now_s: float) -> bytes:
        """Return all bytes due by `now_s`, in order, each once."""
        return self._replies.take(now_s)

    def power_cycle(self, now_s: float) -> None:
        """Switch off and on again: waiting replies are gone, so is what is not kept in memory."""
        self._replies.clear()

    def _reply(self, reply: bytes, *, due_s: float) -> None:
        """Let `reply`, terminator included, leave at `due_s`."""
        self._replies.put(reply, due_s=due_s)


class LineInstrument(SimulatedInstrument):
    """An instrument whose messages are ASCII lines that end in LF; CR is ignored."""

    def __init__(self) -> None:
        super().__init__()
        self._partial = b""

    def receive(self, data: bytes, now_s: float) -> None:
        """Collect bytes into lines and handle each whole line at `now_s`."""
        if self.faults.is_silent:
            return
        *lines, self._partial = (self._partial + data.replace(b"\r", b"")).split(b"\n")
        for line in lines:
            self._handle_line(line.decode("ascii", errors="replace"), now_s)

    def power_cycle(self, now_s: float) -> None:
        """Switch off and on again; a half-received line is gone too."""
        super().power_cycle(now_s)
        self._partial = b""

    @abstractmethod
    def _handle_line(self, line: str, now_s: float) -> None:
        """Act on one message, given without its terminator."""
