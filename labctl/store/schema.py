"""The tables of a store file, their version, and how a file of an older version is brought up.

Version 2 gave each document a checksum, and each run the time of its last document and how far its
Parquet files go; version 3 gave each run `lost_seq`, and each quarantined line a digest, since an
index of whole lines doubled them. Readers take all three; a writer brings an old file up when it
opens it, in one transaction, after a copy of it was made beside it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from labctl.errors import StoreError
from labctl.store.checksum import checksum
from labctl.store.database import run_script

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_log = logging.getLogger(__name__)

VERSION = 3
"""The version that writers write."""

_READABLE = (1, 2, VERSION)

_SCHEMA = """
CREATE TABLE run (
    id          INTEGER PRIMARY KEY,
    run_id      TEXT NOT NULL UNIQUE,
    watermark   INTEGER NOT NULL DEFAULT -1,  -- everything from 0 to here is stored, or lost
    last_seq    INTEGER NOT NULL DEFAULT -1,  -- the highest seq stored
    parquet_seq INTEGER NOT NULL DEFAULT -1,  -- the run's Parquet files hold everything to here
    stored_at   TEXT NOT NULL DEFAULT '',     -- when something of it was stored last, UTC
    lost_seq    INTEGER NOT NULL DEFAULT -1   -- what is missing up to here exists nowhere any more
);
CREATE TABLE document (
    run      INTEGER NOT NULL REFERENCES run,
    seq      INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    stream   TEXT NOT NULL,
    n_points INTEGER NOT NULL,
    body     TEXT NOT NULL,  -- JSON; of an event_page without its columns
    names    TEXT,           -- JSON list of an event_page's column names
    points   BLOB,           -- float64, little-endian, (n_points, n_columns)
    checksum INTEGER NOT NULL DEFAULT -1,  -- CRC-32 of the rest, run_id included
    PRIMARY KEY (run, seq)
);
CREATE TABLE stream (
    run       INTEGER NOT NULL REFERENCES run,
    name      TEXT NOT NULL,
    is_frames INTEGER NOT NULL,  -- 1: frames of points, 0: events
    first_seq INTEGER NOT NULL,
    n_points  INTEGER NOT NULL,
    units     TEXT,              -- JSON, from the descriptor
    PRIMARY KEY (run, name, is_frames)
);
CREATE TABLE quarantine (
    id       INTEGER PRIMARY KEY,
    topic    TEXT NOT NULL,
    line     BLOB NOT NULL,
    problem  TEXT NOT NULL,
    n_times  INTEGER NOT NULL DEFAULT 1,
    first_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    digest   BLOB NOT NULL UNIQUE  -- SHA-256 of the topic, a zero byte and the line
);
"""

_QUARANTINE = _SCHEMA[_SCHEMA.index("CREATE TABLE quarantine") :]
_UP_TO_2 = """
ALTER TABLE run ADD COLUMN parquet_seq INTEGER NOT NULL DEFAULT -1;
ALTER TABLE run ADD COLUMN stored_at TEXT NOT NULL DEFAULT '';
ALTER TABLE document ADD COLUMN checksum INTEGER NOT NULL DEFAULT -1;
UPDATE document SET checksum = labctl_checksum(
    (SELECT run_id FROM run WHERE run.id = document.run), seq, kind, stream, body, names, points
);
"""
_UP_TO_3 = f"""
ALTER TABLE run ADD COLUMN lost_seq INTEGER NOT NULL DEFAULT -1;
ALTER TABLE quarantine RENAME TO old_quarantine;
{_QUARANTINE}
INSERT INTO quarantine SELECT id, topic, line, problem, n_times, first_at,
    labctl_digest(topic, line) FROM old_quarantine;
DROP TABLE old_quarantine;
"""  # noqa: S608 - all of it is ours


def bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in an empty file, or bring an older one up; within a transaction.

    Raises:
        StoreError: it is a file of another kind or a later version, or cannot be copied.
    """
    check_version(connection, path, may_be_new=True)
    version = version_of(connection)
    if version == VERSION:
        return
    if version == 0:
        run_script(connection, _SCHEMA)
    else:
        _keep_copy(path, version)
        connection.create_function("labctl_checksum", 7, checksum, deterministic=True)
        connection.create_function("labctl_digest", 2, digest, deterministic=True)
        for script in (_UP_TO_2, _UP_TO_3)[version - 1 :]:
            run_script(connection, script)
        kept = copy_name(path, version)
        _log.warning("%s: now of version %s; as it was, it is kept as %s", path, VERSION, kept)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def digest(topic: str, line: bytes) -> bytes:
    """Return what tells a quarantined line from any other."""
    return hashlib.sha256(topic.encode() + b"\0" + line).digest()


def differing_tables(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that are not as this version makes them, those too many included."""
    with closing(sqlite3.connect(":memory:")) as made:
        run_script(made, _SCHEMA)
        wanted, found = _shape(made), _shape(connection)
    return sorted(name for name in wanted | found if wanted.get(name) != found.get(name))


def _shape(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    """Return what SQLite takes each table for: its columns, indices and references."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type != 'index'").fetchall()
    return {
        name: [
            row
            for pragma in ("table_xinfo", "index_list", "foreign_key_list")
            for row in connection.execute(f"SELECT * FROM pragma_{pragma}(?)", (name,))  # noqa: S608
        ]
        for (name,) in names
    }


def check_version(connection: sqlite3.Connection, path: Path, *, may_be_new: bool = False) -> None:
    """Raise StoreError unless a file is a store that can be read (or empty, if that may be)."""
    version = version_of(connection)
    if version == 0 and not (may_be_new and _is_empty(connection)):
        raise StoreError(f"{path}: not a labctl store")
    if version not in (0, *_READABLE):
        raise StoreError(
            f"{path}: store version {version}, but this labctl reads {_listed(_READABLE)}"
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version that a file claims; 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def copy_name(path: Path, version: int) -> Path:
    """Return where the copy of a store of an older version is kept."""
    return path.with_name(f"{path.stem}-version-{version}{path.suffix}")


def _keep_copy(path: Path, version: int) -> None:
    """Copy a store beside itself, whole and on disk, or not at all.

    By a connection of its own: it sees what is committed, while the caller's keeps writers out.
    """
    kept = copy_name(path, version)
    part = kept.with_name(f".{kept.name}.part")
    try:
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(kept)
    except OSError as error:
        raise StoreError(f"{path}: cannot be copied to {kept}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _listed(versions: Collection[int]) -> str:
    *most, last = map(str, versions)
    return f"versions {', '.join(most)} and {last}"
