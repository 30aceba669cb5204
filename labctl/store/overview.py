"""What a store holds of each run and what is missing, for whoever looks after its recorder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.store.lease import Lessee, lessee_of
from labctl.store.reading import connect, open_store
from labctl.store.schema import version_of
from labctl.store.verification import missing_ranges

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_RUNS = """
SELECT run.id, run.run_id, watermark, last_seq, {stored_at}, kind
FROM run LEFT JOIN document ON document.run = run.id AND document.seq = run.last_seq
ORDER BY run.id DESC
"""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """How far a run is stored.

    `stored_at` is when something of it was stored last, "" if that is not known; `missing` the
    first and last seq of each range that is not there below `last_seq`.
    """

    run_id: str
    is_open: bool
    watermark: int
    last_seq: int
    last_kind: str
    stored_at: str
    missing: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class QuarantinedLine:
    """A line that is no document, byte for byte, and how often it came."""

    line: bytes
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
    """Return what a store, or the one in a data folder, holds.

    Raises:
        BadInputError: there is none.
        StoreError: the file is no store.
    """
    file = open_store(path).path
    with connect(file) as connection:
        runs = _runs(connection)
        quarantine = connection.execute(
            "SELECT line, topic, problem, n_times, first_at FROM quarantine ORDER BY id"
        ).fetchall()
    parts = [file.with_name(file.name + suffix) for suffix in ("", "-wal")]
    return Overview(
        path=file,
        n_bytes=sum(part.stat().st_size for part in parts if part.exists()),
        recorder=lessee_of(file),
        runs=runs,
        quarantine=[QuarantinedLine(*row) for row in quarantine],
    )


def _runs(connection: sqlite3.Connection) -> list[RecordedRun]:
    stored_at = "stored_at" if version_of(connection) > 1 else "''"
    rows = connection.execute(_RUNS.format(stored_at=stored_at)).fetchall()
    return [
        RecordedRun(
            run_id=run_id,
            is_open=kind != "run_stop",
            watermark=watermark,
            last_seq=last_seq,
            last_kind=kind or "",
            stored_at=at,
            missing=_missing(connection, run) if watermark < last_seq else [],
        )
        for run, run_id, watermark, last_seq, at, kind in rows
    ]


def _missing(connection: sqlite3.Connection, run: int) -> list[tuple[int, int]]:
    rows = connection.execute("SELECT seq FROM document WHERE run = ? ORDER BY seq", (run,))
    return missing_ranges(seq for (seq,) in rows)
