"""The live store: one SQLite file, one row per document, readable while it is written.

A frame is one row whose points are a little-endian float64 blob, point after point, so that the
blobs of many frames join into one matrix. Every other document keeps its body as JSON. What
readers ask for most (points per stream, units, the watermark) is counted in the transaction that
adds the rows.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from labctl.documents import Document, Kind, encode, points_of
from labctl.errors import DocumentError, StoreError
from labctl.store.checksum import checksum
from labctl.store.database import Database
from labctl.store.ranges import missing_ranges
from labctl.store.schema import bring_up, digest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    from labctl.store.ranges import Range

STORE_NAME = "labctl.sqlite"
"""The store's file name in a data directory."""

_OPENING_TIMEOUT_S = 30.0
_BUSY_TIMEOUT_S = 0.1
"""How long a write waits for another process that has the file locked: others wait behind it."""

_LOG_BYTES = 64 << 20  # what is kept of the log that grew under a long reader
_LONGEST_PROBLEM = 500

_INSERT = (
    "INSERT INTO document (run, seq, kind, stream, n_points, body, names, points, checksum)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_COUNT = (
    "INSERT INTO stream (run, name, is_frames, first_seq, n_points, units)"
    " VALUES (?, ?, ?, ?, ?, NULL)"
    " ON CONFLICT DO UPDATE SET n_points = n_points + excluded.n_points,"
    " first_seq = min(first_seq, excluded.first_seq)"
)
_DESCRIPTOR = (
    "SELECT body FROM document WHERE run = ? AND stream = ? AND kind = 'descriptor'"
    " ORDER BY seq DESC LIMIT 1"
)
_UNITS = "SELECT units FROM stream WHERE run = ? AND name = ? AND is_frames"
_NOTE_UNITS = "UPDATE stream SET units = ? WHERE run = ? AND name = ? AND is_frames"
_QUARANTINE = (
    "INSERT INTO quarantine (topic, line, problem, digest) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET n_times = n_times + 1 RETURNING n_times"
)
_PROGRESS = """
SELECT watermark, last_seq, lost_seq,
    (SELECT body FROM document WHERE run = run.id AND seq = run.last_seq AND kind = 'run_stop')
FROM run WHERE run_id = ?
"""
_WITHOUT_PARQUET = """
SELECT run_id, last_seq FROM run
WHERE parquet_seq < last_seq AND watermark = last_seq AND EXISTS
    (SELECT 1 FROM document WHERE run = run.id AND seq = run.last_seq AND kind = 'run_stop')
ORDER BY id
"""


class Progress(NamedTuple):
    """How far a run is stored: gap-free up to the watermark, somehow up to `last_seq`.

    What is missing up to `lost_seq` exists nowhere any more; the watermark has passed it. `stop`
    is the body of the run_stop that closes it, as JSON; None while it is open.
    """

    watermark: int
    last_seq: int
    lost_seq: int
    stop: str | None

    @property
    def is_whole(self) -> bool:
        """Whether the run has ended and everything of it that exists is stored."""
        return self.stop is not None and self.watermark == self.last_seq


_NOTHING = Progress(-1, -1, -1, None)


class _Row(NamedTuple):
    """One document as the columns of its row, after run and seq."""

    kind: str
    stream: str
    n_points: int
    body: str
    names: str | None
    points: bytes | None


class SqliteStore:
    """The one writer of a store file; used from the thread that made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, "store", error=StoreError, timeout_s=_OPENING_TIMEOUT_S)
        self._connection = self._database.connection
        try:
            self._database.make_durable()
            with self._transaction():
                bring_up(self._connection, path)
            self._database.rows(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            self._database.rows(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000:.0f}")
            self._file = _identity(path)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._database.close()

    def check_file(self) -> None:
        """Raise StoreError unless the file under the store's name is still the one written to.

        One that was removed or replaced takes documents that nobody will ever see again.
        """
        if _identity(self.path) != self._file:
            raise StoreError(f"{self.path}: was removed or replaced while it is recorded into")

    def add(self, documents: Sequence[Document]) -> list[str]:
        """Store documents in one transaction; on disk when this returns.

        A document that is stored already is passed over. One that differs from what is stored
        under its run and seq goes to the quarantine: the first stays, neither is lost.

        Returns:
            What a person must hear of: a document quarantined, units that change within a stream.

        Raises:
            StoreError: nothing of it was stored (disk full, file locked or damaged).
            DocumentError: nothing was stored: a frame's columns are not of n_points each.
        """
        problems: list[str] = []
        with self._transaction():
            for run_id, group in groupby(sorted(documents, key=_place), attrgetter("run_id")):
                problems += self._add_to_run(run_id, list(group))
        return problems

    def give_up(self, run_id: str, up_to_seq: int) -> list[Range]:
        """Let the watermark pass what is missing of a run up to a seq, as it exists nowhere.

        Should it come all the same, it is stored.

        Returns:
            What was given up now; nothing beyond the last document stored.
        """
        with self._transaction():
            row = self._connection.execute(
                "SELECT id, watermark, min(last_seq, ?) FROM run WHERE run_id = ?",
                (up_to_seq, run_id),
            ).fetchone()
            if row is None:
                return []
            run, watermark, last = row
            stored = sorted(self._stored(run, watermark + 1, last))
            missing = missing_ranges([*stored, last + 1], first=watermark + 1)
            if missing:
                self._connection.execute("UPDATE run SET lost_seq = ? WHERE id = ?", (last, run))
                self._note_watermark(run)
        return missing

    def watermark(self, run_id: str) -> int:
        """Return the highest seq up to which everything is stored or given up; -1 for nothing."""
        rows = self._database.rows("SELECT watermark FROM run WHERE run_id = ?", (run_id,))
        return int(rows[0][0]) if rows else -1

    def quarantine(self, topic: str, line: bytes, problem: str) -> bool:
        """Keep a line that is no document, byte for byte; the same line again is counted.

        Returns:
            Whether it came for the first time.
        """
        with self._transaction():
            return self._quarantine(topic, line, problem)

    def progress(self, run_id: str) -> Progress:
        """Return how far a run is stored; that of a run of no documents if it is unknown."""
        rows = self._database.rows(_PROGRESS, (run_id,))
        return Progress(*rows[0]) if rows else _NOTHING

    def without_parquet(self) -> list[tuple[str, int]]:
        """Return the whole runs whose Parquet files are missing or old, each with its last seq."""
        return self._database.rows(_WITHOUT_PARQUET)

    def parquet_written(self, run_id: str, last_seq: int) -> None:
        """Note that a run's Parquet files are on disk and hold everything up to a seq."""
        with self._transaction():
            self._connection.execute(
                "UPDATE run SET parquet_seq = ? WHERE run_id = ?", (last_seq, run_id)
            )

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Commit what the body does, or nothing of it."""
        try:
            with self._database.transaction():
                yield
        except OverflowError as error:
            raise DocumentError(f"a number of more than 64 bits: {error}") from error

    def _quarantine(self, topic: str, line: bytes, problem: str) -> bool:
        row = (topic, line, problem[:_LONGEST_PROBLEM], digest(topic, line))
        return self._connection.execute(_QUARANTINE, row).fetchall() == [(1,)]

    def _add_to_run(self, run_id: str, documents: Sequence[Document]) -> list[str]:
        """Add documents of one run, in order of seq; return what a person must hear of."""
        run = self._run_key(run_id)
        stored = self._stored(run, documents[0].seq, documents[-1].seq)
        fresh: dict[int, Document] = {}
        problems: list[str] = []
        for document in documents:
            if document.seq in stored:
                problems += self._check_same(document, self._row_of(run, document.seq))
            elif document.seq in fresh:
                problems += self._check_same(document, _row(fresh[document.seq]))
            else:
                fresh[document.seq] = document
        if fresh:
            self._insert(run, list(fresh.values()))
        described = {each.stream for each in fresh.values() if each.kind is Kind.DESCRIPTOR}
        changed = [stream for stream in described if self._describe(run, stream)]
        return [*problems, *(f"run {run_id}: stream {name}: other units now" for name in changed)]

    def _describe(self, run: int, stream: str) -> bool:
        """Note the units of the descriptor that comes last; return whether others were noted."""
        place = (run, stream)
        (known,) = self._connection.execute(_UNITS, place).fetchone()
        (body,) = self._connection.execute(_DESCRIPTOR, place).fetchone()
        units = _json(orjson.loads(body)["units"])
        self._connection.execute(_NOTE_UNITS, (units, *place))
        return known not in (None, units)

    def _insert(self, run: int, documents: Sequence[Document]) -> None:
        """Insert documents that are not stored yet and count them."""
        self._connection.executemany(_INSERT, (_values(run, document) for document in documents))
        self._connection.executemany(_COUNT, ((run, *count) for count in _counts(documents)))
        self._connection.execute(
            "UPDATE run SET last_seq = max(last_seq, ?),"
            " stored_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') WHERE id = ?",
            (documents[-1].seq, run),
        )
        self._note_watermark(run)

    def _run_key(self, run_id: str) -> int:
        """Return the row id of a run, made now if it is new."""
        self._connection.execute("INSERT OR IGNORE INTO run (run_id) VALUES (?)", (run_id,))
        row = self._connection.execute("SELECT id FROM run WHERE run_id = ?", (run_id,))
        return int(row.fetchone()[0])

    def _stored(self, run: int, first_seq: int, last_seq: int) -> set[int]:
        """Return which seqs of a range are stored."""
        rows = self._connection.execute(
            "SELECT seq FROM document WHERE run = ? AND seq BETWEEN ? AND ?",
            (run, first_seq, last_seq),
        )
        return {seq for (seq,) in rows}

    def _row_of(self, run: int, seq: int) -> _Row:
        """Return a stored row."""
        row = self._connection.execute(
            "SELECT kind, stream, n_points, body, names, points FROM document"
            " WHERE run = ? AND seq = ?",
            (run, seq),
        )
        return _Row(*row.fetchone())

    def _check_same(self, document: Document, stored: _Row) -> list[str]:
        """Quarantine a document that differs from the one stored in its place; tell the first."""
        if _row(document) == stored:
            return []
        problem = f"run {document.run_id}: seq {document.seq} holds another document already"
        topic = clash_topic(document.run_id)
        return [problem] if self._quarantine(topic, encode(document), problem) else []

    def _note_watermark(self, run: int) -> None:
        """Walk the watermark forward from where it stood, or from what is lost, to the next gap."""
        (watermark,) = self._connection.execute(
            "SELECT max(watermark, lost_seq) FROM run WHERE id = ?", (run,)
        ).fetchone()
        rows = self._connection.execute(
            "SELECT seq FROM document WHERE run = ? AND seq > ? ORDER BY seq", (run, watermark)
        )
        for (seq,) in rows:
            if seq != watermark + 1:
                break
            watermark = seq
        self._connection.execute("UPDATE run SET watermark = ? WHERE id = ?", (watermark, run))


def clash_topic(run_id: str) -> str:
    """Return under which topic the quarantine holds documents whose place was taken."""
    return f"run/{run_id}"


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from any other, whatever its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _place(document: Document) -> tuple[str, int]:
    """Return where a document belongs: its run and its seq."""
    return document.run_id, document.seq


def _row(document: Document) -> _Row:
    """Return a document as the columns of its row."""
    body = document.body
    names = points = None
    if document.kind is Kind.EVENT_PAGE:
        names = _json(list(body["columns"]))
        points = _packed(document)
        body = {name: value for name, value in body.items() if name != "columns"}
    return _Row(
        kind=document.kind.value,
        stream=document.stream,
        n_points=points_of(document),
        body=_json(body),
        names=names,
        points=points,
    )


def _values(run: int, document: Document) -> tuple[object, ...]:
    """Return a document as a whole row, its checksum included."""
    row = _row(document)
    seal = checksum(
        document.run_id, document.seq, row.kind, row.stream, row.body, row.names, row.points
    )
    return run, document.seq, *row, seal


def _packed(frame: Document) -> bytes:
    """Return a frame's points as little-endian float64, point after point."""
    columns, n_points = frame.body["columns"], points_of(frame)
    if n_points < 0 or not columns or any(len(column) != n_points for column in columns.values()):
        sizes = {name: len(column) for name, column in columns.items()}
        raise DocumentError(
            f"run {frame.run_id}: seq {frame.seq}: expected columns of {n_points}, got {sizes}"
        )
    values = chain.from_iterable(zip(*columns.values(), strict=True))
    return struct.pack(f"<{n_points * len(columns)}d", *values)


def _json(value: object) -> str:
    """Return a value as JSON text; what is nested too deeply to be written is no document."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError as error:
        raise DocumentError(f"cannot be stored as JSON: {error}") from error


def _counts(documents: Iterable[Document]) -> list[tuple[object, ...]]:
    """Return what documents, in order of seq, add to the counts of each of their streams."""
    counts: dict[tuple[str, bool], list[Any]] = {}
    for document in documents:
        if document.kind in (Kind.RUN_START, Kind.RUN_STOP):
            continue
        key = document.stream, document.kind is not Kind.EVENT
        count = counts.setdefault(key, [document.seq, 0])
        count[1] += points_of(document)
    return [(*key, *count) for key, count in counts.items()]
