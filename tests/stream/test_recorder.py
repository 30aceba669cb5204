from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from labctl.documents import Document, Kind, decode, encode, sealed
from labctl.errors import DocumentError
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
        return self.ask("SELECT line, problem FROM quarantine ORDER BY id")

    def ask(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.store.path)) as connection:
            return connection.execute(query).fetchall()


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
    (frame(b'"n_points":1,"columns":{}'), "at least one"),
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


def mutilated(chance: random.Random) -> bytes:
    """Return a frame's line with some bytes changed, sealed as it is then."""
    broken = bytearray(frame(b'"n_points":1,"columns":{"a":[0.5],"b":[0.5]}'))
    digits = [place for place, byte in enumerate(broken) if byte in b"057"]
    if chance.random() < 0.5:  # a good line with another number in it
        broken[chance.choice(digits)] = chance.choice(b"0157")
        return sealed(bytes(broken))
    for _ in range(chance.randrange(1, 6)):
        broken[chance.randrange(len(broken) - 1)] = chance.choice(b'{}[]",:0919eE-.tfn\\\x00\x80 ')
    return sealed(bytes(broken))


async def test_every_mutilated_line_is_stored_or_quarantined(bench, points):
    chance = random.Random(20261125)
    lines = [mutilated(chance) for _ in range(300)]
    await bench.publish(*lines)
    await bench.watermark()
    [(n_stored, n_kept)] = bench.ask(
        "SELECT (SELECT count(*) FROM document), (SELECT total(n_times) FROM quarantine)"
    )
    first: dict[int, bytes] = {}
    n_repeated = 0
    for line in lines:
        with suppress(DocumentError):
            document = decode(line)
            if document.run_id == "r1" and document.body["columns"]:
                content = encode(document)
                n_repeated += first.get(document.seq) == content
                first.setdefault(document.seq, content)
    assert n_stored + n_repeated + n_kept == 300
    assert (n_stored > 1, n_repeated > 0, n_kept > 100) == (True, True, True), (
        n_stored,
        n_repeated,
    )


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


async def test_another_document_under_a_taken_number_is_told_of_once(bench, points, caplog):
    [document] = points(1)
    other = encode(Document("r1", 0, Kind.EVENT_PAGE, {**document.body, "columns": {"a": [9.0]}}))
    for line in (encode(document), other, other):
        await bench.publish(line)
        assert await bench.watermark() == 0
    assert caplog.text.count("run r1: seq 0 holds another document already") == 1


async def test_a_bad_line_that_comes_again_is_told_of_once(bench, points, caplog):
    for _ in range(3):
        await bench.publish(b"nonsense", encode(points(1)[0]))
        await bench.watermark()
    assert caplog.text.count("quarantined a line") == 1
    assert bench.recorder.n_bad_lines == 3


async def test_into_a_store_that_was_removed_nothing_is_confirmed(bench, points, caplog):
    first, second = map(encode, points(2))
    await bench.publish(first)
    assert await bench.watermark() == 0
    bench.store.path.unlink()
    bench.recorder.ready.clear()
    await bench.publish(second)
    await bench.recorder.ready.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await bench.watermark()
    assert "was removed or replaced" in caplog.text
