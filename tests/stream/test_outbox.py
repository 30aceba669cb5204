from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import orjson
import pytest

from labctl.documents import Document, Kind, encode
from labctl.errors import DocumentError, StreamError
from labctl.stream.outbox import Outbox, entry_of


@pytest.fixture
def outbox(outbox_path):
    outbox = Outbox(outbox_path, rig="bench")
    yield outbox
    outbox.close()


@pytest.fixture
def entries(points):
    return [entry_of(document) for document in points(5)]


def seqs(outbox, run_id="r1", after_seq=-1):
    return [entry.seq for entry in outbox.unacknowledged(run_id, after_seq=after_seq)]


def test_entries_come_back_in_order(outbox, entries):
    outbox.append(entries[::-1])
    assert list(outbox.unacknowledged("r1", after_seq=-1)) == entries
    assert seqs(outbox, after_seq=1) == [2, 3, 4]


def test_the_bytes_kept_are_the_bytes_on_the_wire(outbox, entries, points):
    outbox.append(entries)
    assert [entry.line for entry in outbox.unacknowledged("r1", after_seq=-1)] == [
        encode(document) for document in points(5)
    ]


def test_forgetting_stops_at_the_watermark(outbox, entries):
    outbox.append(entries)
    outbox.forget("r1", 2)
    assert seqs(outbox) == [3, 4]
    assert outbox.pending() == 2


def test_each_run_is_forgotten_by_itself(outbox, points):
    outbox.append([entry_of(document) for run in ("r1", "r2") for document in points(3, run)])
    outbox.forget("r1", 2)
    assert outbox.runs_pending() == ["r2"]
    assert outbox.pending() == 3


def test_the_same_entry_twice_is_kept_once(outbox, entries):
    outbox.append(entries)
    outbox.append(entries)
    assert outbox.pending() == 5


def test_one_seq_for_two_documents_is_refused_and_nothing_is_kept(outbox, entries):
    outbox.append(entries[:1])
    other = entries[0]._replace(line=b"{}")
    with pytest.raises(StreamError, match="seq 0 is used for two documents"):
        outbox.append([entries[1], other])
    assert seqs(outbox) == [0]


def test_what_was_kept_is_there_after_reopening(outbox, entries, outbox_path):
    outbox.append(entries)
    outbox.forget("r1", 0)
    outbox.close()
    with closing(Outbox(outbox_path, rig="bench")) as again:
        assert seqs(again) == [1, 2, 3, 4]
        assert again.pending() == 4
        assert again.runs_pending() == ["r1"]


def test_a_run_is_resumed_after_the_last_seq_it_ever_used(outbox, entries):
    outbox.append(entries)
    outbox.forget("r1", 4)
    assert outbox.last_seq("r1") == 4
    assert outbox.last_seq("never seen") == -1


def test_a_second_process_is_refused(outbox, outbox_path):
    code = (
        "import sys; from pathlib import Path; from labctl.stream.outbox import Outbox\n"
        "try: Outbox(Path(sys.argv[1]), rig='bench')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    second = [sys.executable, "-c", code, str(outbox_path)]
    result = subprocess.run(second, capture_output=True, text=True, check=True)
    assert "StreamError" in result.stdout
    assert "another process holds this outbox" in result.stdout


def test_a_full_disk_is_a_stream_error_and_keeps_what_was_there(outbox, entries):
    outbox.append(entries[:2])
    (n_pages,) = outbox._connection.execute("PRAGMA page_count").fetchone()
    outbox._connection.execute(f"PRAGMA max_page_count = {n_pages}")
    big = entries[2]._replace(line=b"x" * 100_000)
    with pytest.raises(StreamError, match="full"):
        outbox.append([big])
    assert seqs(outbox) == [0, 1]
    assert outbox.pending() == 2


def test_an_outbox_of_a_later_version_is_refused(outbox_path):
    with closing(sqlite3.connect(outbox_path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StreamError, match="version 99"):
        Outbox(outbox_path, rig="bench")


def test_each_run_is_kept_with_its_rig_whoever_opens_the_outbox(outbox_path, points):
    for rig, run_id in (("bench", "r1"), ("oven", "r2")):
        with closing(Outbox(outbox_path, rig=rig)) as outbox:
            outbox.append([entry_of(document) for document in points(2, run_id)])
    with closing(Outbox(outbox_path, rig="a third")) as outbox:
        assert outbox.rigs_pending() == ["bench", "oven"]
        assert (outbox.runs_pending("bench"), outbox.runs_pending("oven")) == (["r1"], ["r2"])
        assert outbox.runs_pending() == []


def start(run_id: str, **about: str) -> Document:
    body = {"time": "2026-01-01T00:00:00Z", "protocol": "p", "parameters": {}, "sample": {}}
    return Document(run_id, 0, Kind.RUN_START, {**body, **about})


def an_outbox_of_version_1(path, documents) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            "CREATE TABLE document (run_id TEXT NOT NULL, seq INTEGER NOT NULL,"
            " line BLOB NOT NULL, PRIMARY KEY (run_id, seq));"
            "CREATE TABLE run (run_id TEXT PRIMARY KEY, last_seq INTEGER NOT NULL,"
            " forgotten INTEGER NOT NULL DEFAULT -1);"
            "PRAGMA user_version = 1;"
        )
        for document in documents:
            line = (document.run_id, document.seq, encode(document))
            connection.execute("INSERT INTO document VALUES (?, ?, ?)", line)
            connection.execute(
                "INSERT OR REPLACE INTO run (run_id, last_seq) VALUES (?, ?)", line[:2]
            )


def test_an_outbox_of_before_opens_and_knows_the_rigs_it_can_know(outbox_path, points):
    documents = [start("r1", rig="bench"), *points(2, first=1), *points(2, "r2", first=1)]
    an_outbox_of_version_1(outbox_path, [*documents, start("r3", rig="a/b")])
    for _ in range(2):
        with closing(Outbox(outbox_path, rig="ours")) as outbox:
            assert outbox.pending() == 6
            assert outbox.rigs_pending() == ["bench", None]
            assert (outbox.runs_pending("bench"), outbox.runs_pending()) == (["r1"], ["r2", "r3"])


def test_a_document_that_no_recorder_could_read_is_refused():
    ragged = {"stream": "eis", "n_points": 2, "columns": {"a": [1.0]}}
    with pytest.raises(DocumentError, match="column a"):
        entry_of(Document("r1", 0, Kind.EVENT_PAGE, ragged))


def test_a_run_id_that_cannot_be_a_topic_is_refused():
    with pytest.raises(DocumentError, match="MQTT topic"):
        entry_of(
            Document(
                "r/1", 0, Kind.EVENT, {"stream": "s", "time": "2026-01-01T00:00:00Z", "data": {}}
            )
        )


def test_a_line_is_json_that_a_person_can_read(points):
    line = entry_of(points(1)[0]).line
    assert b"\n" not in line
    assert orjson.loads(line)["body"]["columns"] == {"a": [0.0], "b": [0.5]}


def test_a_document_that_no_broker_need_take_is_refused():
    data = {"x": "y" * 9_000_000}
    body = {"stream": "s", "time": "2026-01-01T00:00:00Z", "data": data}
    with pytest.raises(DocumentError, match="9 MB, expected at most 8 MB"):
        entry_of(Document("r1", 0, Kind.EVENT, body))
