from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import orjson
import pytest

from labctl.documents import Document, Kind, encode
from labctl.store.sqlite import SqliteStore
from labctl.stream.mqtt import Connection, connected
from labctl.stream.recorder import Recorder
from labctl.stream.topics import document_topic, resend_topic, watermark_topic

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


def event(run_id: str = "r1", seq: int = 0, data: bytes = b"{}", **changes: object) -> bytes:
    """Return the line of an event, with `data` as it shall stand there."""
    envelope = {"schema": 1, "run_id": run_id, "seq": seq, "kind": "event", **changes}
    body = b'{"stream":"s","time":"2026-01-01T00:00:00Z","data":%s}' % data
    return orjson.dumps(envelope)[:-1] + b',"body":' + body + b"}"


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def frame(data: bytes) -> bytes:
    """Return the line of a frame with such points."""
    head = b'{"schema":1,"run_id":"r1","seq":7,"kind":"event_page","body":{"stream":"s",'
    return head + data + b"}}"


BAD_LINES = [
    (b"\xff\xfe not text", "not JSON"),
    (b"", "not JSON"),
    (b" ", "not JSON"),
    (b"null", "schema 1"),
    (b"[1]", "schema 1"),
    (b'{"schema":99}', "schema 1"),
    (event(schema=2), "schema 1"),
    (event(schema="1"), "schema 1"),
    (event(run_id="r2"), "topic"),
    (event(run_id="x" * 10_000), "topic"),
    (event(run_id=""), "run_id"),
    (event(seq=2**63), "64 bits"),
    (event(seq=-1), "seq"),
    (event().replace(b'"seq":0', b'"seq":18446744073709551616'), "seq"),
    (event().replace(b'"seq":0', b'"seq":1e400'), "not JSON"),
    (event().replace(b'"seq":0', b'"seq":NaN'), "not JSON"),
    (event(data=b'"\xc3\x28"'), "not JSON"),
    (event(data=b'{"a":"\\ud800"}'), "not JSON"),
    (event(data=nested(300)), "JSON"),
    (event(data=nested(900)), "JSON"),
    (event(data=nested(5_000)), "not JSON"),
    (event(data=b"[" * 900 + b"]" * 900), "data: expected"),
    (event(kind=["event"]), "kind"),
    (
        b'{"schema":1,"run_id":"r1","seq":0,"body":{},"kind":' + b"[" * 900 + b"]" * 900 + b"}",
        "kind",
    ),
    (b"\x00" * 1_000_000, "not JSON"),
    (b"{" + b"garbage" * 150_000, "not JSON"),
    (frame(b'"n_points":1,"columns":{}'), "columns of 1"),
    (frame(b'"n_points":99999999999999999999,"columns":{"a":[1]}'), "n_points"),
    (frame(b'"n_points":1,"columns":{"a":[[1]]}'), "expected numbers"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_LINES, ids=lambda value: repr(value[:40]))
async def test_a_bad_line_is_kept_and_the_good_ones_beside_it_are_stored(
    bench, points, line, problem
):
    first, second = map(encode, points(2))
    await bench.publish(first, line, second)
    assert await bench.watermark() == 1
    [(kept, why)] = bench.quarantined()
    assert kept == line
    assert problem in why
    assert len(why) <= 500
    assert bench.recorder.n_bad_lines == 1


async def test_no_mutilated_line_stops_the_recording(bench, points):
    chance = random.Random(20261125)
    lines = []
    for _ in range(300):
        line = bytearray(encode(points(1)[0]))
        for _ in range(chance.randrange(1, 6)):
            line[chance.randrange(len(line))] = chance.choice(b'{}[]",:0919eE-.tfn\\\x00\x80 ')
        lines.append(bytes(line))
    await bench.publish(*lines)
    await bench.watermark()
    await bench.publish(*map(encode, points(3, first=1000)))
    await bench.watermark()
    assert bench.store.progress("r1").last_seq >= 1002


async def test_an_empty_message_is_nobodys_document(bench, points):
    await bench.connection.publish(document_topic("rig", "r1"), b"")
    await bench.publish(encode(points(1)[0]))
    assert await bench.watermark() == 0
    assert bench.quarantined() == []


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


async def test_what_is_missing_is_asked_for_by_name(bench, points, caplog):
    await bench.connection.subscribe(resend_topic("rig", "r1"))
    first, _, third = map(encode, points(3))
    await bench.publish(first, third)
    assert await bench.watermark() == 0
    [message] = await bench.connection.receive(1)
    assert message.topic == resend_topic("rig", "r1")
    asked = orjson.loads(message.payload)
    assert (asked["recorder_id"], asked["after_seq"]) == ("bench-1", 0)
    assert "run r1: document 1 is missing, 2 is stored" in caplog.text


def stop(seq: int) -> Document:
    counts = {"expected_points": {}, "actual_points": {}}
    ending = {"time": "2026-01-01T00:00:00Z", "exit_status": "success", "reason": "completed"}
    return Document("r1", seq, Kind.RUN_STOP, {**ending, **counts})


async def test_it_tells_of_what_a_person_wants_to_see(broker, store_path, points):
    told: asyncio.Queue[str] = asyncio.Queue()
    first, second, third = map(encode, points(3))
    with closing(SqliteStore(store_path)) as store:
        recorder = Recorder(store, broker, recorder_id="bench-1", tell=told.put_nowait)
        async with connected(broker) as connection, at_work(recorder):
            bench = Bench(connection, recorder, store)
            assert await told.get() == f"connected to {broker}"
            await bench.publish(first)
            assert await told.get() == "run r1 is being recorded"
            await bench.publish(third)
            assert "document 1 is missing, 2 is stored; asking" in await told.get()
            await bench.publish(second)
            assert await told.get() == "run r1: the gap is filled"
            await bench.publish(b"nonsense")
            assert "quarantined a line from labctl/rig/run/r1/doc" in await told.get()
            await bench.publish(encode(stop(3)))
            assert await told.get() == "run r1 ended: completed, 4 documents"
