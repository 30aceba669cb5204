"""A connection: turns on one line, pauses between messages, and questions asked again."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from labctl.errors import ReplyError, ReplyTimeoutError, UnreachableError
from labctl.instruments import bus
from labctl.instruments.bus import Connection
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.transport import LinkSettings
from labctl.testing import in_virtual_time
from labctl_simulators.device import LineInstrument

if TYPE_CHECKING:
    from labctl.clock import ParkingLot

LINK = LinkSettings(reply_timeout_s=0.5, min_gap_s=0.05)


class Echo(LineInstrument):
    """Answers every line with itself, a little later; remembers when each came."""

    def __init__(self) -> None:
        super().__init__()
        self.heard_s: list[float] = []

    def _handle_line(self, line: str, now_s: float) -> None:
        self.heard_s.append(now_s)
        self._reply(f"{line}\n".encode(), due_s=now_s + 0.01)


async def connected(echo: Echo) -> tuple[Connection, Any]:
    loop: Any = asyncio.get_running_loop()

    def open_transport(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
        return InProcessTransport("echo", echo, link, loop=loop, lot=lot)

    connection = Connection("echo", open_transport)
    return connection, await connection.open(LINK)


def question(transport: Any, text: str) -> str:
    transport.write(text)
    return transport.read()


def expected(transport: Any, text: str) -> str:
    answer = question(transport, text)
    if answer != text:
        raise ReplyError("echo", "no echo", reply=answer)
    return answer


@in_virtual_time
async def test_an_answer_belongs_to_its_question_whoever_asks() -> None:
    connection, line = await connected(Echo())
    asked = [f"{number}" for number in range(20)]
    answers = await asyncio.gather(
        *(connection.call(lambda text=text: question(line, text)) for text in asked)
    )
    await connection.close()
    assert list(answers) == asked


@in_virtual_time
async def test_messages_keep_the_pause_that_the_instrument_needs() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    for _ in range(5):
        await connection.call(lambda: line.write("x"))
    await connection.close()
    pauses_s = [after - before for before, after in pairwise(echo.heard_s)]
    assert pauses_s == pytest.approx([0.05] * 4)


@in_virtual_time
async def test_the_pause_begins_when_the_call_before_has_ended_however_many_wait() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    await asyncio.gather(*(connection.call(lambda: question(line, "x")) for _ in range(5)))
    await connection.close()
    pauses_s = [after - before for before, after in pairwise(echo.heard_s)]
    assert pauses_s == pytest.approx([0.061] * 4)  # an answer takes 10 ms, and 1 ms on the line


@in_virtual_time
async def test_the_pause_is_kept_after_a_call_whose_caller_has_gone() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    gone = asyncio.ensure_future(connection.call(lambda: question(line, "x")))
    await asyncio.sleep(0.055)
    assert echo.heard_s == [0.05]
    gone.cancel()
    await connection.call(lambda: line.write("y"))
    await connection.close()
    assert echo.heard_s[1] == pytest.approx(0.055 + 0.05)


@in_virtual_time
async def test_an_answer_that_makes_no_sense_is_asked_for_again() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    echo.faults.garble_replies = 2
    assert await connection.ask(lambda: expected(line, "xyz")) == "xyz"
    echo.faults.garble_replies = 3
    with pytest.raises(ReplyError):
        await connection.ask(lambda: expected(line, "xyz"))
    await connection.close()
    assert len(echo.heard_s) == 6


@in_virtual_time
async def test_an_answer_that_comes_between_two_attempts_is_not_the_second_s() -> None:
    class Late(Echo):
        """Answers with the number of the message, the first just after the time is up."""

        def _handle_line(self, line: str, now_s: float) -> None:
            self.heard_s.append(now_s)
            late_s = 0.52 if len(self.heard_s) == 1 else 0.01
            self._reply(f"{len(self.heard_s)}\n".encode(), due_s=now_s + late_s)

    connection, line = await connected(Late())
    assert await connection.ask(lambda: question(line, "x")) == "2"
    await connection.close()


@in_virtual_time
async def test_silence_is_answered_by_asking_again() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    echo.faults.drop_replies = 2
    assert await connection.ask(lambda: question(line, "x")) == "x"
    await connection.close()
    assert len(echo.heard_s) == 3


@in_virtual_time
async def test_silence_that_lasts_is_told_with_the_instrument_s_name() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    echo.faults.refuse = True
    with pytest.raises(ReplyTimeoutError, match=r"echo: no answer within 0\.5 s"):
        await connection.ask(lambda: question(line, "x"))
    await connection.close()


@in_virtual_time
async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    echo.faults.delay_replies_s = 0.495
    with pytest.raises(ReplyTimeoutError):
        await connection.call(lambda: question(line, "late"))
    await asyncio.sleep(1.0)
    echo.faults.delay_replies_s = 0.0
    echo.faults.drop_replies = 0
    await connection.call(line.flush_read_buffer)
    assert await connection.ask(lambda: question(line, "next")) == "next"
    await connection.close()


@in_virtual_time
async def test_a_line_is_waited_for_until_its_deadline_and_no_longer() -> None:
    connection, _ = await connected(Echo())
    with pytest.raises(ReplyTimeoutError, match=r"echo: silent for 12\.5 s"):
        await connection.read_line(timeout_s=12.5)
    assert asyncio.get_running_loop().time() == pytest.approx(12.5)
    await connection.close()


@in_virtual_time
async def test_a_cut_line_is_told_at_once() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    echo.faults.hung_up = True
    with pytest.raises(UnreachableError, match="echo: the line is cut"):
        await connection.call(lambda: question(line, "x"))
    await connection.close()


@in_virtual_time
async def test_a_line_that_was_cut_stays_dead_until_it_is_opened_again() -> None:
    echo = Echo()
    connection, line = await connected(echo)
    echo.faults.hung_up = True
    with pytest.raises(UnreachableError, match="echo: the line is cut"):
        await connection.call(lambda: question(line, "x"))
    echo.faults.hung_up = False
    with pytest.raises(UnreachableError, match="echo: the line is cut"):
        await connection.call(lambda: question(line, "x"))
    await connection.close()
    again = await connection.open(LINK)
    assert await connection.call(lambda: question(again, "x")) == "x"
    await connection.close()


@in_virtual_time
async def test_a_connection_opened_twice_leaves_no_line_behind(left_behind) -> None:
    class Counting(Echo):
        n_clients = 0

        def connect(self, now_s: float) -> None:
            self.n_clients += 1

        def disconnect(self, now_s: float) -> None:
            self.n_clients -= 1

    counting = Counting()
    connection, _ = await connected(counting)
    await connection.open(LINK)
    assert counting.n_clients == 1
    assert len(left_behind()) == 1
    await connection.close()
    assert counting.n_clients == 0


@in_virtual_time
async def test_closing_ends_a_call_that_waits() -> None:
    connection, _ = await connected(Echo())
    reading = asyncio.ensure_future(connection.read_line(timeout_s=1000.0))
    waiting = asyncio.ensure_future(connection.read_line(timeout_s=1000.0))
    await asyncio.sleep(1.0)
    await connection.close()
    assert asyncio.get_running_loop().time() == pytest.approx(1.0)
    for call in (reading, waiting):
        with pytest.raises(UnreachableError, match="echo: the line is not open"):
            await call


@in_virtual_time
async def test_closing_ends_a_call_that_is_about_to_begin() -> None:
    connection, _ = await connected(Echo())
    reading = asyncio.ensure_future(connection.read_line(timeout_s=1000.0))
    await asyncio.sleep(0)
    await connection.close()
    with pytest.raises(UnreachableError, match="echo: the line is not open"):
        await reading
    assert asyncio.get_running_loop().time() < 1.0


class Stuck:
    """A line whose closing or whose calls do not return until the test lets them."""

    max_block_s = 0.5

    def __init__(self) -> None:
        self.go = threading.Event()
        self.has_begun = threading.Event()
        self.is_closed = threading.Event()

    def block(self) -> None:
        self.has_begun.set()
        self.go.wait()

    def close(self) -> None:
        self.is_closed.set()


@pytest.mark.realtime
async def test_closing_does_not_wait_for_a_call_that_never_returns(
    monkeypatch: pytest.MonkeyPatch, left_behind
) -> None:
    monkeypatch.setattr(bus, "_CLOSE_S", 0.1)
    stuck: Any = Stuck()
    connection = Connection("stuck", lambda link, lot: stuck)
    await connection.open(LINK)
    calls = [asyncio.ensure_future(connection.call(stuck.block)) for _ in range(2)]
    await asyncio.to_thread(stuck.has_begun.wait)
    async with asyncio.timeout(1.0):
        await connection.close()
        for call in calls:
            with pytest.raises(UnreachableError):
                await call
    (thread,) = [each for each in threading.enumerate() if each.name == "bus-stuck"]
    stuck.go.set()
    await asyncio.to_thread(thread.join)
    assert stuck.is_closed.is_set()


@in_virtual_time
async def test_a_line_that_cannot_be_closed_is_given_up_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Sticky(Stuck):
        def close(self) -> None:
            raise UnreachableError("sticky", "no such port any more")

    sticky: Any = Sticky()
    connection = Connection("sticky", lambda link, lot: sticky)
    await connection.open(LINK)
    await connection.close()
    assert "sticky: no such port any more" in caplog.text


@pytest.mark.realtime
async def test_a_line_that_opens_after_its_opener_has_gone_is_closed_again() -> None:
    stuck: Any = Stuck()

    def open_slowly(link: LinkSettings, lot: ParkingLot) -> Any:
        stuck.block()
        return stuck

    opening = asyncio.ensure_future(Connection("stuck", open_slowly).open(LINK))
    await asyncio.to_thread(stuck.has_begun.wait)
    opening.cancel()
    asyncio.get_running_loop().call_later(0.05, stuck.go.set)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert stuck.is_closed.is_set()


@in_virtual_time
async def test_a_line_that_does_not_open_at_once_is_tried_again() -> None:
    loop: Any = asyncio.get_running_loop()
    tries: list[int] = []

    def open_transport(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
        tries.append(1)
        if len(tries) < 3:
            raise UnreachableError("echo", "busy")
        return InProcessTransport("echo", Echo(), link, loop=loop, lot=lot)

    connection = Connection("echo", open_transport)
    await connection.open(LINK)
    assert connection.is_open
    await connection.close()


@in_virtual_time
async def test_a_closed_connection_cannot_be_used() -> None:
    connection, line = await connected(Echo())
    await connection.close()
    await connection.close()
    assert not connection.is_open
    with pytest.raises(UnreachableError, match="echo: the line is not open"):
        await connection.call(lambda: line.write("x"))


@in_virtual_time
async def test_a_line_that_cannot_be_opened_leaves_no_thread() -> None:
    def refuse(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
        raise UnreachableError("echo", "no such port")

    connection = Connection("echo", refuse)
    with pytest.raises(UnreachableError, match="no such port"):
        await connection.open(LINK)
    assert not connection.is_open
