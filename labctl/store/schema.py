"""The tables of a store file, their version, and how a file of an older version is brought up.

Version 2 gave each document a checksum, and each run the time of its last document and how far its
Parquet files go. Readers take both; a writer brings an old file up when it opens it, in one
transaction, after a copy of it was made beside it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from labctl.errors import StoreError
from labctl.store.checksum import checksum
from labctl.store.database import run_script

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_log = logging.getLogger(__name__)

VERSION = 2
"""The version that writers write."""

_READABLE = (1, VERSION)

_SCHEMA = """
CREATE TABLE run (
    id          INTEGER PRIMARY KEY,
    run_id      TEXT NOT NULL UNIQUE,
    watermark   INTEGER NOT NULL DEFAULT -1,  -- everything from 0 to here is stored
    last_seq    INTEGER NOT NULL DEFAULT -1,  -- the highest seq stored
    parquet_seq INTEGER NOT NULL DEFAULT -1,  -- the run's Parquet files hold everything to here
    stored_at   TEXT NOT NULL DEFAULT ''      -- when something of it was stored last, UTC
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
    UNIQUE (topic, line)
);
"""

_UP_TO_2 = """
ALTER TABLE run ADD COLUMN parquet_seq INTEGER NOT NULL DEFAULT -1;
ALTER TABLE run ADD COLUMN stored_at TEXT NOT NULL DEFAULT '';
ALTER TABLE document ADD COLUMN checksum INTEGER NOT NULL DEFAULT -1;
UPDATE document SET checksum = labctl_checksum(
    (SELECT run_id FROM run WHERE run.id = document.run), seq, kind, stream, body, names, points
);
"""


def bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in an empty file, or bring an older one up; within a transaction.

    Raises:
        StoreError: it is a file of another kind or a later version, or cannot be copied.
    """
    check_version(connection, path, may_be_new=True)
    version = version_of(connection)
    if version == 0:
        run_script(connection, _SCHEMA)
    elif version == 1:
        _keep_copy(path, version)
        connection.create_function("labctl_checksum", 7, checksum, deterministic=True)
        run_script(connection, _UP_TO_2)
        _log.warning("%s: now of version 2; as it was, it is kept as %s", path, copy_name(path, 1))
    if version != VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")


def check_version(connection: sqlite3.Connection, path: Path, *, may_be_new: bool = False) -> None:
    """Raise StoreError unless a file is a store that can be read (or empty, if that may be)."""
    version = version_of(connection)
    if version == 0 and not may_be_new:
        raise StoreError(f"{path}: not a labctl store")
    if version not in (0, *_READABLE):
        raise StoreError(
            f"{path}: store version {version}, but this labctl reads {_listed(_READABLE)}"
        )


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
    return "versions " + " and ".join(map(str, versions))
