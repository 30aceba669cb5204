"""The outbox: what a run has said and no recorder has confirmed yet, on disk.

One SQLite file, held by one process at a time. A document is durable when `append` returns and
leaves only when a recorder's watermark has passed it: a broker's acknowledgement proves nothing.
The bytes in the outbox are the bytes on the wire.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from labctl.documents import decode, encode
from labctl.errors import DocumentError, StreamError
from labctl.store.transaction import transaction

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from labctl.documents import Document

_VERSION = 1
_PAGES_PER_CHECKPOINT = 4000  # 16 MB

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
    line = encode(document)
    decode(line)
    return Entry(document.run_id, document.seq, line)


class Outbox:
    """Documents in wait of a recorder; used from the thread that made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StreamError(f"{path}: cannot open the outbox: {error}") from error
        try:
            self._prepare()
            self._n_pending = self._count()
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
        with self._transaction():
            n_new = sum(self._insert(entry) for entry in entries)
            last_seqs = {entry.run_id: entry.seq for entry in sorted(entries)}
            self._connection.executemany(_APPENDED, last_seqs.items())
        self._n_pending += n_new

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
        with self._relaxed(), self._transaction():
            cursor = self._connection.execute(
                "DELETE FROM document WHERE run_id = ? AND seq <= ?", (run_id, up_to_seq)
            )
            self._connection.execute(
                "UPDATE run SET forgotten = max(forgotten, ?) WHERE run_id = ?", (up_to_seq, run_id)
            )
        self._n_pending -= cursor.rowcount

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
            if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
                raise StreamError(f"{self.path}: another process holds this outbox") from error
            raise StreamError(f"{self.path}: outbox: {error}") from error
