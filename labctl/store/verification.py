"""Is what is stored sound: every document there, as it came, and counted right?

Each run is read from one snapshot, as bytes: in a damaged file text need not be text. What is
counted of it is counted again, from the documents.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from labctl.documents import Kind
from labctl.errors import BadInputError, StoreError
from labctl.store.checksum import checksum
from labctl.store.ranges import missing_ranges, shown_ranges, split_ranges
from labctl.store.reading import Store, connect, open_store
from labctl.store.schema import VERSION, differing_tables, version_of
from labctl.store.sqlite import clash_topic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_N_SHOWN = 5
_BYTES_PER_NUMBER = 8
_TIME = rb"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_TYPES = {
    True: b"text text integer text text blob integer",
    False: b"text text integer text null null integer",
}
"""SQLite's types of a document's columns, by whether it is a frame."""

_DOCUMENTS = """
SELECT seq, kind, stream, n_points, body, names, points, {checksum},
    typeof(kind) || ' ' || typeof(stream) || ' ' || typeof(n_points) || ' ' || typeof(body)
    || ' ' || typeof(names) || ' ' || typeof(points) || ' ' || typeof({checksum})
FROM document WHERE run = ? ORDER BY seq
"""
_NOTED = {1: "-1, -1, ''", 2: "parquet_seq, -1, stored_at", 3: "parquet_seq, lost_seq, stored_at"}


class _Noted(NamedTuple):
    """What a run's row says of it; `problems` is what is wrong with the row itself."""

    run_id: bytes
    watermark: int
    last_seq: int
    lost_seq: int
    problems: list[str]


@dataclass(frozen=True, slots=True)
class RunFindings:
    """What was found of a run; `problems` is empty if it is sound.

    A run without a run_stop is open: it is interrupted or still running, and sound all the same.
    """

    run_id: str
    is_open: bool
    n_documents: int
    n_points: int
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found in a store; `problems` is about the file as a whole."""

    has_checksums: bool
    problems: list[str]
    runs: list[RunFindings]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not any(run.problems for run in self.runs)


@dataclass(slots=True)
class _Stream:
    """What is known of a stream, from its documents or from its row."""

    first_seq: int
    n_points: int = 0
    units: bytes | None = None


_Streams = dict[tuple[str, bool], _Stream]
"""The streams of a run, by name and by whether they hold frames."""


class _Reading:
    """What the documents of one run say, gathered row by row."""

    def __init__(self, run_id: str, *, has_checksums: bool) -> None:
        self.damaged: list[object] = []
        self.miscounted: list[int] = []
        self.redescribed: list[int] = []
        self.seqs: list[int] = []
        self.streams: _Streams = {}
        self.stop: dict[str, Any] = {}
        self.is_open = True
        self._run_id = run_id
        self._has_checksums = has_checksums

    @property
    def points(self) -> dict[str, int]:
        """How many points the frames of each stream hold."""
        return {
            name: each.n_points for (name, is_frames), each in self.streams.items() if is_frames
        }

    def take(self, row: Any) -> None:
        """Take the next document."""
        seq, kind, stream, n_points, body, names, points, stored, types = row
        if not isinstance(seq, int):
            self.damaged.append(seq)
            return
        self.seqs.append(seq)
        self.is_open = kind != b"run_stop"
        self.stop = {}
        try:
            texts = kind.decode(), stream.decode(), body.decode(), names and names.decode()
            is_sound = checksum(self._run_id, seq, *texts, points) == stored
            if types != _TYPES[kind == b"event_page"] or (self._has_checksums and not is_sound):
                self.damaged.append(seq)
            held = _points_held(names, points) if kind == b"event_page" else 0
            self._count(seq, Kind(texts[0]), texts[1], held, orjson.loads(body))
        except (ValueError, TypeError, AttributeError, KeyError):  # no text, no JSON, no document
            if self.damaged[-1:] != [seq]:
                self.damaged.append(seq)
            return
        if held != n_points:
            self.miscounted.append(seq)

    def _count(self, seq: int, kind: Kind, stream: str, held: int, body: dict[str, Any]) -> None:
        """Count a document where it belongs."""
        if kind is Kind.RUN_STOP:
            self.stop = dict(body)
        if kind in (Kind.RUN_START, Kind.RUN_STOP):
            return
        found = self.streams.setdefault((stream, kind is not Kind.EVENT), _Stream(seq))
        found.n_points += held
        if kind is Kind.DESCRIPTOR:
            units = orjson.dumps(body["units"])
            if found.units not in (None, units):
                self.redescribed.append(seq)
            found.units = units


def verify(path: Path, run: str | None = None) -> Findings:
    """Return what is found of a store's runs, or of one, and of the file as a whole.

    Args:
        path: The store's file, or its data folder.
        run: A run's id, the beginning of one, or "latest"; None for all.

    Raises:
        BadInputError: no such store or run.
        StoreError: the file is no store.
    """
    file = open_store(path).path
    with connect(file) as connection:
        has_checksums = version_of(connection) > 1
        problems = _problems_of_file(connection)
        try:
            wanted = _wanted(connection, file, run)
        except sqlite3.DatabaseError as error:
            return Findings(has_checksums, [*problems, f"cannot be read to its end: {error}"], [])
    runs: list[RunFindings] = []
    for key in wanted:
        # A snapshot each: one of them all would keep a recorder's log growing meanwhile.
        with connect(file) as connection:
            try:
                runs.append(_run(connection, key, has_checksums=has_checksums))
            except sqlite3.DatabaseError as error:
                problems.append(f"cannot be read to its end: {error}")
                break
    return Findings(has_checksums, problems, runs)


def _wanted(connection: sqlite3.Connection, file: Path, run: str | None) -> list[int]:
    """Return the keys of the runs to look at, the newest first; a damaged one hides no other."""
    connection.text_factory = _text
    rows = connection.execute("SELECT id, run_id FROM run ORDER BY id DESC").fetchall()
    if run is None:
        return [key for key, _ in rows]
    found = [key for key, run_id in rows if run_id == run]
    try:
        name = None if found else Store(file).run(run).run_id
    except BadInputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{file}: a damaged run is in the way of finding {run!r}") from error
    return found or [key for key, run_id in rows if run_id == name]


def _text(content: bytes) -> str:
    """Return text that may be damaged."""
    return content.decode(errors="replace")


def _problems_of_file(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite itself finds wrong with the file, and tables that are not as made."""
    connection.text_factory = _text
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(20)")]
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        is_current = version_of(connection) == VERSION
        tables = differing_tables(connection) if is_current else []
    except sqlite3.DatabaseError as error:
        return [f"SQLite: {error}"]
    found = [f"SQLite: {line}" for line in lines if line != "ok"]
    found += [f"{len(orphans)} rows belong to no run"] if orphans else []
    return found + [f"table {name}: not as this version makes it" for name in tables]


def _run(connection: sqlite3.Connection, run: int, *, has_checksums: bool) -> RunFindings:
    """Return what is found of one run."""
    connection.text_factory = bytes
    version = version_of(connection)
    noted = _noted(connection, run, version)
    name = _text(noted.run_id)
    reading = _Reading(name, has_checksums=has_checksums)
    sealed = "checksum" if has_checksums else "0"
    for document in connection.execute(_DOCUMENTS.format(checksum=sealed), (run,)):
        reading.take(document)
    actual = reading.stop.get("actual_points")
    return RunFindings(
        run_id=name,
        is_open=reading.is_open,
        n_documents=len(reading.seqs),
        n_points=sum(reading.points.values()),
        problems=[
            *noted.problems,
            *_gaps(reading.seqs, noted),
            *_listed("checksum wrong", reading.damaged),
            *_listed("number of points is not what the frame holds", reading.miscounted),
            *_listed("other units for the same stream", reading.redescribed),
            *([] if reading.damaged else _stream_problems(connection, run, reading.streams)),
            *_differences(actual if isinstance(actual, dict) else {}, reading.points),
            *_clashes(connection, name),
        ],
    )


def _noted(connection: sqlite3.Connection, run: int, version: int) -> _Noted:
    """Return what the run's own row says."""
    row = connection.execute(
        f"SELECT run_id, watermark, last_seq, {_NOTED[min(version, VERSION)]}"  # noqa: S608
        " FROM run WHERE id = ?",
        (run,),
    ).fetchone()
    if row is None:  # where an index is damaged
        return _Noted(b"%d" % run, -1, -1, -1, ["its row is not found"])
    run_id, *seqs, stored_at = row
    if not isinstance(run_id, bytes) or not all(isinstance(seq, int) for seq in seqs):
        return _Noted(str(run_id).encode(), -1, -1, -1, ["its row is damaged"])
    watermark, last_seq, parquet_seq, lost_seq = seqs
    problems = [] if parquet_seq <= last_seq and _is_time(stored_at) else ["its row is damaged"]
    return _Noted(run_id, watermark, last_seq, lost_seq, problems)


def _is_time(stored_at: object) -> bool:
    """Return whether something is when a document was stored, or nothing."""
    return isinstance(stored_at, bytes) and re.fullmatch(_TIME, stored_at) is not None


def _stream_problems(connection: sqlite3.Connection, run: int, streams: _Streams) -> list[str]:
    """Return a line for each stream whose row is not what its documents say."""
    rows = connection.execute(
        "SELECT CASE typeof(name) WHEN 'text' THEN name END, is_frames, first_seq, n_points,"
        " CASE typeof(units) WHEN 'blob' THEN 'a blob' ELSE units END FROM stream WHERE run = ?",
        (run,),
    )
    noted: dict[tuple[Any, Any], Sequence[Any]] = {
        (_text(name) if isinstance(name, bytes) else name, is_frames): rest
        for name, is_frames, *rest in map(tuple, rows)
    }
    problems: list[str] = []
    for name, is_frames in [*streams, *(key for key in noted if key not in streams)]:
        found, said = streams.get((name, is_frames)), noted.get((name, is_frames))
        problems += _stream_differences(f"stream {name}", found, said)
    return problems


def _stream_differences(
    stream: str, found: _Stream | None, said: Sequence[Any] | None
) -> list[str]:
    if said is None:
        return [f"{stream}: not noted"]
    if found is None:
        return [f"{stream}: noted, and no document of it is stored"]
    first_seq, n_points, units = said
    problems = [f"{stream}: {n_points} points counted, {found.n_points} stored"]
    problems = problems if n_points != found.n_points else []
    if first_seq != found.first_seq:
        problems.append(f"{stream}: noted from document {first_seq}, found from {found.first_seq}")
    if units != found.units:
        problems.append(f"{stream}: the units noted are not those of its descriptor")
    return problems


def _clashes(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return a line if another document came under a seq of this run."""
    (n_lines,) = connection.execute(
        "SELECT count(*) FROM quarantine WHERE topic = ?", (clash_topic(run_id),)
    ).fetchone()
    said = "other documents came under numbers that were taken (labctl recorder quarantine)"
    return [f"{n_lines} {said}"] if n_lines else []


def _points_held(names: bytes | None, points: bytes | None) -> int:
    """Return how many points a frame's blob holds; -1 if it is no whole number of them."""
    width = len(orjson.loads(names or b"[]")) * _BYTES_PER_NUMBER
    n_points, rest = divmod(len(points or b""), width) if width else (0, 1)
    return -1 if rest else n_points


def _gaps(seqs: list[int], noted: _Noted) -> list[str]:
    """Return what is wrong with the numbers of a run's documents."""
    lost, missing = split_ranges(missing_ranges(seqs), noted.lost_seq)
    problems = [f"lost, nowhere any more: document {shown_ranges(lost)}"] if lost else []
    problems += [f"missing: document {shown_ranges(missing)}"] if missing else []
    end = seqs[-1] if seqs else -1
    reached = missing[0][0] - 1 if missing else end
    if (noted.watermark, noted.last_seq) != (reached, end):
        problems.append(
            f"noted as stored up to {noted.watermark} and {noted.last_seq},"
            f" found up to {reached} and {end}"
        )
    if noted.lost_seq > end:
        problems.append(f"noted as lost up to {noted.lost_seq}, found up to {end}")
    return problems


def _listed(problem: str, seqs: Sequence[object]) -> list[str]:
    """Return a line that names the first few documents with a problem; none if there are none."""
    if not seqs:
        return []
    shown = ", ".join(map(str, seqs[:_N_SHOWN]))
    more = f" and {len(seqs) - _N_SHOWN} more" if len(seqs) > _N_SHOWN else ""
    return [f"{problem}: document {shown}{more}"]


def _differences(measured: dict[str, Any], points: dict[str, int]) -> list[str]:
    """Return a line for each stream that holds not as many points as were measured."""
    return [
        f"stream {name}: {count} points measured, {points.get(name, 0)} stored"
        for name, count in measured.items()
        if points.get(name, 0) != count
    ]
