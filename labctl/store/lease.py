"""Who records into a store: one process at a time.

A small SQLite file beside the store holds the recorder's name; whoever records keeps a write
transaction open on it. The system ends that with the process, however it dies, and others can read
the name meanwhile. The store itself must stay open to readers, and to a writer after a crash.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from labctl.errors import StoreError, StoreTakenError

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


class Holder(NamedTuple):
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
    path = _path(store_path)
    with _as_store_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    with closing(connection):
        _take(connection, store_path, (recorder_id, source, os.getpid()))
        yield


def holder_of(store_path: Path) -> Holder | None:
    """Return who records into a store, or did last; None if nobody ever has."""
    path = _path(store_path)
    if not path.is_file():
        return None
    with (
        _as_store_error(path),
        closing(sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)) as connection,
    ):
        is_alive = _is_held(connection)
        try:
            rows = connection.execute("SELECT recorder_id, source, process, since FROM holder")
            row: Any = rows.fetchone()
        except sqlite3.OperationalError:  # not written yet: its first holder begins just now
            row = None
    return Holder(*row, is_alive=is_alive) if row else None


def _take(connection: sqlite3.Connection, store_path: Path, who: tuple[str, str, int]) -> None:
    """Write the holder's name and open the transaction that keeps others out."""
    try:
        with _as_store_error(_path(store_path)):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute(_TAKE, who)
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
    except _BusyError as error:
        holder = holder_of(store_path)
        raise StoreTakenError(
            f"{store_path}: {holder or 'another process'} records into this store"
        ) from error


def _is_held(connection: sqlite3.Connection) -> bool | None:
    """Return whether a process keeps a transaction open; None where we may not even try."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return True if _is_busy(error) else None
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000:.0f}")
    return False


def _path(store_path: Path) -> Path:
    """Return the file beside a store, the same by whatever way the store is named."""
    real = store_path.resolve()
    return real.with_name(f"{real.name}.recorder")


class _BusyError(StoreError):
    """Another process keeps its transaction open."""


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"


@contextmanager
def _as_store_error(path: Path) -> Generator[None]:
    """Turn SQLite's and the system's errors into StoreError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        kind = _BusyError if isinstance(error, sqlite3.Error) and _is_busy(error) else StoreError
        raise kind(f"{path}: {error}") from error
