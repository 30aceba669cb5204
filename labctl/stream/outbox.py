"""The outbox: what a run has said and no recorder has confirmed yet, on disk.

One SQLite file, held by one process at a time. A document is durable when `append` returns and
leaves only when a recorder's watermark has passed it: a broker's acknowledgement proves nothing.
Each run is kept with the name of its rig: what waits goes out under that, whoever opens the file.
The bytes in the outbox are the bytes on the wire. It is bounded: with the ceiling near it says so,
and at the ceiling, or on a full disk, that there is no room; what is given all the same is kept.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from labctl.documents import Kind, Room, check, decode, encode
from labctl.errors import DocumentError, StreamError
from labctl.store.database import Database
from labctl.stream.reserve import Reserve, reserved_bytes
from labctl.stream.topics import is_topic_part

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from labctl.config import OutboxConfig
    from labctl.documents import Document

_log = logging.getLogger(__name__)

MAX_LINE_BYTES = 8_000_000
"""What a document may take on the wire."""

_SCARCE = 0.8  # share of the ceiling
_COMPACTED_ABOVE_BYTES = 16 << 20

_VERSION_1 = """
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
# A version 1 knew no rigs; of a run whose run_start has left it nobody knows the rig any more.
_VERSION_2 = """
ALTER TABLE run ADD COLUMN rig TEXT;
UPDATE run SET rig = (SELECT labctl_rig(line) FROM document WHERE run_id = run.run_id AND seq = 0)
"""
_APPENDED = (
    "INSERT INTO run (run_id, last_seq, rig) VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET last_seq = max(last_seq, excluded.last_seq), rig = excluded.rig"
)
_RUNS_PENDING = (
    "SELECT run_id FROM run WHERE last_seq > forgotten AND coalesce(rig, ?) = ? ORDER BY rowid"
)
_RIGS_PENDING = "SELECT DISTINCT rig FROM run WHERE last_seq > forgotten ORDER BY rowid"


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
        DocumentError: no recorder could read it, its run_id cannot be part of a topic, or it is
            larger than a broker need take; such a line would block the outbox for ever.
    """
    if not is_topic_part(document.run_id):
        raise DocumentError(f"run_id {document.run_id!r}: cannot be part of an MQTT topic")
    check(document)
    line = encode(document)
    if len(line) > MAX_LINE_BYTES:
        raise DocumentError(
            f"{document.kind} {document.stream}: {len(line) / 1e6:.0f} MB, expected at most"
            f" {MAX_LINE_BYTES / 1e6:.0f} MB in one document"
        )
    return Entry(document.run_id, document.seq, line)


@dataclass(frozen=True, kw_only=True)
class OutboxLimits:
    """How large an outbox may grow.

    Attributes:
        ceiling_bytes: at so much on disk there is no room left.
        reserve_bytes: set aside in a file beside it for when the disk is full; 0 for none.
    """

    ceiling_bytes: float = 4e9
    reserve_bytes: int = 0

    @classmethod
    def of(cls, config: OutboxConfig) -> OutboxLimits:
        """Return what the section `[outbox]` of a rig file allows."""
        return cls(ceiling_bytes=config.ceiling, reserve_bytes=int(config.reserve))


def limits_of(path: Path) -> OutboxLimits:
    """Return the limits of an outbox whose rig file is not at hand: the reserve that is there."""
    return OutboxLimits(reserve_bytes=reserved_bytes(_reserve_path(path)))


def _reserve_path(path: Path) -> Path:
    return path.with_suffix(".reserve")


class Outbox:
    """Documents in wait of a recorder; used from the thread that made it.

    `room` says how much is left; other threads may read it, too.

    Args:
        path: The file; one process at a time.
        rig: Whose documents are put here, and whose a run is taken to be that names no rig.
        limits: How large it may grow.
    """

    room = Room.PLENTY

    def __init__(self, path: Path, *, rig: str, limits: OutboxLimits | None = None) -> None:
        self.path = path
        self._rig = rig
        self._limits = limits or OutboxLimits()
        self._reserve = Reserve(_reserve_path(path), self._limits.reserve_bytes)
        self._compacting_problem = ""
        self._database = Database(
            path, "outbox", error=StreamError, kinds={"SQLITE_FULL": DiskFullError}, timeout_s=0
        )
        self._connection = self._database.connection
        try:
            self._prepare()
            self._n_pending = self._count()
            self.make_room()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file and let another process have it; a second call does nothing."""
        self._database.close()

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
        problem = ""
        try:
            with self._database.errors():
                self._connection.execute("VACUUM")
        except StreamError as error:
            problem = str(error)
        if problem and problem != self._compacting_problem:
            _log.warning("the outbox cannot be compacted now: %s", problem)
        self._compacting_problem = problem

    def unacknowledged(self, run_id: str, *, after_seq: int) -> Generator[Entry]:
        """Give the entries of a run that come after a seq, in order, each read when asked for.

        Nothing may be appended or forgotten while it is in use.
        """
        query = "SELECT run_id, seq, line FROM document WHERE run_id = ? AND seq > ? ORDER BY seq"
        with (
            self._database.errors(),
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

    def pending_of(self, run_id: str) -> int:
        """Return how many documents of a run wait for a recorder."""
        rows = self._database.rows("SELECT count(*) FROM document WHERE run_id = ?", (run_id,))
        return int(rows[0][0])

    def runs_pending(self, rig: str | None = None) -> list[str]:
        """Return the runs of a rig, ours by default, that have documents waiting; oldest first."""
        rows = self._database.rows(_RUNS_PENDING, (self._rig, self._rig if rig is None else rig))
        return [run_id for (run_id,) in rows]

    def rigs_pending(self) -> list[str | None]:
        """Return the rigs whose runs have documents waiting; None for runs of an unknown one."""
        return [rig for (rig,) in self._database.rows(_RIGS_PENDING)]

    def last_seq(self, run_id: str) -> int:
        """Return the highest seq of a run that was ever put here, -1 for none.

        A resumed run goes on after it: what is in the outbox or has left it is not lost.
        """
        rows = self._database.rows("SELECT last_seq FROM run WHERE run_id = ?", (run_id,))
        return int(rows[0][0]) if rows else -1

    def forgotten_after(self, run_id: str, seq: int) -> int:
        """Return up to where nothing of a run that comes after a seq is here any more.

        That seq itself if the next one is here; -1 for a run that never was.
        """
        rows = self._database.rows(
            "SELECT coalesce((SELECT min(seq) - 1 FROM document WHERE run_id = run.run_id"
            " AND seq > ?), last_seq) FROM run WHERE run_id = ?",
            (seq, run_id),
        )
        return int(rows[0][0]) if rows else -1

    def _prepare(self) -> None:
        """Take the file for this process alone and make its tables."""
        self._database.rows("PRAGMA locking_mode = EXCLUSIVE")
        self._database.make_durable()
        self._connection.create_function("labctl_rig", 1, _rig_in, deterministic=True)
        self._database.bring_up([_VERSION_1, _VERSION_2])

    def _append(self, entries: Sequence[Entry]) -> int:
        """Insert entries; return how many of them were new."""
        with self._database.transaction():
            n_new = sum(self._insert(entry) for entry in entries)
            last_seqs = {entry.run_id: entry.seq for entry in sorted(entries)}
            rows = [(run_id, seq, self._rig) for run_id, seq in last_seqs.items()]
            self._connection.executemany(_APPENDED, rows)
        return n_new

    def _forget(self, run_id: str, up_to_seq: int) -> int:
        """Delete a run's entries; return how many there were."""
        with self._relaxed(), self._database.transaction():
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
            kept = self._database.rows(
                "SELECT line FROM document WHERE run_id = ? AND seq = ?", (entry.run_id, entry.seq)
            )
            if kept != [(entry.line,)]:
                raise StreamError(f"run {entry.run_id}: seq {entry.seq} is used for two documents")
        return cursor.rowcount

    def _count(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM document")[0][0])

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
        return int(self._database.rows(f"PRAGMA {name}")[0][0])

    @contextmanager
    def _relaxed(self) -> Generator[None]:
        """Let a commit return before it is on disk; the next one takes it along."""
        with self._database.errors():
            self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                yield
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")


def _rig_in(line: bytes) -> str | None:
    """Return the rig that a run_start names; None for another document, or none."""
    try:
        document = decode(line)
    except DocumentError:
        return None
    rig = document.body.get("rig")
    is_named = document.kind is Kind.RUN_START and isinstance(rig, str) and is_topic_part(rig)
    return rig if is_named else None
