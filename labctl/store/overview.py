"""What a store holds of each run and what is missing, for whoever looks after its recorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labctl.store.lease import Lessee, lessee_of
from labctl.store.ranges import missing_ranges, split_ranges
from labctl.store.reading import connect, open_store
from labctl.store.schema import version_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from labctl.store.ranges import Range

_N_BYTES = 200
_RUNS = """
SELECT run.id, run.run_id, watermark, last_seq, {lost_seq}, {stored_at}, kind
FROM run LEFT JOIN document ON document.run = run.id AND document.seq = run.last_seq
ORDER BY run.id DESC
"""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """How far a run is stored.

    `stored_at` is when something of it was stored last, "" if that is not known; `missing` and
    `lost` the first and last seq of each range that is not there below `last_seq`. What is lost
    exists nowhere any more; what is missing may come yet.
    """

    run_id: str
    is_open: bool
    watermark: int
    last_seq: int
    last_kind: str
    stored_at: str
    missing: list[Range]
    lost: list[Range]


@dataclass(frozen=True, slots=True)
class QuarantinedLine:
    """A line that is no document, how often it came, and how it begins or all of it."""

    line: bytes
    n_bytes: int
    topic: str
    problem: str
    n_times: int
    first_at: str


@dataclass(frozen=True, slots=True)
class Overview:
    """A store and who records into it; the newest run first."""

    path: Path
    n_bytes: int
    recorder: Lessee | None
    runs: list[RecordedRun]
    quarantine: list[QuarantinedLine]


def overview(path: Path) -> Overview:
    """Return what a store, or the one in a data folder, holds; of a quarantined line how it begins.

    Raises:
        BadInputError: there is none.
        StoreError: the file is no store.
    """
    file = open_store(path).path
    with connect(file) as connection:
        runs = _runs(connection)
        quarantine = list(_quarantine(connection, _N_BYTES))
    parts = [file.with_name(file.name + suffix) for suffix in ("", "-wal")]
    return Overview(
        path=file,
        n_bytes=sum(part.stat().st_size for part in parts if part.exists()),
        recorder=lessee_of(file),
        runs=runs,
        quarantine=quarantine,
    )


def quarantined(path: Path) -> Generator[QuarantinedLine]:
    """Give the quarantined lines of a store, byte for byte, each read when asked for.

    Raises:
        BadInputError: there is no such store.
        StoreError: the file is no store.
    """
    with connect(open_store(path).path) as connection:
        yield from _quarantine(connection)


def _quarantine(
    connection: sqlite3.Connection, n_bytes: int | None = None
) -> Iterator[QuarantinedLine]:
    begin = "line" if n_bytes is None else f"substr(line, 1, {n_bytes})"
    rows = connection.execute(
        f"SELECT {begin}, length(line), topic, problem, n_times, first_at"  # noqa: S608
        " FROM quarantine ORDER BY id"
    )
    return (QuarantinedLine(*row) for row in rows)


def _runs(connection: sqlite3.Connection) -> list[RecordedRun]:
    version = version_of(connection)
    stored_at = "stored_at" if version > 1 else "''"
    lost_seq = "lost_seq" if version > 2 else "-1"
    rows = connection.execute(_RUNS.format(stored_at=stored_at, lost_seq=lost_seq)).fetchall()
    return [_run(connection, row) for row in rows]


def _run(connection: sqlite3.Connection, row: Any) -> RecordedRun:
    run, run_id, watermark, last_seq, lost_seq, stored_at, kind = row
    holes: list[Range] = []
    if watermark < last_seq or lost_seq >= 0:
        rows = connection.execute("SELECT seq FROM document WHERE run = ? ORDER BY seq", (run,))
        holes = missing_ranges(seq for (seq,) in rows)
    lost, missing = split_ranges(holes, lost_seq)
    return RecordedRun(
        run_id=run_id,
        is_open=kind != "run_stop",
        watermark=watermark,
        last_seq=last_seq,
        last_kind=kind or "",
        stored_at=stored_at,
        missing=missing,
        lost=lost,
    )
