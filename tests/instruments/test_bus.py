"""A connection: turns on one line, pauses between messages, and questions asked again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from labctl.errors import ReplyTimeoutError, UnreachableError
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
    pauses_s = [
        after - before for before, after in zip(echo.heard_s, echo.heard_s[1:], strict=False)
    ]
    assert pauses_s == pytest.approx([0.05] * 4)


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
