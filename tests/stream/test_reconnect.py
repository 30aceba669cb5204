from __future__ import annotations

import asyncio

from labctl.errors import StoreError
from labctl.stream.mqtt import BrokerLostError, broker_address
from labctl.stream.reconnect import Reconnector


async def end(task):
    task.cancel()
    await asyncio.wait([task], timeout=5)
    return task.cancelled()


async def test_a_session_that_breaks_is_followed_by_another(broker, caplog):
    reconnector = Reconnector("test", broker)
    third = asyncio.Event()
    failures = [BrokerLostError("gone"), StoreError("disk full")]

    async def session(_) -> None:
        if failures:
            raise failures.pop(0)
        third.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(reconnector.keep(session))
    await asyncio.wait_for(third.wait(), timeout=5)
    assert reconnector.problem is None
    assert "gone" in caplog.text
    assert "disk full" in caplog.text
    assert await end(task)


async def test_what_many_messages_met_is_said_once_with_its_count(broker, caplog):
    reconnector = Reconnector("test", broker)
    again = asyncio.Event()

    async def publish() -> None:
        raise BrokerLostError("Operation timed out")

    async def session(_) -> None:
        if reconnector.problem is None and "3 times" in caplog.text:
            again.set()
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(publish())

    task = asyncio.create_task(reconnector.keep(session))
    await asyncio.wait_for(again.wait(), timeout=5)
    assert await end(task)
    assert caplog.text.count("Operation timed out") == 1
    assert "test: Operation timed out (3 times); trying again" in caplog.text


async def test_a_broker_that_is_away_is_logged_once(free_port, caplog):
    reconnector = Reconnector("test", broker_address(f"mqtt://127.0.0.1:{free_port}"))

    async def session(_) -> None:
        raise AssertionError("there is no broker")

    task = asyncio.create_task(reconnector.keep(session))
    await asyncio.sleep(0.2)
    assert await end(task)
    assert str(free_port) in reconnector.problem
    assert len([r for r in caplog.records if "trying again" in r.message]) == 1


async def test_a_connection_that_breaks_while_closing_does_not_swallow_the_end(broker):
    entered = asyncio.Event()

    async def session(_) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BrokerLostError("broken while saying goodbye") from None

    task = asyncio.create_task(Reconnector("test", broker).keep(session))
    await entered.wait()
    assert await end(task)


async def test_an_error_that_is_no_connections_ends_it(broker):
    async def session(_) -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(Reconnector("test", broker).keep(session))
    await asyncio.wait([task], timeout=5)
    assert isinstance(task.exception(), ZeroDivisionError)
