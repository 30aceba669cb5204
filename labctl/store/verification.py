"""Is what is stored sound: every document there, as it came, and counted right?

All is read from one snapshot, as bytes: in a damaged file text need not be text.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from labctl.store.checksum import checksum
from labctl.store.reading import connect, open_store
from labctl.store.schema import version_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from labctl.store.reading import Store

_N_SHOWN = 5
_BYTES_PER_NUMBER = 8


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


class _Reading:
    """What the documents of one run say, gathered row by row."""

    def __init__(self, run_id: str, *, has_checksums: bool) -> None:
        self.damaged: list[int] = []
        self.miscounted: list[int] = []
        self.seqs: list[int] = []
        self.points: Counter[str] = Counter()
        self.stop: dict[str, Any] | None = None
        self._run_id = run_id
        self._has_checksums = has_checksums

    def take(self, row: Any) -> None:
        """Take the next document."""
        seq, kind, stream, n_points, body, names, points, stored = row
        self.seqs.append(seq)
        self.stop = None
        try:
            texts = kind.decode(), stream.decode(), body.decode(), names and names.decode()
            is_sound = checksum(self._run_id, seq, *texts, points) == stored
            if kind == b"run_stop":
                self.stop = orjson.loads(body)
            held = _points_held(names, points) if kind == b"event_page" else 0
        except (ValueError, TypeError, AttributeError):  # not text, not JSON, not of that type
            self.damaged.append(seq)
            return
        if self._has_checksums and not is_sound:
            self.damaged.append(seq)
        if held != n_points:
            self.miscounted.append(seq)
        if kind == b"event_page":
            self.points[stream.decode()] += held


def verify(path: Path, run: str | None = None) -> Findings:
    """Return what is found of a store's runs, or of one, and of the file as a whole.

    Args:
        path: The store's file, or its data folder.
        run: A run's id, the beginning of one, or "latest"; None for all.

    Raises:
        BadInputError: no such store or run.
        StoreError: the file is no store.
    """
    store = open_store(path)
    wanted = None if run is None else _run_id(store, run)
    with connect(store.path) as connection:
        has_checksums = version_of(connection) > 1
        problems = _problems_of_file(connection)
        try:
            runs = _runs(connection, wanted, has_checksums=has_checksums)
        except sqlite3.DatabaseError as error:
            return Findings(has_checksums, [*problems, f"cannot be read to its end: {error}"], [])
    return Findings(has_checksums, problems, runs)


def _run_id(store: Store, run: str) -> str:
    """Return the whole id of a run; a whole one is not looked up among runs that may be damaged."""
    with connect(store.path) as connection:
        if connection.execute("SELECT 1 FROM run WHERE run_id = ?", (run,)).fetchone():
            return run
    return store.run(run).run_id


def _problems_of_file(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite itself finds wrong with the file."""
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(20)")]
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [f"SQLite: {error}"]
    found = [f"SQLite: {line}" for line in lines if line != "ok"]
    return [*found, f"{len(orphans)} rows belong to no run"] if orphans else found


def _runs(
    connection: sqlite3.Connection, wanted: str | None, *, has_checksums: bool
) -> list[RunFindings]:
    connection.text_factory = bytes
    rows = connection.execute(
        "SELECT id, run_id, watermark, last_seq FROM run"
        " WHERE ? IS NULL OR run_id = ? ORDER BY id DESC",
        (wanted, wanted),
    ).fetchall()
    return [_run(connection, row, has_checksums=has_checksums) for row in rows]


def _run(connection: sqlite3.Connection, row: Any, *, has_checksums: bool) -> RunFindings:
    """Return what is found of one run."""
    run, run_id, watermark, last_seq = row
    name = run_id.decode(errors="replace")
    reading = _Reading(name, has_checksums=has_checksums)
    sealed = "checksum" if has_checksums else "NULL"
    for document in connection.execute(
        f"SELECT seq, kind, stream, n_points, body, names, points, {sealed}"  # noqa: S608
        " FROM document WHERE run = ? ORDER BY seq",
        (run,),
    ):
        reading.take(document)
    counted = connection.execute(
        "SELECT name, n_points FROM stream WHERE run = ? AND is_frames", (run,)
    )
    counts = {stream.decode(errors="replace"): n_points for stream, n_points in counted}
    return RunFindings(
        run_id=name,
        is_open=reading.stop is None,
        n_documents=len(reading.seqs),
        n_points=reading.points.total(),
        problems=[
            *_gaps(reading.seqs, watermark, last_seq),
            *_listed("checksum wrong", reading.damaged),
            *_listed("number of points is not what the frame holds", reading.miscounted),
            *_differences("counted", counts, reading.points),
            *_differences(
                "measured", (reading.stop or {}).get("actual_points", {}), reading.points
            ),
        ],
    )


def _points_held(names: bytes | None, points: bytes | None) -> int:
    """Return how many points a frame's blob holds; -1 if it is no whole number of them."""
    width = len(orjson.loads(names or b"[]")) * _BYTES_PER_NUMBER
    n_points, rest = divmod(len(points or b""), width) if width else (0, 1)
    return -1 if rest else n_points


def missing_ranges(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each range that is missing from 0 to the last of some seqs.

    Args:
        seqs: In rising order.
    """
    missing: list[tuple[int, int]] = []
    expected = 0
    for seq in seqs:
        if seq > expected:
            missing.append((expected, seq - 1))
        expected = seq + 1
    return missing


def _gaps(seqs: list[int], watermark: int, last_seq: int) -> list[str]:
    """Return what is wrong with the numbers of a run's documents."""
    missing = missing_ranges(seqs)
    problems = [f"missing: document {shown_ranges(missing)}"] if missing else []
    end = seqs[-1] if seqs else -1
    reached = missing[0][0] - 1 if missing else end
    if (watermark, last_seq) != (reached, end):
        problems.append(
            f"noted as stored up to {watermark} and {last_seq}, found up to {reached} and {end}"
        )
    return problems


def shown_ranges(ranges: list[tuple[int, int]]) -> str:
    """Return ranges of numbers as a person writes them, the first few of them."""
    shown = ", ".join(
        str(first) if first == last else f"{first} to {last}" for first, last in ranges[:_N_SHOWN]
    )
    return f"{shown} and more" if len(ranges) > _N_SHOWN else shown


def _listed(problem: str, seqs: list[int]) -> list[str]:
    """Return a line that names the first few documents with a problem; none if there are none."""
    if not seqs:
        return []
    shown = ", ".join(map(str, seqs[:_N_SHOWN]))
    more = f" and {len(seqs) - _N_SHOWN} more" if len(seqs) > _N_SHOWN else ""
    return [f"{problem}: document {shown}{more}"]


def _differences(word: str, counts: dict[str, int], points: Counter[str]) -> Iterable[str]:
    """Return a line for each stream whose count is not what its frames hold."""
    return [
        f"stream {name}: {count} points {word}, {points[name]} stored"
        for name, count in counts.items()
        if points[name] != count
    ]
