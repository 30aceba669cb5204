"""A line through pyvisa to a socket: whole lines only, however their bytes arrive."""

from __future__ import annotations

import asyncio
import socket
import threading
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from labctl.errors import (
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments import transport
from labctl.instruments.bus import Connection
from labctl.instruments.transport import LinkSettings, VisaTransport
from labctl_drivers.lakeshore_336 import LakeShore336
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.realtime

LINK = LinkSettings(reply_timeout_s=0.2)


class Ends:
    """Both ends of one line."""

    def __init__(self, link: LinkSettings = LINK) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.here = VisaTransport("meter", f"TCPIP::127.0.0.1::{port}::SOCKET", link)
            self.there, _ = listener.accept()

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


def test_a_line_goes_out_with_its_terminator(ends: Ends) -> None:
    ends.here.write("*IDN?")
    assert ends.there.recv(100) == b"*IDN?\n"


def test_a_line_comes_back_without_terminator_and_carriage_return(ends: Ends) -> None:
    ends.there.sendall(b"+295.123\r\nnext\n")
    assert ends.here.read() == "+295.123"
    assert ends.here.read() == "next"


def test_a_trailing_space_is_data(ends: Ends) -> None:
    ends.there.sendall(b"Pdc8030D40 \n")
    assert ends.here.read() == "Pdc8030D40 "


def test_half_a_line_waits_for_its_other_half(ends: Ends) -> None:
    ends.there.sendall(b"+295.")
    assert ends.here.poll_line(0.05) is None
    ends.there.sendall(b"123\n")
    assert ends.here.poll_line(1.0) == "+295.123"


def test_a_read_that_gets_nothing_ends_in_time(ends: Ends) -> None:
    with pytest.raises(ReplyTimeoutError, match=r"meter: no answer within 0\.2 s"):
        ends.here.read()


def test_flushing_discards_what_has_arrived(ends: Ends) -> None:
    ends.there.sendall(b"old\nhalf")
    assert ends.here.poll_line(1.0) == "old"
    ends.here.flush_read_buffer()
    ends.there.sendall(b"new\n")
    assert ends.here.read() == "new"


def poll_until_told(ends: Ends) -> None:
    for _ in range(100):
        ends.here.poll_line(0.5)


def write_until_told(ends: Ends) -> None:
    """Write on: a system tells only after the first message that nobody takes it."""
    for _ in range(100):
        ends.here.write("x")


def test_a_peer_that_hung_up_is_told_by_name_when_written_to(ends: Ends) -> None:
    ends.there.close()
    with pytest.raises(UnreachableError, match="meter: no connection at TCPIP"):
        write_until_told(ends)


@pytest.mark.parametrize("address", ["ASRL/dev/no-such-port::INSTR", "no address at all"])
def test_an_address_where_nothing_is_is_named(address: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        VisaTransport("meter", address, LINK)
    assert str(caught.value).startswith(f"meter: no connection at {address}: ")
    assert "\n" not in str(caught.value)


def test_a_port_where_nobody_listens_is_named_at_the_first_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    line = VisaTransport("meter", f"TCPIP::127.0.0.1::{port}::SOCKET", LINK)
    with pytest.raises(UnreachableError, match=f"meter: no connection at .*{port}.* refused"):
        line.write("*IDN?")
    line.close()


def test_a_peer_that_hangs_up_is_no_silence(ends: Ends) -> None:
    ends.there.sendall(b"+295.")
    ends.there.close()
    with pytest.raises(UnreachableError, match="the other end hung up"):
        ends.here.read()


def test_a_pause_in_the_middle_of_a_line_is_no_silence(ends: Ends) -> None:
    ends.there.sendall(b"+295.")
    rest = threading.Timer(0.1, lambda: ends.there.sendall(b"123\n"))
    rest.start()
    assert ends.here.read() == "+295.123"
    rest.join()


class Talker:
    """Says the same again and again, to whoever connects, until it is stopped."""

    def __init__(self, text: bytes, every_s: float) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._text = text
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with line:
                self._talk(line)

    def _talk(self, line: socket.socket) -> None:
        try:
            while not self._stop.wait(self._every_s):
                line.sendall(self._text)
        except OSError:
            return  # the other end has gone

    def stop(self) -> None:
        self._stop.set()
        with socket.create_connection(("127.0.0.1", self.port)):
            pass  # ends a wait for a client
        self._thread.join()
        self._listener.close()


@pytest.fixture
def talker() -> Iterator[Callable[[bytes, float], Talker]]:
    talkers: list[Talker] = []

    def made(text: bytes, every_s: float) -> Talker:
        talkers.append(Talker(text, every_s))
        return talkers[-1]

    yield made
    for each in talkers:
        each.stop()


def connection_to(talker: Talker) -> Connection:
    address = f"TCPIP::127.0.0.1::{talker.port}::SOCKET"
    return Connection("it", lambda link, _: VisaTransport("it", address, link))


def test_bytes_that_trickle_in_become_a_line(ends: Ends) -> None:
    def trickle() -> None:
        for byte in b"+295.123\n":
            threading.Event().wait(0.01)
            ends.there.sendall(bytes([byte]))

    rest = threading.Thread(target=trickle)
    rest.start()
    assert ends.here.read() == "+295.123"
    rest.join()


@pytest.mark.parametrize("every_s", [0.02, 0.0003])
def test_bytes_that_never_become_a_line_do_not_hold_a_read(talker, every_s: float) -> None:
    port = talker(b"x", every_s).port
    line = VisaTransport("meter", f"TCPIP::127.0.0.1::{port}::SOCKET", LINK)
    began_s = perf_counter()
    with pytest.raises(ReplyTimeoutError):
        line.read()
    assert line.poll_line(0.2) is None
    assert line.poll_line(0.0) is None
    assert perf_counter() - began_s < 2.0
    line.close()


def test_reading_bytes_ends_in_time_too(talker) -> None:
    port = talker(b"x", 0.02).port
    line = VisaTransport("meter", f"TCPIP::127.0.0.1::{port}::SOCKET", LINK)
    began_s = perf_counter()
    assert line.read_bytes(-1).startswith(b"x")
    assert perf_counter() - began_s < 2.0
    line.close()


def test_a_line_without_end_is_given_up_and_forgotten(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_LONGEST_LINE", 1000)
    ends.there.sendall(b"x" * 1100 + b"\nwhole\n")
    with pytest.raises(ReplyError, match="a line without end"):
        poll_until_told(ends)
    lines = [ends.here.poll_line(1.0) for _ in range(2)]
    assert lines == ["x" * 99, "whole"]


def test_flushing_an_instrument_that_does_not_stop_is_an_error(talker) -> None:
    port = talker(b"hello\n" * 100, 0.0).port
    line = VisaTransport("meter", f"TCPIP::127.0.0.1::{port}::SOCKET", LINK)
    assert line.read() == "hello"
    began_s = perf_counter()
    with pytest.raises(ReplyError, match="meter: it does not stop sending"):
        line.flush_read_buffer()
    assert perf_counter() - began_s < 2.0
    line.close()


def test_a_write_that_nobody_takes_ends_in_time(ends: Ends) -> None:
    def write_on() -> None:
        while True:
            ends.here.write("x" * 100_000)

    ends.there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    began_s = perf_counter()
    with pytest.raises(UnreachableError, match="meter: no connection at"):
        write_on()
    assert perf_counter() - began_s < 5.0


@pytest.mark.parametrize(("text", "every_s"), [(b"x", 0.02), (b"hello\n", 0.001)])
@pytest.mark.parametrize("kind", [LakeShore336, PalmSensEmStat4Hr])
async def test_opening_on_something_that_talks_without_sense_ends_when_it_is_cancelled(
    talker, kind, text: bytes, every_s: float
) -> None:
    driver = kind(connection_to(talker(text, every_s)), kind.Settings())
    opening = asyncio.ensure_future(driver.open())
    await asyncio.wait({opening}, timeout=0.3)
    opening.cancel()
    began_s = perf_counter()
    await asyncio.wait({opening})
    assert perf_counter() - began_s < 3.0


@pytest.mark.parametrize(("text", "every_s"), [(b"x", 0.02), (b"hello\n", 0.0005)])
async def test_opening_on_something_that_talks_without_sense_ends_by_itself(
    talker, text: bytes, every_s: float
) -> None:
    driver = LakeShore336(connection_to(talker(text, every_s)), LakeShore336.Settings())
    async with asyncio.timeout(10.0):
        with pytest.raises((UnreachableError, WrongInstrumentError)):
            await driver.open()


async def test_the_deadline_of_a_line_holds_for_bytes_that_trickle_in(talker) -> None:
    connection = connection_to(talker(b"x", 0.02))
    await connection.open(LINK)
    began_s = perf_counter()
    with pytest.raises(ReplyTimeoutError, match=r"silent for 1\.0 s"):
        await connection.read_line(timeout_s=1.0)
    assert perf_counter() - began_s < 3.0
    await connection.close()
