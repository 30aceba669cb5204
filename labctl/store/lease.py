"""Who records into a store: one process at a time.

A small SQLite file beside the store holds the recorder's name; whoever records keeps a write
transaction open on it. The system ends that with the process, however it dies, and others can read
the name meanwhile. The store itself must stay open to readers, and to a writer after a crash.

A lessee is not the holder of a data folder (`labctl.store.holder`): a folder may be held by a run
whose documents a recorder elsewhere stores, and its store recorded into while no run goes on. And a
lease's name outlives it, so that `recorder status` can tell who was at work last.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from labctl.errors import StoreError, StoreTakenError
from labctl.store.database import Database, sqlite_name

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_PATIENCE_S = 1.0  # a `recorder status` that looks for a moment must refuse nobody

_SCHEMA = """
CREATE TABLE IF NOT EXISTS holder (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    recorder_id TEXT NOT NULL,
    source      TEXT NOT NULL,
    process     INTEGER NOT NULL,
    since       TEXT NOT NULL
)
"""
_TAKE = "INSERT OR REPLACE INTO holder VALUES (1, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))"


class Lessee(NamedTuple):
    """Who records into a store, or did last.

    `source` says what is recorded: a broker, and the rig if it is one only. `is_alive` is None
    where the file may not be written and so nobody can tell.
    """

    recorder_id: str
    source: str
    process: int
    since: str
    is_alive: bool | None

    def __str__(self) -> str:
        return f"recorder {self.recorder_id} (process {self.process}, {self.source})"


@contextmanager
def lease(store_path: Path, *, recorder_id: str, source: str) -> Generator[None]:
    """Hold the right to record into a store.

    Raises:
        StoreTakenError: another process has it.
        StoreError: the file beside the store cannot be written.
    """
    with closing(_opened(store_path)) as database:
        _take(database, store_path, (recorder_id, source, os.getpid()))
        yield


def lessee_of(store_path: Path) -> Lessee | None:
    """Return who records into a store, or did last; None if nobody ever has."""
    if not _path(store_path).is_file():
        return None
    with closing(_opened(store_path)) as database, database.errors():
        is_alive = _is_held(database.connection)
        try:
            rows = database.connection.execute(
                "SELECT recorder_id, source, process, since FROM holder"
            )
            row: Any = rows.fetchone()
        except sqlite3.OperationalError:  # not written yet: its first lessee begins just now
            row = None
    return Lessee(*row, is_alive=is_alive) if row else None


def _opened(store_path: Path) -> Database:
    return Database(
        _path(store_path),
        "lease",
        error=StoreError,
        kinds={"SQLITE_BUSY": _BusyError},
        timeout_s=_PATIENCE_S,
    )


def _take(database: Database, store_path: Path, who: tuple[str, str, int]) -> None:
    """Write the lessee's name and open the transaction that keeps others out."""
    try:
        with database.transaction():
            database.connection.execute(_SCHEMA)
            database.connection.execute(_TAKE, who)
        with database.errors():
            database.connection.execute("BEGIN IMMEDIATE")
    except _BusyError as error:
        lessee = lessee_of(store_path)
        raise StoreTakenError(
            f"{store_path}: {lessee or 'another process'} records into this store"
        ) from error


def _is_held(connection: sqlite3.Connection) -> bool | None:
    """Return whether a process keeps a transaction open; None where we may not even try."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return True if sqlite_name(error) == "SQLITE_BUSY" else None
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000:.0f}")
    return False


def _path(store_path: Path) -> Path:
    """Return the file beside a store, the same by whatever way the store is named."""
    real = store_path.resolve()
    return real.with_name(f"{real.name}.recorder")


class _BusyError(StoreError):
    """Another process keeps its transaction open."""
