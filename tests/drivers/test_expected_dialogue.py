"""The helper that other people's driver tests stand on: it must fail when it should."""

from typing import ClassVar

import pytest
from pydantic import BaseModel

from labctl.errors import ReplyTimeoutError
from labctl.instruments.bus import Connection
from labctl.instruments.transport import LinkSettings
from labctl.testing import expected_dialogue, in_virtual_time

Pairs = list[tuple[str | None, str | None]]


class _NoSettings(BaseModel):
    pass


class Meter:
    """A driver as small as can be."""

    Settings: ClassVar[type[BaseModel]] = _NoSettings

    def __init__(self, connection: Connection, settings: BaseModel) -> None:
        self.connection = connection

    async def open(self) -> None:
        await self.connection.open(LinkSettings())

    async def send(self, command: str) -> None:
        transport = self.connection.transport
        await self.connection.call(lambda: transport.write(command))

    async def line(self) -> str:
        return await self.connection.read_line(timeout_s=100.0)


async def say(command: str, pairs: Pairs) -> None:
    async with expected_dialogue(Meter, pairs) as meter:
        await meter.open()
        await meter.send(command)


async def test_a_dialogue_runs_on_an_ordinary_loop_too() -> None:
    async with expected_dialogue(Meter, [("VOLT?", "3.1"), (None, "done ")]) as meter:
        await meter.open()
        await meter.send("VOLT?")
        assert [await meter.line(), await meter.line()] == ["3.1", "done "]


@in_virtual_time
async def test_what_was_said_before_a_command_is_still_to_be_read_after_it() -> None:
    async with expected_dialogue(Meter, [(None, "hello"), ("STOP", "stopped")]) as meter:
        await meter.open()
        await meter.send("STOP")
        assert [await meter.line(), await meter.line()] == ["hello", "stopped"]


@in_virtual_time
async def test_silence_fails_at_once() -> None:
    async with expected_dialogue(Meter, [("VOLT?", None)]) as meter:
        await meter.open()
        await meter.send("VOLT?")
        with pytest.raises(ReplyTimeoutError, match="no reply here"):
            await meter.line()


@in_virtual_time
async def test_another_command_fails() -> None:
    with pytest.raises(AssertionError, match="VOLT 5"):
        await say("VOLT 5", [("VOLT 3", None)])


@in_virtual_time
async def test_a_command_too_many_fails() -> None:
    with pytest.raises(AssertionError, match="the dialogue is over"):
        await say("VOLT?", [])


@in_virtual_time
async def test_unspent_pairs_fail() -> None:
    with pytest.raises(AssertionError, match="2 unspent pairs"):
        await say("VOLT?", [("VOLT?", None), ("VOLT?", "3.1"), (None, "x")])


@in_virtual_time
@pytest.mark.parametrize("pairs", [[("VOLT?", "3.1")], [(None, "3.1"), ("VOLT?", None)]])
async def test_a_reply_nobody_read_fails(pairs: Pairs) -> None:
    with pytest.raises(AssertionError, match="did not read"):
        await say("VOLT?", pairs)
