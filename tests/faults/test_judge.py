"""The campaign's own judgement: a harness that cannot see a loss proves nothing."""

from __future__ import annotations

from contextlib import closing
from random import Random

import pytest

from benchmarks.faults.check import Committed, Verdict, judge
from benchmarks.faults.mqtt_frames import Frames, damaged, payload_of
from benchmarks.faults.wire import sent_points
from labctl.documents import Document, Kind
from labctl.store.sqlite import STORE_NAME, SqliteStore

SENT = [(0.001 * n, 0.5 + n) for n in range(5)]
TOPIC = b"labctl/a/doc"
DOCUMENT = (
    b"\x32" + bytes([2 + len(TOPIC) + 2 + 10]) + b"\x00\x0c" + TOPIC + b"\x00\x01" + b"0123456789"
)


@pytest.fixture
def verdict(tmp_path):
    """Judges a store with these points in it against an instrument that sent `SENT`."""
    journal, store = tmp_path / "wire", tmp_path / STORE_NAME
    packets = [f"Peb{n + (1 << 27):07X}m;ab{500 + 1000 * n + (1 << 27):07X}m\n" for n in range(5)]
    journal.write_text("".join(f"@{n * 1000000}\n{packet}" for n, packet in enumerate(packets)))

    def of(points, **excuses):
        units = {"elapsed_s": "s", "potential_v": "V"}
        start = {"stream": "ocp", "units": units}
        documents = [Document("r1", 0, Kind.DESCRIPTOR, start)]
        for seq, point in enumerate(points, 1):
            columns = {name: [value] for name, value in zip(units, point, strict=True)}
            body = {"stream": "ocp", "n_points": 1, "columns": columns}
            documents.append(Document("r1", seq, Kind.EVENT_PAGE, body))
        with closing(SqliteStore(store)) as opened:
            opened.add(documents)
        return judge(journal, store, "r1", **excuses)

    return of


def test_a_journal_is_read_without_the_driver(tmp_path):
    (tmp_path / "wire").write_bytes(b"@7\ne\nM0001\nPcg8030D40 ;cc7FFFFFFm,14,218\n*\nPeb80000")
    [point] = sent_points(tmp_path / "wire")
    assert (point.kind, point.values, point.at_ns) == ("cg", (200000.0, -0.001), 7)


def test_a_store_that_has_what_was_sent_is_good(verdict):
    assert verdict(SENT).is_good


def test_a_lost_point_is_seen(verdict):
    found = verdict([*SENT[:2], *SENT[3:]])
    assert (found.n_lost, found.is_good) == (1, False)


def test_a_lost_last_point_is_seen(verdict):
    assert verdict(SENT[:-1]).n_lost == 1


def test_a_point_stored_twice_is_seen(verdict):
    found = verdict([*SENT, SENT[4]])
    assert (found.n_duplicated, found.is_good) == (1, False)


def test_an_altered_point_is_seen(verdict):
    found = verdict([*SENT[:4], (0.004, 4.501)])
    assert (found.n_altered, found.n_lost, found.is_good) == (1, 1, False)


def test_points_out_of_order_are_seen(verdict):
    found = verdict([SENT[0], SENT[2], SENT[1], *SENT[3:]])
    assert (found.n_lost, found.is_in_order, found.is_good) == (0, False, False)


def test_what_no_outbox_had_at_a_kill_is_in_flight(verdict):
    found = verdict(SENT[:3], at_kill=Committed(last_seq=3))
    assert (found.n_lost, found.n_in_flight, found.in_flight_ms) == (0, 2, 1.0)


def test_what_an_outbox_had_at_a_kill_is_lost_if_it_is_not_stored(verdict):
    found = verdict(SENT[:3], at_kill=Committed(last_seq=4))
    assert (found.n_lost, found.n_in_flight) == (2, 0)


def test_an_outbox_that_commits_too_late_is_seen(verdict, monkeypatch):
    def found() -> bool:
        return verdict(SENT[:2], at_kill=Committed(last_seq=2)).is_good

    assert found()
    monkeypatch.setattr("benchmarks.faults.check.MAX_IN_FLIGHT", 2)
    assert not found()
    monkeypatch.setattr("benchmarks.faults.check.MAX_IN_FLIGHT", 3)
    monkeypatch.setattr("benchmarks.faults.check.MAX_IN_FLIGHT_MS", 1.9)
    assert not found()


def test_kills_are_judged_each_not_by_their_sum():
    assert (Verdict(most_in_flight=150) + Verdict(most_in_flight=150)).is_good
    assert not (Verdict(most_in_flight=10) + Verdict(most_in_flight=250)).is_good


def test_what_a_run_could_not_keep_is_refused_only_if_all_that_it_kept_is_stored(verdict):
    found = verdict(SENT[:3], at_refusal=Committed(last_seq=3))
    assert (found.n_lost, found.n_refused) == (0, 2)
    found = verdict(SENT[:3], at_refusal=Committed(last_seq=4))
    assert (found.n_lost, found.n_refused, found.is_good) == (2, 0, False)


def test_a_kill_excuses_no_gap(verdict):
    found = verdict([SENT[0], *SENT[2:]], at_kill=Committed(last_seq=4))
    assert (found.n_lost, found.n_in_flight) == (1, 0)


def test_a_damaged_message_keeps_its_framing_and_topic():
    frames = Frames()
    sent = damaged(DOCUMENT, Random(1))
    assert frames.feed(sent[:7]) == []
    [packet] = frames.feed(sent[7:])
    topic, at = payload_of(packet)
    assert (topic, len(packet)) == (TOPIC, len(DOCUMENT))
    turned = [a ^ b for a, b in zip(packet[at:], DOCUMENT[at:], strict=True) if a != b]
    assert len(turned) == 1
    assert turned[0].bit_count() == 1
