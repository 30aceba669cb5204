"""The socket face of a simulated instrument: one client at a time, bytes when they are due."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from labctl.clock import ScaledTimeLoop, run_on
from labctl.instruments.serving import DeviceServer
from labctl_simulators.device import LineInstrument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

pytestmark = pytest.mark.realtime


class Slow(LineInstrument):
    """Answers every line with itself ten seconds later."""

    def __init__(self) -> None:
        super().__init__()
        self.n_clients = 0

    def connect(self, now_s: float) -> None:
        super().connect(now_s)
        self.n_clients += 1

    def disconnect(self, now_s: float) -> None:
        super().disconnect(now_s)
        self.n_clients -= 1

    def _handle_line(self, line: str, now_s: float) -> None:
        self._reply(f"{line}\n".encode(), due_s=now_s + 10.0)


def served(test: Callable[[Slow, int], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Make a test of a served instrument, a hundred times faster than life."""

    async def main() -> None:
        slow = Slow()
        server = DeviceServer(slow, start_s=asyncio.get_running_loop().time())
        port = await server.start()
        try:
            await test(slow, port)
        finally:
            await server.stop()

    def run() -> None:
        run_on(ScaledTimeLoop(100.0), main())

    run.__name__ = test.__name__
    return run


class Client:
    """One end of a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, line: str) -> None:
        self._writer.write(line.encode() + b"\n")

    async def hear(self) -> str:
        """Return the next line; "" once the other end has hung up."""
        return (await self._reader.readline()).decode().strip()

    async def ask(self, line: str) -> str:
        self.say(line)
        return await self.hear()


@asynccontextmanager
async def client(port: int) -> AsyncGenerator[Client, None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@served
async def test_an_answer_comes_when_it_is_due(slow: Slow, port: int) -> None:
    loop = asyncio.get_running_loop()
    async with client(port) as line:
        began_s = loop.time()
        assert await line.ask("hello") == "hello"
        assert loop.time() - began_s >= 10.0


@served
async def test_a_message_that_comes_meanwhile_is_heard(slow: Slow, port: int) -> None:
    async with client(port) as line:
        line.say("first")
        await asyncio.sleep(2.0)
        line.say("second")
        assert [await line.hear(), await line.hear()] == ["first", "second"]


@served
async def test_a_second_client_is_turned_away_and_the_first_stays(slow: Slow, port: int) -> None:
    async with client(port) as first:
        assert await first.ask("one") == "one"
        async with client(port) as second:
            assert await second.hear() == ""
        assert await first.ask("two") == "two"
        assert slow.n_clients == 1


@served
async def test_a_client_may_come_back_at_once(slow: Slow, port: int) -> None:
    for attempt in range(10):
        async with client(port) as line:
            assert await line.ask(f"{attempt}") == f"{attempt}"


@served
async def test_a_device_that_cuts_the_line_hangs_up(slow: Slow, port: int) -> None:
    async with client(port) as line:
        line.say("anybody there?")
        slow.faults.hung_up = True
        assert await line.hear() == ""


def test_stopping_hangs_up_on_whoever_is_connected() -> None:
    async def main() -> None:
        slow = Slow()
        server = DeviceServer(slow, start_s=asyncio.get_running_loop().time())
        async with client(await server.start()) as line:
            line.say("hello")
            await asyncio.sleep(1.0)
            assert slow.n_clients == 1
            await server.stop()
            assert slow.n_clients == 0
            assert await line.hear() == ""

    run_on(ScaledTimeLoop(100.0), main())


def test_stopping_turns_away_whoever_waits_for_the_line() -> None:
    async def main() -> None:
        server = DeviceServer(Slow(), start_s=asyncio.get_running_loop().time())
        port = await server.start()
        async with client(port) as first, client(port) as second:
            first.say("hello")
            await asyncio.sleep(0.5)
            await server.stop()
            assert await second.hear() == ""

    run_on(ScaledTimeLoop(100.0), main())
