"""The outbox is bounded: it says when its ceiling is near, and keeps a reserve for a full disk."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from labctl.documents import Document, Kind, Room
from labctl.errors import StreamError
from labctl.stream.link import Link
from labctl.stream.outbox import Outbox, OutboxLimits, entry_of, limits_of
from labctl.stream.reserve import Reserve

MEGABYTE = 1 << 20


def big(seq: int) -> Document:
    body = {"stream": "steps", "time": "2026-01-01T00:00:00Z", "data": {"x": "y" * 100_000}}
    return Document("r1", seq, Kind.EVENT, body)


@pytest.fixture
def outbox(outbox_path):
    limits = OutboxLimits(ceiling_bytes=MEGABYTE, reserve_bytes=2 * MEGABYTE)
    with closing(Outbox(outbox_path, rig="bench", limits=limits)) as outbox:
        yield outbox


def fill(outbox, n_documents: int) -> None:
    outbox.append([entry_of(big(seq)) for seq in range(n_documents)])


def limit_the_disk(outbox, n_more_pages: int = 0) -> None:
    (n_pages,) = outbox._connection.execute("PRAGMA page_count").fetchone()
    outbox._connection.execute(f"PRAGMA max_page_count = {n_pages + n_more_pages}")


@pytest.mark.parametrize(
    ("n_documents", "room"),
    [(1, Room.PLENTY), (7, Room.PLENTY), (9, Room.SCARCE), (11, Room.NONE)],
)
def test_an_outbox_says_how_much_room_is_left(outbox, n_documents, room):
    fill(outbox, n_documents)
    assert outbox.room is room


def test_what_recorders_have_stored_makes_room(outbox):
    fill(outbox, 11)
    outbox.forget("r1", 4)
    assert outbox.room is Room.PLENTY


def test_beyond_the_ceiling_documents_are_kept_all_the_same(outbox):
    fill(outbox, 20)
    assert outbox.pending() == 20


def test_an_outbox_that_was_large_shrinks_when_it_is_empty(outbox, monkeypatch):
    monkeypatch.setattr("labctl.stream.outbox._COMPACTED_ABOVE_BYTES", MEGABYTE)
    fill(outbox, 20)
    outbox.forget("r1", 19)
    (n_pages,) = outbox._connection.execute("PRAGMA page_count").fetchone()
    assert n_pages * 4096 < MEGABYTE / 10
    assert outbox.last_seq("r1") == 19


def test_the_reserve_takes_its_space_from_the_disk(outbox, outbox_path):
    reserve = outbox_path.with_suffix(".reserve")
    assert reserve.stat().st_size == 2 * MEGABYTE
    assert getattr(reserve.stat(), "st_blocks", 2 * MEGABYTE) * 512 >= 2 * MEGABYTE


def test_a_full_disk_costs_the_reserve_before_it_costs_a_document(outbox, outbox_path, caplog):
    limit_the_disk(outbox)
    with pytest.raises(StreamError, match="full"):
        fill(outbox, 3)
    assert not outbox_path.with_suffix(".reserve").exists()
    assert "the reserve has been given up" in caplog.text
    limit_the_disk(outbox, 1000)
    fill(outbox, 3)
    assert outbox.room is Room.NONE
    outbox.make_room()
    assert outbox.room is Room.PLENTY
    assert outbox_path.with_suffix(".reserve").exists()


def test_a_reserve_is_not_taken_from_a_disk_that_is_nearly_full(tmp_path):
    more_than_there_is = 1 << 60
    reserve = Reserve(tmp_path / "reserve", more_than_there_is)
    assert not reserve.take()
    assert not reserve.is_there


def test_a_smaller_reserve_of_before_is_no_reserve(tmp_path):
    assert Reserve(tmp_path / "reserve", 1000).take()
    reserve = Reserve(tmp_path / "reserve", 2000)
    assert not reserve.is_there
    assert reserve.take()
    assert (tmp_path / "reserve").stat().st_size == 2000


def test_a_reserve_that_cannot_be_removed_is_not_given_up(tmp_path):
    (tmp_path / "reserve").mkdir()
    (tmp_path / "reserve" / "x").touch()
    assert not Reserve(tmp_path / "reserve", 1).give_up()


def test_without_a_reserve_none_is_missed(tmp_path):
    reserve = Reserve(tmp_path / "reserve", 0)
    assert reserve.take()
    assert not reserve.give_up()


def test_whoever_has_no_rig_file_knows_the_reserve_by_its_file(outbox, outbox_path):
    assert limits_of(outbox_path).reserve_bytes == 2 * MEGABYTE
    assert limits_of(outbox_path.with_name("other.sqlite")).reserve_bytes == 0


async def test_a_link_waits_for_room_until_the_broker_is_back(broker, url_of, outbox_path):
    limits = OutboxLimits(ceiling_bytes=MEGABYTE)
    address = f"mqtt://127.0.0.1:{broker.port + 1}"
    with Link(outbox_path=outbox_path, rig="bench", mqtt=address, limits=limits) as stranded:
        for seq in range(11):
            await stranded.put(big(seq))
        await stranded.flush()
        assert stranded.room is Room.NONE
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stranded.room_again(), timeout=0.05)
    store_path = outbox_path.with_name("labctl.sqlite")
    with Link(
        outbox_path=outbox_path,
        rig="bench",
        mqtt=url_of(broker),
        store_path=store_path,
        limits=limits,
    ) as link:
        await asyncio.wait_for(link.room_again(), timeout=10)
        assert link.room is Room.PLENTY


def test_an_outbox_that_cannot_be_compacted_goes_on(outbox, monkeypatch, caplog):
    monkeypatch.setattr("labctl.stream.outbox._COMPACTED_ABOVE_BYTES", MEGABYTE)
    fill(outbox, 20)
    with closing(outbox.unacknowledged("r1", after_seq=-1)) as reading:
        next(reading)  # SQLite compacts nothing while somebody reads
        outbox._n_pending = 0
        outbox.make_room()
        outbox.make_room()
    assert caplog.text.count("cannot be compacted now") == 1
    assert outbox.room is Room.NONE
