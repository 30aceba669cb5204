from __future__ import annotations

import asyncio
from contextlib import closing
from itertools import pairwise

import pytest

from labctl.documents import encode
from labctl.store.sqlite import SqliteStore
from labctl.stream.gaps import Gaps
from labctl.stream.link import Link
from labctl.stream.mqtt import connected
from labctl.stream.recorder import Recorder
from labctl.stream.transfer import Transfer


def asked(gaps: Gaps, now_s: float) -> list[tuple[str, int]]:
    return [(run_id, gap.watermark) for run_id, gap in gaps.due(now_s)]


@pytest.fixture
def gaps() -> Gaps:
    """One run with a gap since 100 s."""
    gaps = Gaps()
    gaps.note("r1", 4, 7, 100.0)
    return gaps


def test_a_run_without_a_gap_asks_for_nothing():
    gaps = Gaps()
    assert not gaps.note("r1", 7, 7, 100.0)
    assert gaps.next_s() is None
    assert asked(gaps, 1e9) == []


def test_a_gap_is_asked_for_once_it_has_stood_for_a_moment(gaps):
    assert asked(gaps, 100.2) == []
    assert gaps.next_s() == pytest.approx(100.3)
    assert asked(gaps, 100.31) == [("r1", 4)]


def test_a_gap_that_fills_by_itself_is_not_told_of(gaps):
    assert not gaps.note("r1", 8, 8, 100.2)
    assert asked(gaps, 200.0) == []


def test_a_gap_that_was_asked_for_and_is_filled_is_told_of(gaps):
    gaps.due(101.0)
    assert gaps.note("r1", 8, 8, 101.2)


def test_a_gap_that_moves_is_given_time_again(gaps):
    gaps.note("r1", 6, 9, 100.25)
    assert asked(gaps, 100.4) == []
    assert asked(gaps, 100.6) == [("r1", 6)]


def test_more_documents_behind_a_gap_do_not_put_the_question_off(gaps):
    gaps.note("r1", 4, 8, 100.2)
    assert asked(gaps, 100.31) == [("r1", 4)]


def test_what_never_comes_is_asked_for_five_times_ever_more_rarely(gaps):
    times = []
    while (now_s := gaps.next_s()) is not None:
        times.append(now_s)
        gaps.due(now_s)
    assert [later - sooner for sooner, later in pairwise(times)] == [1, 2, 4, 8]


def test_it_is_asked_for_again_when_the_run_goes_on(gaps):
    while (now_s := gaps.next_s()) is not None:
        gaps.due(now_s)
    gaps.note("r1", 4, 9, 500.0)
    assert asked(gaps, 500.0) == [("r1", 4)]


def sent(*last_seqs: int, recorders: tuple[str, ...] = ()) -> Transfer:
    transfer = Transfer(recorders)
    for last_seq in last_seqs:
        transfer.message_sent(last_seq, 0.0)
    return transfer


def test_a_resend_goes_back_to_the_watermark():
    transfer = sent(4, 9)
    transfer.committed("a", 4, 0.0)
    assert transfer.resend_asked("a", 4)
    assert transfer.sent_seq == 4


def test_what_is_forgotten_or_was_never_sent_is_not_sent_again():
    transfer = sent(4, 9)
    transfer.committed("a", 4, 0.0)
    assert not transfer.resend_asked("a", 2)
    assert not transfer.resend_asked("a", 9)
    assert not transfer.resend_asked("a", 10**9)
    assert transfer.sent_seq == 9


def test_a_recorder_that_does_not_count_asks_in_vain():
    transfer = sent(9, recorders=("a",))
    assert not transfer.resend_asked("b", -1)
    assert transfer.resend_asked("a", -1)


async def relay(connection, lose: list[bytes], is_lost: asyncio.Event) -> None:
    """Carry messages between the rigs `bench` and `behind`; lose once what is in `lose`."""
    while True:
        for message in await connection.receive(1):
            connection.acknowledge(message)
            if message.payload in lose:
                lose.remove(message.payload)
                is_lost.set()
                continue
            there = "behind" if "/bench/" in message.topic else "bench"
            topic = message.topic.replace(message.topic.split("/")[1], there)
            await connection.publish(topic, message.payload)


async def test_a_lost_message_comes_again_long_before_the_silence(
    broker, url_of, outbox_path, store_path, points, monkeypatch
):
    monkeypatch.setattr("labctl.stream.transfer._SILENCE_S", 60.0)
    lose: list[bytes] = []
    is_lost = asyncio.Event()
    with (
        Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(broker)) as link,
        closing(SqliteStore(store_path)) as store,
    ):
        recorder = Recorder(store, broker, recorder_id="far", rig="behind")
        async with connected(broker) as connection, asyncio.TaskGroup() as group:
            for topic in ("bench/run/+/doc", "behind/run/+/ack", "behind/run/+/resend"):
                await connection.subscribe(f"labctl/{topic}")
            tasks = [group.create_task(relay(connection, lose, is_lost))]
            tasks.append(group.create_task(recorder.run()))
            await recorder.ready.wait()
            before, lost, after = points(3)
            await link.put(before)
            assert await link.drain(5) == 0
            lose.append(encode(lost))
            await link.put(lost)
            await asyncio.wait_for(is_lost.wait(), timeout=5)
            await link.put(after)
            assert await link.drain(2.5) == 0
            for task in tasks:
                task.cancel()
        assert store.watermark("r1") == 2
