from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from labctl.documents import Document, Kind
from labctl.errors import BadInputError, StoreError
from labctl.store.ranges import missing_ranges
from labctl.store.reading import open_store
from labctl.store.verification import Findings, verify

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def change(store) -> Callable[..., Findings]:
    """Changes a sound store behind its back; returns what is found then."""

    def changed(statement: str, *values: object) -> Findings:
        with closing(sqlite3.connect(store.path)) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0
        return verify(store.path)

    return changed


@pytest.fixture(autouse=True)
def _whole_run(store, script):
    store.add(script.whole())


def problems(findings: Findings) -> list[str]:
    assert not findings.is_sound
    assert findings.problems == []
    [run] = findings.runs
    return run.problems


def test_a_whole_run_is_sound(store, script):
    findings = verify(store.path)
    assert findings.is_sound
    [run] = findings.runs
    assert (run.run_id, run.n_documents, run.n_points) == (script.run_id, 6, 3)
    assert not run.is_open


def test_an_interrupted_run_without_a_gap_is_sound(store, other_script):
    store.add(other_script.whole()[:3])
    newest, _ = verify(store.path).runs
    assert newest.is_open
    assert newest.problems == []


@pytest.mark.parametrize("byte", [0, 7, 8, 31])
def test_a_byte_changed_in_a_frame_is_found(change, byte):
    statement = (
        "UPDATE document SET"
        " points = CAST(substr(points, 1, ?) || x'55' || substr(points, ? + 2) AS BLOB)"
        " WHERE seq = 2"
    )
    assert problems(change(statement, byte, byte)) == ["checksum wrong: document 2"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE document SET body = replace(body, 'LPSCl', 'LPSBr') WHERE seq = 0",
        "UPDATE document SET body = CAST(x'FF' AS TEXT) WHERE seq = 0",
        "UPDATE document SET kind = 'event' WHERE seq = 0",
        "UPDATE document SET stream = 'x' WHERE seq = 0",
        "UPDATE document SET names = '[]' WHERE seq = 0",
        "UPDATE document SET checksum = checksum + 1 WHERE seq = 0",
    ],
)
def test_anything_changed_in_a_document_is_found(change, statement):
    assert problems(change(statement)) == ["checksum wrong: document 0"]


def test_a_damaged_run_is_found_by_its_id(store, script, change):
    change("UPDATE document SET body = '{' WHERE seq = 0")
    assert not verify(store.path, script.run_id).is_sound


def test_a_document_moved_to_another_place_is_found(change):
    found = problems(change("UPDATE document SET seq = 6 WHERE seq = 3"))
    assert found[0] == "missing: document 3"
    assert "checksum wrong: document 6" in found


def test_a_deleted_document_is_found(change):
    found = problems(change("DELETE FROM document WHERE seq = 4"))
    assert found == [
        "missing: document 4",
        "noted as stored up to 5 and 5, found up to 3 and 5",
        "stream eis: 3 points counted, 2 stored",
        "stream eis: 3 points measured, 2 stored",
    ]


def test_a_deleted_end_is_found(change):
    found = problems(change("DELETE FROM document WHERE seq = 5"))
    assert found == ["noted as stored up to 5 and 5, found up to 4 and 4"]


def test_a_changed_count_of_a_stream_is_found(change):
    found = problems(change("UPDATE stream SET n_points = 4 WHERE name = 'eis'"))
    assert found == ["stream eis: 4 points counted, 3 stored"]


def test_a_changed_count_of_a_frame_is_found(change):
    found = problems(change("UPDATE document SET n_points = 7 WHERE seq = 4"))
    assert found == ["number of points is not what the frame holds: document 4"]


def test_a_run_stop_that_counts_otherwise_is_found(store, other_script):
    other_script.start()
    other_script.frame((0.0, 1.0))
    other_script.stop(eis=2)
    store.add(other_script.documents)
    newest, oldest = verify(store.path).runs
    assert newest.problems == ["stream eis: 2 points measured, 1 stored"]
    assert oldest.problems == []


def test_a_watermark_that_lies_is_found(change):
    found = problems(change("UPDATE run SET watermark = 2, last_seq = 1152921504606846976"))
    assert found == ["noted as stored up to 2 and 1152921504606846976, found up to 5 and 5"]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM stream WHERE is_frames", "stream eis: not noted"),
        ("UPDATE stream SET is_frames = 1 - is_frames", "stream eis: not noted"),
        ("UPDATE stream SET name = 'eiS' WHERE is_frames", "stream eis: not noted"),
        ("UPDATE stream SET name = CAST(name AS BLOB)", "stream eis: not noted"),
        ("UPDATE stream SET units = replace(units, 'ohm\"', 'Ohm\"')", "stream eis: the units"),
        ("UPDATE stream SET units = NULL", "stream eis: the units"),
        ("UPDATE stream SET first_seq = 2 WHERE is_frames", "stream eis: noted from document 2"),
        ("UPDATE document SET seq = 'x' WHERE seq = 3", "missing: document 3"),
        ("UPDATE document SET body = CAST(body AS BLOB) WHERE seq = 0", "checksum wrong"),
        ("UPDATE document SET stream = CAST(stream AS BLOB) WHERE seq = 2", "checksum wrong"),
        ("UPDATE run SET parquet_seq = 1000", "its row is damaged"),
        ("UPDATE run SET stored_at = 'x'", "its row is damaged"),
        ("UPDATE run SET watermark = 'x'", "its row is damaged"),
    ],
)
def test_what_is_noted_and_is_not_so_is_found(change, statement, problem):
    assert problem in problems(change(statement))[0]


@pytest.mark.parametrize(
    ("was", "now"),
    [("stored_at   TEXT", "stored_at   TEXU"), ("REFERENCES run", "REFERENCES ruO")],
)
def test_tables_that_are_not_as_they_were_made_are_found(store, was, now):
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?)", (was, now))
    findings = verify(store.path)
    assert any("not as this version makes it" in problem for problem in findings.problems)


def test_a_damaged_schema_that_sqlite_cannot_even_quote_is_an_error(store):
    store.close()
    was, now = b"watermark   INTEGER NOT NULL", b"watermark   INTEGER NOT \xceULL"
    store.path.write_bytes(store.path.read_bytes().replace(was, now))
    with pytest.raises(StoreError):
        verify(store.path)


def test_other_documents_under_a_number_that_was_taken_are_found(store, script, other_script):
    store.add(other_script.whole())
    store.add([Document(script.run_id, 3, Kind.EVENT, dict(script.documents[4].body))])
    newest, oldest = verify(store.path).runs
    assert oldest.problems == [
        "1 other documents came under numbers that were taken (labctl recorder quarantine)"
    ]
    assert newest.problems == []


def test_what_was_given_up_is_told_as_lost(store, other_script):
    whole = other_script.whole()
    store.add([whole[5]])
    store.give_up(other_script.run_id, 4)
    newest, _ = verify(store.path).runs
    assert newest.problems[0] == "lost, nowhere any more: document 0 to 4"
    assert open_store(store.path).run(other_script.run_id).outcome == "truncated"


def test_documents_of_no_run_are_found(change):
    findings = change("DELETE FROM run")
    assert not findings.is_sound
    assert findings.problems == ["8 rows belong to no run"]


def test_a_damaged_page_is_found(store):
    store.close()
    content = bytearray(store.path.read_bytes())
    content[-4096:-3000] = b"\x55" * 1096
    store.path.write_bytes(content)
    findings = verify(store.path)
    assert not findings.is_sound
    assert findings.problems[0].startswith("SQLite: ")


def test_one_run_can_be_asked_for(store, script, other_script):
    store.add(other_script.whole())
    assert [run.run_id for run in verify(store.path, script.run_id).runs] == [script.run_id]
    with pytest.raises(BadInputError, match="no run 'x'"):
        verify(store.path, "x")


@pytest.mark.parametrize(
    ("seqs", "missing"),
    [
        ([], []),
        ([0, 1, 2], []),
        ([2], [(0, 1)]),
        ([0, 2, 3, 2**60], [(1, 1), (4, 2**60 - 1)]),
    ],
)
def test_what_is_missing_is_told_in_ranges(seqs, missing):
    assert missing_ranges(seqs) == missing
