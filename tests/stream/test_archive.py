"""Parquet files of whole runs: written beside the recording, never in its way."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from labctl.documents import Document, Kind
from labctl.store.reading import open_store
from labctl.store.sqlite import SqliteStore
from labctl.stream.archive import Archive
from labctl.stream.link import Link

if TYPE_CHECKING:
    from pathlib import Path


def whole_run(run_id: str = "r1", n_points: int = 3) -> list[Document]:
    counts = {"expected_points": {"eis": n_points}, "actual_points": {"eis": n_points}}
    about = {"protocol": "p", "parameters": {}, "sample": {"name": "s"}}
    frame = {"stream": "eis", "n_points": n_points, "columns": {"a": [0.5] * n_points}}
    ending = {"exit_status": "success", "reason": "completed", **counts}
    bodies = [
        (Kind.RUN_START, {"time": "2026-11-25T00:00:00+00:00", **about}),
        (Kind.DESCRIPTOR, {"stream": "eis", "units": {"a": "ohm"}}),
        (Kind.EVENT_PAGE, frame),
        (Kind.RUN_STOP, {"time": "2026-11-25T01:00:00+00:00", **ending}),
    ]
    return [Document(run_id, seq, kind, body) for seq, (kind, body) in enumerate(bodies)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def store(store_path):
    with closing(SqliteStore(store_path)) as store:
        yield store


def record(outbox_path: Path, store_path: Path, documents: list[Document]) -> None:
    async def main() -> None:
        for document in documents:
            await link.put(document)
        assert await link.drain(10) == 0

    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        asyncio.run(main())


def test_a_run_that_was_recorded_whole_is_there_as_parquet(outbox_path, store_path, folder):
    record(outbox_path, store_path, whole_run())
    table = pq.read_table(folder / "r1_eis.parquet")
    assert table["a"].to_pylist() == [0.5] * 3
    assert table.schema.field("a").metadata == {b"unit": b"ohm"}


def test_an_open_run_leaves_no_parquet(outbox_path, store_path, folder):
    record(outbox_path, store_path, whole_run()[:-1])
    assert not folder.exists()


async def test_a_run_with_a_gap_is_written_once_that_is_filled(store, folder):
    archive = Archive(store, folder)
    start, descriptor, frame, stop = whole_run()
    store.add([start, descriptor, stop])
    await archive.write_missing()
    assert not folder.exists()
    store.add([frame])
    await archive.write_missing()
    assert [file.name for file in folder.iterdir()] == ["r1_eis.parquet"]


async def test_a_run_is_written_once(store, folder):
    store.add(whole_run())
    await Archive(store, folder).write_missing()
    [file] = folder.iterdir()
    file.unlink()
    await Archive(store, folder).write_missing()
    assert list(folder.iterdir()) == []


async def test_a_run_that_was_resumed_and_ended_again_is_written_again(store, folder):
    store.add(whole_run(n_points=3)[:-1])
    *_, stop = whole_run()
    store.add([Document("r1", 3, Kind.RUN_STOP, stop.body)])
    await Archive(store, folder).write_missing()
    frame = whole_run(n_points=2)[2]
    store.add([Document("r1", 4, Kind.EVENT_PAGE, frame.body)])
    store.add([Document("r1", 5, Kind.RUN_STOP, whole_run(n_points=5)[3].body)])
    await Archive(store, folder).write_missing()
    assert pq.read_table(folder / "r1_eis.parquet").num_rows == 5


async def test_a_failure_to_write_is_told_once_and_the_next_start_writes_it(store, folder):
    told: list[str] = []
    folder.touch()  # a file where the folder should be
    store.add(whole_run())
    archive = Archive(store, folder, tell=told.append)
    await archive.write_missing()
    await archive.write_missing()
    [line] = told
    assert line.startswith("run r1: no Parquet: ")
    assert "the next start tries again" in line
    assert open_store(store.path).run("r1").outcome == "completed"
    folder.unlink()
    await Archive(store, folder).write_missing()
    assert (folder / "r1_eis.parquet").exists()


def test_a_failure_to_write_fails_no_run(outbox_path, store_path, folder):
    folder.touch()
    record(outbox_path, store_path, whole_run())
    assert open_store(store_path).run("r1").outcome == "completed"
    folder.unlink()
    record(outbox_path, store_path, whole_run("r2"))
    assert sorted(file.name for file in folder.iterdir()) == ["r1_eis.parquet", "r2_eis.parquet"]


async def test_a_cancelled_archive_leaves_no_file_half_written(store, folder):
    store.add(whole_run(n_points=100_000))
    archive = Archive(store, folder)
    writing = asyncio.create_task(archive.write_missing())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    assert [file.suffix for file in folder.iterdir()] == [".parquet"]


async def test_a_file_that_is_being_written_at_a_cancellation_is_not_written_again(store, folder):
    store.add(whole_run(n_points=100_000))
    writing = asyncio.create_task(Archive(store, folder).write_missing())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    assert store.without_parquet() == []


async def test_what_is_given_up_leaves_nothing_and_the_next_start_writes_it(
    store, folder, monkeypatch
):
    monkeypatch.setattr("labctl.store.export._ROWS_AT_ONCE", 1)  # which takes its time
    store.add(whole_run(n_points=1_000_000))
    archive = Archive(store, folder)
    writing = asyncio.create_task(archive.write_missing())
    while not folder.exists():  # noqa: ASYNC110 - another thread makes it
        await asyncio.sleep(0.001)
    archive.give_up()
    await writing
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    await Archive(store, folder).write_missing()
    assert [file.name for file in folder.iterdir()] == ["r1_eis.parquet"]


async def test_a_cancellation_cuts_the_end_of_a_link_short(
    outbox_path, store_path, folder, monkeypatch
):
    monkeypatch.setattr("labctl.store.export._ROWS_AT_ONCE", 1)
    link = Link(outbox_path=outbox_path, rig="bench", store_path=store_path)

    async def carried_out() -> None:
        async with link:
            for document in whole_run(n_points=200_000):
                await link.put(document)
            assert await link.drain(20) == 0
            while not folder.exists():  # noqa: ASYNC110 - another thread makes it
                await asyncio.sleep(0.001)

    run = asyncio.create_task(carried_out())
    while link._on_thread is None or link._courier is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert list(folder.iterdir()) == []
    assert open_store(store_path).run("r1").outcome == "completed"


async def test_while_it_writes_the_loop_goes_on(store, folder):
    store.add(whole_run(n_points=500_000))
    archive = Archive(store, folder)
    writing = asyncio.create_task(archive.write_missing())
    turns = 0
    while not writing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 3
