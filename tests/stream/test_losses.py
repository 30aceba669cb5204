"""What a recorder lacks and no outbox keeps: told at both ends, no hindrance to what follows."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing

import orjson
import pytest

from labctl.documents import encode, sealed
from labctl.errors import DocumentError
from labctl.store.overview import overview
from labctl.store.sqlite import SqliteStore
from labctl.store.verification import verify
from labctl.stream.forgotten import forgotten_in, forgotten_line
from labctl.stream.link import Link
from labctl.stream.mqtt import connected
from labctl.stream.outbox import Outbox, entry_of
from labctl.stream.recorder import Recorder
from labctl.stream.topics import document_topic, watermark_topic


def test_the_line_is_heard_only_with_its_seal():
    line = forgotten_line('r"1', 99)
    assert forgotten_in(line) == ('r"1', 99)
    assert forgotten_in(orjson.dumps({"forgotten": 99, "run_id": "r1"})) is None
    with pytest.raises(DocumentError, match="damaged"):
        forgotten_in(line.replace(b"99", b"98"))


def test_an_outbox_says_up_to_where_it_keeps_nothing(outbox_path, points):
    with closing(Outbox(outbox_path, rig="bench")) as outbox:
        outbox.append([entry_of(point) for point in points(10)])
        outbox.forget("r1", 4)
        assert [outbox.forgotten_after("r1", seq) for seq in (-1, 3, 4, 6)] == [4, 4, 4, 6]
        outbox.forget("r1", 9)
        assert outbox.forgotten_after("r1", 3) == 9
        assert outbox.forgotten_after("r2", 3) == -1


async def test_a_recorder_lets_its_watermark_pass_what_is_kept_no_more(broker, store_path, points):
    with closing(SqliteStore(store_path)) as store:
        recorder = Recorder(store, broker, recorder_id="far")
        task = asyncio.create_task(recorder.run())
        await recorder.ready.wait()
        async with connected(broker) as connection:
            await connection.subscribe(watermark_topic("rig", "+"))

            async def answer(line: bytes) -> int:
                await connection.publish(document_topic("rig", "r1"), line)
                [message] = await connection.receive(1)
                return orjson.loads(message.payload)["committed"]

            assert await answer(encode(points(1, first=5)[0])) == -1
            assert await answer(forgotten_line("r2", 4)) == -1
            assert await answer(sealed(b'{"forgotten":4}')) == -1
            assert await answer(forgotten_line("r1", 4)) == 5
            assert recorder.problem == "run r1: lost: document 0 to 4, no outbox has it"
            assert recorder.n_bad_lines == 2
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def half_delivered(outbox_path, store_path, points) -> None:
    """An outbox whose recorder had documents 0 to 4 and was replaced; 5 to 9 wait."""

    async def main() -> None:
        with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
            for point in points(5):
                await link.put(point)
            assert await link.drain(5) == 0
        nobody = "mqtt://127.0.0.1:1"
        with Link(outbox_path=outbox_path, rig="bench", mqtt=nobody, recorders=["x"]) as link:
            for point in points(5, first=5):
                await link.put(point)
            await link.flush()

    asyncio.run(main())
    store_path.rename(store_path.with_name("archive.sqlite"))


def test_a_recorder_that_came_later_does_not_stop_what_follows(
    half_delivered, outbox_path, store_path, points, caplog
):
    async def main() -> None:
        with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
            for point in points(3, first=10):
                await link.put(point)
            assert await link.drain(10) == 0
            assert link.problem == "run r1: lost: document 0 to 4, no outbox has it"

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "lacks some of documents 0 to 4" in caplog.text
    [run] = overview(store_path).runs
    assert (run.watermark, run.lost, run.missing) == (12, [(0, 4)], [])
    [found] = verify(store_path).runs
    assert found.problems[0] == "lost, nowhere any more: document 0 to 4"
