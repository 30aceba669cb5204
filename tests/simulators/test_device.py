"""The sans-IO base: when bytes leave, what faults do to them, how bytes become lines."""

import pytest

from labctl_simulators.device import LineInstrument, garbled

PROCESSING_S = 0.25


class Echo(LineInstrument):
    """Sends every line back after a quarter of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _handle_line(self, line: str, now_s: float) -> None:
        self.lines.append(line)
        self.say(line.encode() + b"\r\n", due_s=now_s + PROCESSING_S)

    def say(self, reply: bytes, *, due_s: float) -> None:
        self._reply(reply, due_s=due_s)


@pytest.fixture
def echo() -> Echo:
    device = Echo()
    device.connect(0.0)
    return device


def test_a_reply_leaves_when_it_is_due_and_only_once(echo: Echo) -> None:
    echo.receive(b"one\n", 1.0)
    assert echo.next_due_s() == 1.25
    assert echo.transmit(1.2) == b""
    assert echo.transmit(1.25) == b"one\r\n"
    assert echo.transmit(9.0) == b""
    assert echo.next_due_s() is None


def test_replies_leave_in_the_order_they_were_given(echo: Echo) -> None:
    echo.say(b"late", due_s=5.0)
    echo.say(b"early", due_s=1.0)
    assert echo.transmit(4.0) == b""
    assert echo.transmit(5.0) == b"lateearly"


def test_a_line_may_arrive_in_pieces_and_with_or_without_cr(echo: Echo) -> None:
    for piece in (b"KR", b"DG? A\r", b"\nHTR? 1\nSE", b"TP? 1"):
        echo.receive(piece, 0.0)
    assert echo.lines == ["KRDG? A", "HTR? 1"]
    echo.receive(b"\r\n", 0.0)
    assert echo.lines[-1] == "SETP? 1"


def test_bytes_beyond_ascii_do_not_break_the_instrument(echo: Echo) -> None:
    echo.receive(b"\xff\xfeA\n", 0.0)
    assert echo.lines == ["\ufffd\ufffdA"]


def test_dropped_replies_are_lost_and_the_next_one_arrives(echo: Echo) -> None:
    echo.faults.drop_replies = 1
    echo.receive(b"one\n", 0.0)
    assert echo.next_due_s() is None
    echo.receive(b"two\n", 1.0)
    assert echo.next_due_s() == 1.25
    assert echo.transmit(1.25) == b"two\r\n"
    assert echo.faults.drop_replies == 0


def test_a_garbled_reply_keeps_its_length_and_its_line_end(echo: Echo) -> None:
    echo.faults.garble_replies = 1
    echo.receive(b"+295.123\n", 0.0)
    assert echo.transmit(1.0) == b"#29#.1#3\r\n"
    echo.receive(b"+295.123\n", 1.0)
    assert echo.transmit(2.0) == b"+295.123\r\n"


@pytest.mark.parametrize("reply", [b"0\r\n", b"000\r\n", b"Pda8000000 \n"])
def test_garbling_always_changes_a_reply(reply: bytes) -> None:
    assert garbled(reply) != reply
    assert garbled(reply).endswith(b"\n")


def test_a_delay_holds_back_every_reply(echo: Echo) -> None:
    echo.faults.delay_replies_s = 2.0
    echo.receive(b"one\n", 0.0)
    assert echo.next_due_s() == 2.25
    assert echo.transmit(2.0) == b""
    assert echo.transmit(2.25) == b"one\r\n"


def test_an_instrument_that_refuses_neither_hears_nor_speaks(echo: Echo) -> None:
    echo.receive(b"before\n", 0.0)
    echo.faults.refuse = True
    echo.receive(b"during\n", 0.1)
    assert echo.next_due_s() is None
    assert echo.transmit(1.0) == b""
    echo.faults.refuse = False
    assert echo.transmit(2.0) == b""
    assert echo.lines == ["before"]


def test_a_cut_line_loses_what_is_sent_over_it(echo: Echo) -> None:
    echo.faults.hung_up = True
    echo.receive(b"one\n", 0.0)
    echo.faults.hung_up = False
    echo.receive(b"two\n", 1.0)
    assert echo.lines == ["two"]


def test_what_fell_due_while_nobody_listened_is_lost(echo: Echo) -> None:
    echo.receive(b"one\n", 0.0)
    echo.disconnect(0.1)
    echo.connect(5.0)
    assert echo.transmit(6.0) == b""


def test_a_power_cycle_forgets_replies_and_half_lines(echo: Echo) -> None:
    echo.receive(b"one\ntw", 0.0)
    echo.power_cycle(0.1)
    echo.receive(b"o\n", 0.2)
    assert echo.lines == ["one", "o"]
    assert echo.transmit(1.0) == b"o\r\n"


def test_a_fault_is_set_at_an_instant_that_the_instrument_has_come_to() -> None:
    class Watched(Echo):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[float, float]] = []

        def advance(self, now_s: float) -> None:
            self.seen.append((now_s, self.faults.delay_replies_s))

    device = Watched()
    device.set_faults(3.0, delay_replies_s=2.0)
    assert device.seen == [(3.0, 0.0), (3.0, 2.0)]


def test_a_fault_that_does_not_exist_is_refused(echo: Echo) -> None:
    with pytest.raises(AttributeError, match="overlaod"):
        echo.set_faults(0.0, overlaod=True)
