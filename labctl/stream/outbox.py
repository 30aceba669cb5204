"""The outbox: what a run has said and no recorder has confirmed yet, on disk.

One SQLite file, held by one process at a time. A document is durable when `append` returns and
leaves only when a recorder's watermark has passed it: a broker's acknowledgement proves nothing.
The bytes in the outbox are the bytes on the wire. It is bounded: with the ceiling near it says so,
and at the ceiling, or on a full disk, that there is no room; what is given all the same is kept.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from labctl.documents import Room, check, encode
from labctl.errors import DocumentError, StreamError
from labctl.store.transaction import transaction
from labctl.stream.reserve import Reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from labctl.documents import Document

_log = logging.getLogger(__name__)

_VERSION = 1
_PAGES_PER_CHECKPOINT = 4000  # 16 MB
_SCARCE = 0.8  # share of the ceiling
_COMPACTED_ABOVE_BYTES = 16 << 20

_SCHEMA = """
CREATE TABLE document (
    run_id TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    line   BLOB NOT NULL,
    PRIMARY KEY (run_id, seq)
);
CREATE TABLE run (
    run_id    TEXT PRIMARY KEY,
    last_seq  INTEGER NOT NULL,            -- the highest seq ever appended
    forgotten INTEGER NOT NULL DEFAULT -1  -- the recorders' watermark
);
"""
_APPENDED = (
    "INSERT INTO run (run_id, last_seq) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET last_seq = max(last_seq, excluded.last_seq)"
)


class DiskFullError(StreamError):
    """The disk has no room for it."""


class Entry(NamedTuple):
    """One document as it lies in the outbox and travels: a line of JSON."""

    run_id: str
    seq: int
    line: bytes


def entry_of(document: Document) -> Entry:
    """Return a document as an outbox entry.

    Raises:
        DocumentError: no recorder could read it, or its run_id cannot be part of a topic; such a
            line would block the outbox for ever.
    """
    if set(document.run_id) & set("/+#\0"):
        raise DocumentError(f"run_id {document.run_id!r}: cannot be part of an MQTT topic")
    check(document)
    return Entry(document.run_id, document.seq, encode(document))


@dataclass(frozen=True, kw_only=True)
class OutboxLimits:
    """How large an outbox may grow.

    Attributes:
        ceiling_bytes: at so much on disk there is no room left.
        reserve_bytes: set aside in a file beside it for when the disk is full; 0 for none.
    """

    ceiling_bytes: float = 4e9
    reserve_bytes: int = 0


class Outbox:
    """Documents in wait of a recorder; used from the thread that made it.

    `room` says how much is left; other threads may read it, too.
    """

    room = Room.PLENTY

    def __init__(self, path: Path, limits: OutboxLimits | None = None) -> None:
        self.path = path
        self._limits = limits or OutboxLimits()
        self._reserve = Reserve(path.with_suffix(".reserve"), self._limits.reserve_bytes)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StreamError(f"{path}: cannot open the outbox: {error}") from error
        try:
            self._prepare()
            self._n_pending = self._count()
            self.make_room()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file and let another process have it; a second call does nothing."""
        self._connection.close()

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep entries in one transaction; on disk when this returns.

        Raises:
            StreamError: none of them was kept (disk full, one seq for two different documents).
        """
        self._n_pending += self._despite_full_disk(lambda: self._append(entries))
        self._measure()

    def make_room(self) -> None:
        """Give what is free back to the disk, and set the reserve aside again if there is room."""
        if self._n_pending == 0 and self._file_bytes() > _COMPACTED_ABOVE_BYTES:
            self._compact()
        self._reserve.take()
        self._measure()

    def _compact(self) -> None:
        """Shrink the file; where the disk has no room for that, later will do."""
        try:
            with self._as_stream_error():
                self._connection.execute("VACUUM")
        except StreamError as error:
            _log.warning("the outbox cannot be compacted now: %s", error)

    def unacknowledged(self, run_id: str, *, after_seq: int) -> Generator[Entry]:
        """Give the entries of a run that come after a seq, in order, each read when asked for.

        Nothing may be appended or forgotten while it is in use.
        """
        query = "SELECT run_id, seq, line FROM document WHERE run_id = ? AND seq > ? ORDER BY seq"
        with (
            self._as_stream_error(),
            closing(self._connection.execute(query, (run_id, after_seq))) as rows,
        ):
            yield from map(Entry._make, rows)

    def forget(self, run_id: str, up_to_seq: int) -> None:
        """Drop what recorders have stored: a run's entries up to their watermark.

        Not brought to disk at once: what a power cut brings back is only sent once more.
        """
        self._n_pending -= self._despite_full_disk(lambda: self._forget(run_id, up_to_seq))
        self.make_room()

    def pending(self) -> int:
        """Return how many documents wait for a recorder."""
        return self._n_pending

    def runs_pending(self) -> list[str]:
        """Return the runs that have documents waiting, the oldest first."""
        rows = self._rows("SELECT run_id FROM run WHERE last_seq > forgotten ORDER BY rowid")
        return [run_id for (run_id,) in rows]

    def last_seq(self, run_id: str) -> int:
        """Return the highest seq of a run that was ever put here, -1 for none.

        A resumed run goes on after it: what is in the outbox or has left it is not lost.
        """
        rows = self._rows("SELECT last_seq FROM run WHERE run_id = ?", (run_id,))
        return int(rows[0][0]) if rows else -1

    def _prepare(self) -> None:
        """Take the file for this process alone and make the tables if it is new."""
        with self._as_stream_error():
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_PER_CHECKPOINT}")
        with self._transaction():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise StreamError(f"{self.path}: outbox version {version}, expected {_VERSION}")
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _append(self, entries: Sequence[Entry]) -> int:
        """Insert entries; return how many of them were new."""
        with self._transaction():
            n_new = sum(self._insert(entry) for entry in entries)
            last_seqs = {entry.run_id: entry.seq for entry in sorted(entries)}
            self._connection.executemany(_APPENDED, last_seqs.items())
        return n_new

    def _forget(self, run_id: str, up_to_seq: int) -> int:
        """Delete a run's entries; return how many there were."""
        with self._relaxed(), self._transaction():
            cursor = self._connection.execute(
                "DELETE FROM document WHERE run_id = ? AND seq <= ?", (run_id, up_to_seq)
            )
            self._connection.execute(
                "UPDATE run SET forgotten = max(forgotten, ?) WHERE run_id = ?", (up_to_seq, run_id)
            )
        return cursor.rowcount

    def _despite_full_disk(self, work: Callable[[], int]) -> int:
        """Return what some work returns, done in the space of the reserve if there is no other."""
        try:
            return work()
        except DiskFullError as error:
            if not self._reserve.give_up():
                raise
            _log.warning("%s; the reserve has been given up for the last documents", error)
            return work()

    def _insert(self, entry: Entry) -> int:
        """Insert one entry; return 1, or 0 if this very entry is here already."""
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO document (run_id, seq, line) VALUES (?, ?, ?)", entry
        )
        if cursor.rowcount == 0:
            kept = self._rows(
                "SELECT line FROM document WHERE run_id = ? AND seq = ?", (entry.run_id, entry.seq)
            )
            if kept != [(entry.line,)]:
                raise StreamError(f"run {entry.run_id}: seq {entry.seq} is used for two documents")
        return cursor.rowcount

    def _count(self) -> int:
        return int(self._rows("SELECT count(*) FROM document")[0][0])

    def _measure(self) -> None:
        """Note how much room is left below the ceiling, and on the disk."""
        n_free = self._pragma("freelist_count") * self._pragma("page_size")
        share = (self._file_bytes() - n_free) / self._limits.ceiling_bytes
        if share >= 1.0 or not self._reserve.is_there:
            self.room = Room.NONE
        else:
            self.room = Room.SCARCE if share >= _SCARCE else Room.PLENTY

    def _file_bytes(self) -> int:
        return self._pragma("page_count") * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._as_stream_error():
            return self._connection.execute(query, parameters).fetchall()

    @contextmanager
    def _relaxed(self) -> Generator[None]:
        """Let a commit return before it is on disk; the next one takes it along."""
        with self._as_stream_error():
            self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                yield
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Commit what the body does, or nothing of it."""
        with self._as_stream_error(), transaction(self._connection):
            yield

    @contextmanager
    def _as_stream_error(self) -> Generator[None]:
        """Turn SQLite's errors into StreamError."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_BUSY":
                raise StreamError(f"{self.path}: another process holds this outbox") from error
            if name == "SQLITE_FULL":
                raise DiskFullError(f"{self.path}: outbox: {error}") from error
            raise StreamError(f"{self.path}: outbox: {error}") from error
