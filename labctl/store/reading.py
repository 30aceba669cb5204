"""What users of the data hold: runs, their streams, how they ended.

A store is read through short read-only connections, one for each question: there is nothing to
close, nothing is locked, and a run that is being recorded shows what is stored so far.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from labctl.errors import BadInputError, StoreError
from labctl.store.holder import holder_of
from labctl.store.outcome import Ending, Outcome, judge_ending
from labctl.store.schema import check_version, version_of
from labctl.store.sqlite import STORE_NAME

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

LATEST = "latest"
"""Stands for the id of the run that began last."""

_RUNS = """
SELECT id, run_id,
    CASE WHEN watermark = last_seq AND {lost_seq} < 0 THEN 0
         ELSE last_seq + 1 - (SELECT count(*) FROM document WHERE run = run.id) END AS n_missing,
    (SELECT body FROM document
     WHERE run = run.id AND kind = 'run_start' ORDER BY seq LIMIT 1) AS start,
    (SELECT body FROM document
     WHERE run = run.id AND seq = run.last_seq AND kind = 'run_stop') AS stop
FROM run
WHERE :run_id IS NULL OR run_id = :run_id
ORDER BY id DESC
"""
_PART = (
    "SELECT seq, n_points, names, points FROM document"
    " WHERE run = :run AND stream = :stream AND kind = 'event_page' AND seq > :after"
    " ORDER BY seq LIMIT :n_frames"
)
_MAKES = (
    "SELECT names FROM document WHERE run = :run AND stream = :stream AND kind = 'event_page'"
    " GROUP BY names ORDER BY min(seq)"
)
_FRAMES_AT_ONCE, _ALL = 2000, -1
_POINTS = "SELECT run, name, n_points FROM stream WHERE is_frames"
_N_SHOWN = 5
_LONG_AGO = "0001-01-01T00:00:00+00:00"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line about a run.

    `start_time` is UTC ISO 8601, "" while the run_start is not stored; `duration_s` is None for a
    run without a run_stop; `campaign` has the id, the name and the entry, None without a campaign.
    """

    run_id: str
    protocol: str
    sample: str
    start_time: str
    duration_s: float | None
    outcome: Outcome
    n_points: int
    campaign: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Header:
    """What the store says about a run as a whole, at one instant."""

    run_id: str
    start: dict[str, Any] | None
    stop: dict[str, Any] | None
    ending: Ending
    n_points: int


def default_data() -> Path:
    """Return where data are kept unless somebody says otherwise.

    That is what LABCTL_DATA names, else the folder `labctl` in the user's data folder.
    """
    from platformdirs import user_data_path

    named = os.environ.get("LABCTL_DATA")
    return Path(named) if named else user_data_path("labctl", appauthor=False)


def open_store(path: str | Path | None = None) -> Store:
    """Return the store in a data directory, or in an .sqlite file; by default in `default_data`.

    Raises:
        BadInputError: there is none.
        StoreError: the file is no store, or one of another version.
    """
    file = (default_data() if path is None else Path(path)).expanduser()
    if file.is_dir():
        file = file / STORE_NAME
    if not file.is_file():
        raise BadInputError(f"{file}: no such store")
    with connect(file) as connection:
        check_version(connection, file)
    return Store(file)


class Store:
    """All runs of one store file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def runs(self) -> list[RunSummary]:
        """Return a line about each run, the newest first."""
        with connect(self.path) as connection:
            headers = _headers(connection, self.path)
        return [_summary(header) for header in headers]

    def run(self, run_id: str = LATEST) -> StoredRun:
        """Return one run by its id, the beginning of its id, or "latest".

        Raises:
            BadInputError: no run, or more than one, has such an id; names the latest few.
        """
        ids = [summary.run_id for summary in self.runs()]
        if run_id == LATEST and ids:
            return StoredRun(self.path, ids[0])
        found = [run_id] if run_id in ids else [name for name in ids if name.startswith(run_id)]
        if len(found) == 1:
            return StoredRun(self.path, found[0])
        problem = f"{len(found)} runs begin with" if found else "no run"
        shown = ", ".join((found or ids)[:_N_SHOWN]) or "none"
        raise BadInputError(
            f"{self.path}: {problem} {run_id!r}; {'they are' if found else 'the latest'}: {shown}"
        )


class StoredRun:
    """One run as far as it is stored; every question is answered from the file, now."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"StoredRun({self.run_id!r})"

    @property
    def start(self) -> dict[str, Any]:
        """The run_start: protocol, parameters, sample, rig.

        Raises:
            StoreError: it is not stored (yet).
        """
        start = self._header().start
        if start is None:
            raise StoreError(f"{self.path}: the run_start of run {self.run_id} is not stored")
        return start

    @property
    def stop(self) -> dict[str, Any] | None:
        """The run_stop that closes the run; None while it is open."""
        return self._header().stop

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        return self._header().ending.outcome

    @property
    def ending(self) -> Ending:
        """How the run ended, with the sentence that says why."""
        return self._header().ending

    @property
    def summary(self) -> RunSummary:
        """One line about the run."""
        return _summary(self._header())

    def streams(self) -> list[str]:
        """Return the names of the streams of frames, in the order in which they began."""
        return self._stream_names(is_frames=True)

    def event_streams(self) -> list[str]:
        """Return the names of the streams of events, in the order in which they began."""
        return self._stream_names(is_frames=False)

    def units(self, stream: str) -> dict[str, str]:
        """Return the unit of each column of a stream, as its descriptor gives them."""
        rows = self._ask(
            "SELECT units FROM stream WHERE run = :run AND name = :stream AND is_frames",
            stream=stream,
        )
        if not rows:
            raise BadInputError(
                f"run {self.run_id} has no frames in stream {stream!r}; it has {self.streams()}"
            )
        return orjson.loads(rows[0][0] or "{}")

    def columns(self, stream: str) -> dict[str, npt.NDArray[np.float64]]:
        """Return a stream's columns, each (n_points,), and `seq`: the document of each point.

        A column that a frame lacks is NaN there.
        """
        names = list(self.columns_of(stream))
        return _columns(self._ask(_PART, stream=stream, after=-1, n_frames=_ALL), names)

    def column_parts(self, stream: str) -> Generator[dict[str, npt.NDArray[Any]]]:
        """Give a stream's columns as `columns` returns them, some thousand frames at a time."""
        names = list(self.columns_of(stream))
        after = -1
        while frames := self._ask(_PART, stream=stream, after=after, n_frames=_FRAMES_AT_ONCE):
            after = frames[-1][0]
            yield _columns(frames, names)

    def columns_of(self, stream: str) -> dict[str, str]:
        """Return the columns that `columns` and `column_parts` give, `seq` first, with units."""
        units = self.units(stream)
        makes = [orjson.loads(names) for (names,) in self._ask(_MAKES, stream=stream)]
        return {name: units.get(name) or "" for name in chain(("seq",), units, *makes)}

    def frames(self, stream: str) -> pd.DataFrame:
        """Return a stream as a table: `seq` and its columns, units in `attrs["units"]`."""
        import pandas as pd

        frame = pd.DataFrame(self.columns(stream))
        frame.attrs["units"] = self.units(stream)
        return frame

    def events(self, stream: str | None = None) -> list[dict[str, Any]]:
        """Return the events of a stream, or of all, each with its seq, stream, time and data."""
        rows = self._ask(
            "SELECT seq, body FROM document WHERE run = :run AND kind = 'event'"
            " AND (:stream IS NULL OR stream = :stream) ORDER BY seq",
            stream=stream,
        )
        return [{"seq": seq, **orjson.loads(body)} for seq, body in rows]

    def _stream_names(self, *, is_frames: bool) -> list[str]:
        rows = self._ask(
            "SELECT name FROM stream WHERE run = :run AND is_frames = :is_frames"
            " ORDER BY first_seq",
            is_frames=is_frames,
        )
        return [name for (name,) in rows]

    def _ask(self, query: str, **parameters: object) -> list[Any]:
        """Return the rows of a query about this run."""
        with connect(self.path) as connection:
            run = connection.execute("SELECT id FROM run WHERE run_id = ?", (self.run_id,))
            (key,) = run.fetchone()
            return connection.execute(query, {"run": key, **parameters}).fetchall()

    def _header(self) -> _Header:
        with connect(self.path) as connection:
            return _headers(connection, self.path, self.run_id)[0]


@contextmanager
def connect(path: Path) -> Generator[sqlite3.Connection]:
    """Open a store for reading, one snapshot of it."""
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{_mode(path)}", uri=True, isolation_level=None
        )
        with closing(connection):
            connection.execute("BEGIN")
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite may quote what is damaged
        raise StoreError(f"{path}: {error}") from error


def _mode(path: Path) -> str:
    """Return how to open a store for reading.

    SQLite's readers share a small file beside it. Where that cannot be made, a store that nobody
    has open (it has no -wal) is read as what cannot change.
    """
    is_closed = not path.with_name(f"{path.name}-wal").exists()
    return "immutable=1" if is_closed and not os.access(path.parent, os.W_OK) else "mode=ro"


def _headers(
    connection: sqlite3.Connection, path: Path, run_id: str | None = None
) -> list[_Header]:
    """Return what is known of each run, or of one, the newest first."""
    holder = holder_of(path.parent)
    running = holder.run_id if holder else ""
    points: dict[int, dict[str, int]] = {}
    for run, name, n_points in connection.execute(_POINTS):
        points.setdefault(run, {})[name] = n_points
    lost_seq = "lost_seq" if version_of(connection) > 2 else "-1"
    rows = connection.execute(_RUNS.format(lost_seq=lost_seq), {"run_id": run_id})
    headers = [_header(row, points.get(row[0], {}), running) for row in rows]
    return sorted(headers, key=_began_at, reverse=True)


def _header(row: tuple[Any, ...], points: dict[str, int], running: str) -> _Header:
    """Return what one row and the counts of its streams say.

    `running` is the run that goes on, or the campaign that it belongs to.
    """
    _, run_id, n_missing, start, stop = row
    stop = orjson.loads(stop) if stop else None
    about = orjson.loads(start) if start else None
    campaign = ((about or {}).get("campaign") or {}).get("id")
    return _Header(
        run_id=run_id,
        start=about,
        stop=stop,
        ending=judge_ending(
            stop,
            stored_points=points,
            n_missing=n_missing,
            is_running=stop is None and running in (run_id, campaign),
        ),
        n_points=sum(points.values()),
    )


def _summary(header: _Header) -> RunSummary:
    start, stop = header.start or {}, header.stop
    return RunSummary(
        run_id=header.run_id,
        protocol=str(start.get("protocol", "")),
        sample=str(start.get("sample", {}).get("name", "")),
        start_time=_start_time(header),
        duration_s=_seconds(start["time"], stop["time"]) if start and stop else None,
        outcome=header.ending.outcome,
        n_points=header.n_points,
        campaign=start.get("campaign"),
    )


def _start_time(header: _Header) -> str:
    """Return when a run began; "" if that is not stored."""
    return str(header.start["time"]) if header.start else ""


def _began_at(header: _Header) -> datetime:
    """Return when a run began, for sorting: long ago if that is not stored."""
    return datetime.fromisoformat(_start_time(header) or _LONG_AGO)


def _seconds(begin: str, end: str) -> float:
    """Return the seconds between two timestamps."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _columns(
    frames: Iterable[tuple[int, int, str, bytes]], wanted: list[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns of frames: those of one make are read as one matrix."""
    import numpy as np

    parts: list[dict[str, npt.NDArray[Any]]] = []
    for names_json, group in groupby(frames, key=lambda frame: frame[2]):
        seqs, sizes, _, blobs = zip(*group, strict=True)
        names: list[str] = orjson.loads(names_json)
        points = np.frombuffer(b"".join(blobs), dtype="<f8").reshape(-1, len(names))
        parts.append({"seq": np.repeat(seqs, sizes), **dict(zip(names, points.T, strict=True))})
    return {name: _joined(name, parts) for name in wanted}


def _joined(name: str, parts: list[dict[str, npt.NDArray[Any]]]) -> npt.NDArray[Any]:
    """Return one column of all parts, in its own memory; NaN where a part lacks it."""
    import numpy as np

    if not parts:
        return np.empty(0, dtype=np.int64 if name == "seq" else np.float64)
    return np.concatenate(
        [part[name] if name in part else np.full(len(part["seq"]), np.nan) for part in parts]
    )
