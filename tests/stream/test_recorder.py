from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import orjson
import pytest

from labctl.documents import Document, Kind, encode
from labctl.store.sqlite import SqliteStore
from labctl.stream.mqtt import Connection, connected
from labctl.stream.recorder import Recorder
from labctl.stream.topics import document_topic, watermark_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Bench:
    """A recorder at work, and a connection that plays the publisher."""

    def __init__(self, connection: Connection, recorder: Recorder, store: SqliteStore) -> None:
        self.connection = connection
        self.recorder = recorder
        self.store = store

    async def publish(self, *lines: bytes, run_id: str = "r1") -> None:
        await self.connection.publish(document_topic("rig", run_id), b"\n".join(lines))

    async def watermark(self) -> int:
        """Return the next watermark that the recorder publishes."""
        [message] = await self.connection.receive(1)
        return orjson.loads(message.payload)["committed"]

    def quarantined(self) -> list[tuple[bytes, str]]:
        with closing(sqlite3.connect(self.store.path)) as connection:
            return connection.execute("SELECT line, problem FROM quarantine ORDER BY id").fetchall()


@asynccontextmanager
async def at_work(recorder: Recorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    await recorder.ready.wait()
    yield
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def bench(broker, store_path):
    with closing(SqliteStore(store_path)) as store:
        recorder = Recorder(store, broker, recorder_id="bench-1")
        async with connected(broker) as connection, at_work(recorder):
            await connection.subscribe(watermark_topic("rig", "+"))
            yield Bench(connection, recorder, store)


async def test_what_it_says_is_committed_is_in_the_store(bench, points):
    await bench.publish(*map(encode, points(3)))
    assert await bench.watermark() == 2
    assert bench.store.watermark("r1") == 2


async def test_a_watermark_names_its_recorder(bench, points):
    await bench.publish(encode(points(1)[0]))
    [message] = await bench.connection.receive(1)
    assert message.topic == "labctl/rig/run/r1/ack"
    watermark = orjson.loads(message.payload)
    assert (watermark["recorder_id"], watermark["committed"]) == ("bench-1", 0)


async def test_documents_that_come_again_are_answered_and_change_nothing(bench, points):
    for _ in range(2):
        await bench.publish(*map(encode, points(3)))
        assert await bench.watermark() == 2
    assert bench.quarantined() == []


async def test_documents_in_another_order_fill_the_gap(bench, points):
    first, second, third = map(encode, points(3))
    await bench.publish(first, third)
    assert await bench.watermark() == 0
    await bench.publish(second)
    assert await bench.watermark() == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xff\xfe not text", "not JSON"),
        (b"", "not JSON"),
        (b'{"schema":99}', "schema 1"),
        (encode(Document("r2", 0, Kind.EVENT, {"stream": "s", "time": "", "data": {}})), "topic"),
        (
            encode(Document("r1", 2**63, Kind.EVENT, {"stream": "s", "time": "", "data": {}})),
            "64 bits",
        ),
    ],
)
async def test_a_bad_line_is_kept_and_the_good_ones_beside_it_are_stored(
    bench, points, line, problem
):
    first, second = map(encode, points(2))
    await bench.publish(first, line, second)
    assert await bench.watermark() == 1
    [(kept, why)] = bench.quarantined()
    assert kept == line
    assert problem in why
    assert bench.recorder.n_bad_lines == 1


async def test_it_records_every_rig_unless_told_which(broker, store_path, points):
    with closing(SqliteStore(store_path)) as store:
        recorder = Recorder(store, broker, recorder_id="bench-1", rig="mine")
        async with connected(broker) as connection, at_work(recorder):
            await connection.subscribe("labctl/+/run/+/ack")
            await connection.publish(document_topic("other", "r1"), encode(points(1)[0]))
            await connection.publish(document_topic("mine", "r2"), encode(points(1, "r2")[0]))
            [message] = await connection.receive(1)
        assert message.topic == watermark_topic("mine", "r2")
        assert store.watermark("r1") == -1


async def test_while_the_store_fails_nothing_is_acknowledged_and_then_it_goes_on(
    bench, points, caplog
):
    bench.store._connection.execute("PRAGMA query_only = 1")
    bench.recorder.ready.clear()
    await bench.publish(*map(encode, points(2)))
    await bench.recorder.ready.wait()
    assert "readonly" in caplog.text
    bench.store._connection.execute("PRAGMA query_only = 0")
    await bench.publish(*map(encode, points(3)))
    assert await bench.watermark() == 2
