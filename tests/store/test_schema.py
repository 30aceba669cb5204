"""A store of version 1, built from the SQL that made it, is read as it is and brought up safely."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from labctl.errors import StoreError
from labctl.store.reading import open_store
from labctl.store.schema import copy_name, differing_tables
from labctl.store.sqlite import STORE_NAME, SqliteStore
from labctl.store.verification import verify

if TYPE_CHECKING:
    from pathlib import Path

VERSION_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE run (
    id        INTEGER PRIMARY KEY,
    run_id    TEXT NOT NULL UNIQUE,
    watermark INTEGER NOT NULL DEFAULT -1,
    last_seq  INTEGER NOT NULL DEFAULT -1
);
CREATE TABLE document (
    run      INTEGER NOT NULL REFERENCES run,
    seq      INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    stream   TEXT NOT NULL,
    n_points INTEGER NOT NULL,
    body     TEXT NOT NULL,
    names    TEXT,
    points   BLOB,
    PRIMARY KEY (run, seq)
);
CREATE TABLE stream (
    run       INTEGER NOT NULL REFERENCES run,
    name      TEXT NOT NULL,
    is_frames INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    n_points  INTEGER NOT NULL,
    units     TEXT,
    PRIMARY KEY (run, name, is_frames)
);
CREATE TABLE quarantine (
    id       INTEGER PRIMARY KEY,
    topic    TEXT NOT NULL,
    line     BLOB NOT NULL,
    problem  TEXT NOT NULL,
    n_times  INTEGER NOT NULL DEFAULT 1,
    first_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    UNIQUE (topic, line)
);
INSERT INTO run VALUES (1, 'r1', 3, 3);
INSERT INTO document VALUES
    (1, 0, 'run_start', '', 0,
     '{"time":"2026-11-24T00:00:00+00:00","protocol":"p","parameters":{},"sample":{}}', NULL, NULL),
    (1, 1, 'descriptor', 'eis', 0, '{"stream":"eis","units":{"a":"s"}}', NULL, NULL),
    (1, 2, 'event_page', 'eis', 2, '{"stream":"eis","n_points":2}', '["a"]',
     x'000000000000F03F0000000000000040'),
    (1, 3, 'run_stop', '', 0,
     '{"time":"2026-11-24T01:00:00+00:00","exit_status":"success","reason":"completed",'
     || '"expected_points":{"eis":2},"actual_points":{"eis":2}}', NULL, NULL);
INSERT INTO stream VALUES (1, 'eis', 1, 1, 2, '{"a":"s"}');
INSERT INTO quarantine (topic, line, problem) VALUES ('t', x'FF', 'not JSON');
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / STORE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def test_a_reader_reads_an_old_store_and_leaves_it_as_it_is(old):
    run = open_store(old).run()
    assert run.columns("eis")["a"].tolist() == [1.0, 2.0]
    assert run.outcome == "completed"
    assert version(old) == 1


def test_a_writer_brings_an_old_store_up(old):
    SqliteStore(old).close()
    assert version(old) == 3
    assert open_store(old).run().columns("eis")["a"].tolist() == [1.0, 2.0]
    [found] = verify(old).runs
    assert found.problems == []


def test_an_old_store_brought_up_has_the_tables_of_a_new_one(old):
    with closing(SqliteStore(old)) as store:
        assert not store.quarantine("t", b"\xff", "not JSON")
    with closing(sqlite3.connect(old)) as connection:
        assert differing_tables(connection) == []
        assert connection.execute("SELECT line, n_times FROM quarantine").fetchall() == [
            (b"\xff", 2)
        ]


@pytest.mark.parametrize("script", ["CREATE TABLE mine (x)", VERSION_1.replace("= 1;", "= 0;")])
def test_a_database_that_is_no_store_is_left_alone(tmp_path, script):
    path = tmp_path / STORE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    with pytest.raises(StoreError, match="not a labctl store"):
        SqliteStore(path)


def test_documents_that_come_again_after_that_are_the_same(old):
    from labctl.documents import Document, Kind

    with closing(SqliteStore(old)) as store:
        body = {"stream": "eis", "n_points": 2, "columns": {"a": [1.0, 2.0]}}
        store.add([Document("r1", 2, Kind.EVENT_PAGE, body)])
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT problem FROM quarantine").fetchall() == [("not JSON",)]


def test_the_old_store_is_kept_beside_it_whole(old):
    SqliteStore(old).close()
    kept = copy_name(old, 1)
    assert kept.name == "labctl-version-1.sqlite"
    assert version(kept) == 1
    assert open_store(kept).run().columns("eis")["a"].tolist() == [1.0, 2.0]


def test_a_store_that_cannot_be_copied_stays_as_it_is(old):
    copy_name(old, 1).mkdir()
    with pytest.raises(StoreError, match="cannot be copied"):
        SqliteStore(old)
    assert version(old) == 1
    assert open_store(old).run().outcome == "completed"
    assert not list(old.parent.glob(".*.part"))


def test_a_store_that_cannot_be_brought_up_stays_as_it_is(old):
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("ALTER TABLE document ADD COLUMN checksum")
    with pytest.raises(StoreError, match="duplicate column"):
        SqliteStore(old)
    assert version(old) == 1
    assert open_store(old).run().outcome == "completed"
