from __future__ import annotations

import asyncio
import random
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from labctl.clock import VirtualTimeLoop, run_on
from labctl.documents import Document, Kind
from labctl.errors import BadInputError, DocumentError, StreamError
from labctl.store.reading import open_store
from labctl.stream import link as link_module
from labctl.stream.link import Link
from labctl.stream.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.stream.courier import Courier


@pytest.fixture
def link(outbox_path, store_path):
    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        yield link


@pytest.fixture
def stranded(outbox_path, free_port):
    """A link to a broker that is not there."""
    url = f"mqtt://127.0.0.1:{free_port}"
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url) as link:
        yield link


async def put_all(link: Link, documents: Sequence[Document]) -> None:
    for document in documents:
        await link.put(document)


def kept(outbox_path, run_id="r1"):
    with closing(Outbox(outbox_path, rig="bench")) as outbox:
        return [entry.seq for entry in outbox.unacknowledged(run_id, after_seq=-1)]


async def test_what_is_put_is_recorded_without_sending_anything_twice(
    link, points, store_path, monkeypatch
):
    monkeypatch.setattr("labctl.stream.transfer._SILENCE_S", 60.0)
    await put_all(link, points(250))
    assert await link.drain(10) == 0
    columns = open_store(store_path).run("r1").columns("eis")
    assert columns["a"].tolist() == [float(seq) for seq in range(250)]


async def test_several_runs_at_once_are_recorded_each(link, points, store_path):
    for first, second in zip(points(20), points(20, "r2"), strict=True):
        await asyncio.gather(link.put(first), link.put(second))
    assert await link.drain(10) == 0
    assert [run.n_points for run in open_store(store_path).runs()] == [20, 20]


async def test_what_is_flushed_is_on_disk_without_any_broker(stranded, points, outbox_path):
    await put_all(stranded, points(30))
    await stranded.flush()
    stranded.stop()
    assert kept(outbox_path) == list(range(30))


async def test_what_is_put_is_on_disk_when_the_link_stops(stranded, points, outbox_path):
    await put_all(stranded, points(3))
    stranded.stop()
    assert kept(outbox_path) == [0, 1, 2]


async def test_without_a_broker_draining_says_how_much_is_left_and_why(stranded, points):
    await put_all(stranded, points(7))
    assert await stranded.drain(0.05) == 7
    assert "not connected" in stranded.problem or "refused" in stranded.problem


async def test_what_an_earlier_process_left_is_recorded_by_the_next(
    stranded, points, outbox_path, store_path
):
    await put_all(stranded, points(150))
    stranded.stop()
    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        assert await link.drain(10) == 0
    assert open_store(store_path).run("r1").summary.n_points == 150


async def test_a_run_can_be_resumed_where_it_broke_off(link, points):
    assert await link.last_seq("r1") == -1
    await put_all(link, points(5))
    await link.drain(10)
    assert await link.last_seq("r1") == 4


def test_on_a_virtual_clock_no_time_passes_while_the_disk_works(link, points):
    async def measure() -> float:
        loop = asyncio.get_running_loop()
        ticking = asyncio.create_task(asyncio.sleep(3600))
        await put_all(link, points(10))
        await link.flush()
        assert await link.drain(10) == 0
        now_s = loop.time()
        await ticking
        return now_s

    assert run_on(VirtualTimeLoop(), measure()) == 0.0


def test_a_full_queue_makes_put_wait_and_holds_the_clock(
    stranded, points, outbox_path, monkeypatch
):
    monkeypatch.setattr(link_module, "_CAPACITY", 4)

    async def overfill() -> float:
        loop = asyncio.get_running_loop()
        ticking = asyncio.create_task(asyncio.sleep(1))
        for document in points(100):
            await stranded.put(document)
            assert stranded._running().n_waiting < 4
        now_s = loop.time()
        await ticking
        return now_s

    assert run_on(VirtualTimeLoop(), overfill()) == 0.0
    stranded.stop()
    assert kept(outbox_path) == list(range(100))


async def fill_the_disk(link: Link) -> None:
    """Let the outbox grow no further; on the thread that owns it."""

    async def limit(courier: Courier) -> None:
        connection = courier._outbox._connection
        (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {n_pages}")

    await link._on_courier(limit)


def big(seq: int) -> Document:
    body = {"stream": "steps", "time": "2026-01-01T00:00:00Z", "data": {"x": "y" * 100_000}}
    return Document("r1", seq, Kind.EVENT, body)


async def test_a_full_disk_is_told_by_flush_and_by_every_put_after(outbox_path, free_port, points):
    link = Link(outbox_path=outbox_path, rig="bench", mqtt=f"mqtt://127.0.0.1:{free_port}")
    link.start()
    await put_all(link, points(2))
    await link.flush()
    await fill_the_disk(link)
    await link.put(big(2))
    with pytest.raises(StreamError, match="full"):
        await link.flush()
    with pytest.raises(StreamError, match="full"):
        await link.put(points(1, first=3)[0])
    with pytest.raises(StreamError, match="1 documents could not be kept"):
        link.stop()
    assert kept(outbox_path) == [0, 1]


async def test_a_document_without_a_schema_is_refused_at_once(stranded, outbox_path):
    with pytest.raises(DocumentError):
        await stranded.put(Document("r1", 0, Kind.EVENT_PAGE, {"stream": "eis"}))
    stranded.stop()
    assert kept(outbox_path) == []


async def test_a_link_that_is_not_started_takes_nothing(outbox_path, store_path, points):
    link = Link(outbox_path=outbox_path, rig="bench", store_path=store_path)
    with pytest.raises(StreamError, match="not started"):
        await link.put(points(1)[0])


async def test_stopping_ends_a_wait_with_an_error_not_with_a_cancellation(stranded, points):
    await put_all(stranded, points(1))
    waiting = asyncio.create_task(stranded.drain(60))
    await asyncio.sleep(0)
    await asyncio.to_thread(stranded.stop)
    with pytest.raises(StreamError, match="stopped meanwhile"):
        await waiting


async def test_a_cancelled_wait_is_cancelled(stranded, points):
    await put_all(stranded, points(1))
    waiting = asyncio.create_task(stranded.drain(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_two_links_on_one_outbox_are_refused(stranded, outbox_path, store_path):
    with pytest.raises(StreamError, match="another process"):
        Link(outbox_path=outbox_path, rig="bench", store_path=store_path).start()


def test_an_outbox_that_cannot_be_opened_leaves_no_thread(tmp_path, store_path):
    before = threading.active_count()
    (tmp_path / "file").touch()
    link = Link(outbox_path=tmp_path / "file" / "o.sqlite", rig="bench", store_path=store_path)
    with pytest.raises(StreamError, match="cannot open the outbox"):
        link.start()
    assert threading.active_count() == before


def test_stopping_leaves_no_thread(link):
    before = threading.active_count()
    link.stop()
    link.stop()
    assert before - threading.active_count() >= 2
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("labctl", "asyncio"))]


def test_a_link_can_be_stopped_at_any_moment_of_its_start(outbox_path, store_path):
    moments_s = random.Random(20261125)
    for _ in range(40):
        link = Link(outbox_path=outbox_path, rig="bench", store_path=store_path)
        link.start()
        threading.Event().wait(moments_s.uniform(0, 0.03))
        link.stop()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("labctl")]


def test_without_a_broker_there_must_be_a_store(outbox_path):
    with pytest.raises(BadInputError, match="store"):
        Link(outbox_path=outbox_path, rig="bench")


@pytest.mark.parametrize("rig", ["", "a/b", "a+", "#"])
def test_a_rig_name_must_fit_a_topic(rig, outbox_path, store_path):
    with pytest.raises(BadInputError, match="rig name"):
        Link(outbox_path=outbox_path, rig=rig, store_path=store_path)


def test_a_broker_elsewhere_without_tls_is_refused(outbox_path):
    with pytest.raises(BadInputError, match="another machine"):
        Link(outbox_path=outbox_path, rig="bench", mqtt="mqtt://broker.lab")
