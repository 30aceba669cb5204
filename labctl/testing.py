"""Tests of a site's own parts: a protocol on simulated instruments, a driver in a dialogue.

A driver's dialogue is of (command, reply) pairs instead of an instrument.

The pairs are those of `pymeasure.test.expected_protocol`: `("KRDG? A", "+295.123")` is a question
and its answer, `("e", None)` a command that nothing answers, `(None, "P...")` a line that comes
without being asked for. Terminators are left out; a reply of several lines holds line feeds.
A dialogue knows no time: where the pairs hold no reply, waiting for one fails at once. What a
driver waits on its own costs nothing in a test that runs `in_virtual_time`.
"""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pymeasure.adapters import ProtocolAdapter

from labctl.clock import VirtualTimeLoop, run_on
from labctl.errors import ReplyTimeoutError
from labctl.instruments.bus import Connection
from labctl.instruments.transport import LineTransport, LinkSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from labctl.clock import ParkingLot
    from labctl.store.reading import StoredRun

    Pairs = Sequence[tuple[str | None, str | None]]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def in_virtual_time(test: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, _T]:
    """Make an async test run on a `VirtualTimeLoop` of its own, where waits cost nothing."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return run_on(VirtualTimeLoop(), test(*args, **kwargs))

    return run


class _Script(ProtocolAdapter):
    """pymeasure's dialogue, asked a few things that it keeps to itself."""

    def hear(self, content: bytes) -> None:
        """Take one whole message; AssertionError if another one is expected."""
        if self._index >= len(self.comm_pairs):
            raise AssertionError(f"the dialogue is over, but the driver sends {content!r}")
        expected = self.comm_pairs[self._index][0]
        self.write_bytes(content)
        if self._write_buffer is not None:
            raise AssertionError(f"the driver sends {content!r} where {expected!r} is expected")

    def answer(self) -> bytes | None:
        """Return the reply to what was heard, each once."""
        return self.read_bytes(-1) if self._read_buffer is not None else None

    def volunteer(self) -> bytes | None:
        """Return what the instrument says next without being asked, None if it says nothing."""
        unspent = self._index < len(self.comm_pairs)
        is_unasked = unspent and self.comm_pairs[self._index][0] is None
        return self.read_bytes(-1) if is_unasked else None

    def check_spent(self) -> None:
        """Raise AssertionError unless every pair has had its turn."""
        unspent = self.comm_pairs[self._index :]
        if unspent:
            raise AssertionError(f"{len(unspent)} unspent pairs, from {unspent[0]!r} on")
        if self._read_buffer is not None:
            raise AssertionError(f"the driver did not read {self._read_buffer!r}")


class DialogueTransport(LineTransport):
    """A line at whose other end somebody reads out a dialogue."""

    def __init__(self, name: str, link: LinkSettings, script: _Script) -> None:
        super().__init__(name, link)
        self._script = script
        self.connection = script.connection

    def poll_line(self, max_wait_s: float) -> str | None:
        """Return the next line.

        Raises:
            ReplyTimeoutError: the dialogue holds none here; it will not come later either.
        """
        line = super().poll_line(max_wait_s)
        if line is None:
            raise ReplyTimeoutError(self.name, "silent: the dialogue holds no reply here")
        return line

    def flush_read_buffer(self) -> None:
        """Discard answers that were not read; what comes unasked is still to come."""
        self._script.answer()
        self._received = bytearray()

    def _now_s(self) -> float:
        return 0.0

    @property
    def unread(self) -> bytes:
        """Return what was said and not read."""
        return bytes(self._received)

    def _write_bytes(self, content: bytes, **kwargs: Any) -> None:
        # Whatever was said before stays on the line for later: drivers may speak before they read.
        while some := self._read_some(0.0):
            self._received += some
        self._script.hear(content.removesuffix(self._terminator))

    def _read_some(self, max_wait_s: float) -> bytes:
        answer = self._script.answer()
        said = self._script.volunteer() if answer is None else answer
        return b"" if said is None else said + self._terminator


@asynccontextmanager
async def expected_dialogue(
    driver: type[Any],
    pairs: Pairs,
    *,
    name: str = "instrument",
    settings: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Any, None]:
    """Give a driver at whose other end a dialogue is held, and check that all of it was.

    Args:
        driver: the driver class; it is built as a rig builds it and not open yet.
        pairs: the whole dialogue, opening included.
        name: the instrument's name in the rig.
        settings: what `[instruments.NAME.settings]` of a rig file holds.

    Raises:
        AssertionError: the driver said something else, or pairs are left.
    """
    script = _Script(list(pairs))
    transports: list[DialogueTransport] = []

    def open_transport(link: LinkSettings, _: ParkingLot) -> DialogueTransport:
        transports.append(DialogueTransport(name, link, script))
        return transports[-1]

    connection = Connection(name, open_transport)
    try:
        yield driver(connection, driver.Settings(**settings or {}))
    finally:
        await connection.close()
    script.check_spent()
    for transport in transports:
        if transport.unread:
            raise AssertionError(f"the driver did not read {transport.unread!r}")


def simulate(
    protocol: str | Path,
    *,
    folder: Path,
    parameters: Mapping[str, Any] | None = None,
    rig: Path | None = None,
    sample: Path | None = None,
) -> StoredRun:
    """Return a run of a protocol on simulated instruments, carried out in virtual time.

    Args:
        protocol: a registered name, or the path of a script.
        folder: an empty one, for the run's data.
        parameters: as a file gives them, quantities with their units.
        rig: with a simulated world; without one, a pellet of the demonstration in its chamber.
        sample: the sample file; without one, that pellet's.

    Raises:
        BadInputError: something is wrong or not allowed.
    """
    from labctl import assembly
    from labctl.demo_bench import write_bench
    from labctl.store.reading import open_store

    bench = write_bench("alocl", folder / "bench")
    request = assembly.RunRequest(
        protocol=str(protocol),
        rig=rig or bench / "rig.toml",
        sample=sample or bench / "sample.toml",
        parameters=parameters or {},
        data=folder / "data",
        is_simulated=True,
    )
    report = assembly.run(request, lambda _: None)
    return open_store(report.store).run(report.run_id)
