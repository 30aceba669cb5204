"""A line through pyvisa to a socket: whole lines only, however their bytes arrive."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from labctl.errors import ReplyTimeoutError, UnreachableError
from labctl.instruments.transport import LinkSettings, VisaTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    transport = VisaTransport("meter", f"TCPIP::127.0.0.1::{port}::SOCKET", LINK)
    with pytest.raises(UnreachableError, match=f"meter: no connection at .*{port}.* refused"):
        transport.write("*IDN?")
    transport.close()


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
