"""A run's streams as files that other programs read: CSV and Parquet.

CSV: one file per stream. Two comment lines come first, the run and the units, then the header,
then one line per point; `pandas.read_csv(file, comment="#")` reads it. Numbers have as many digits
as bring the same float64 back, a missing one is `nan`. What is not columns (run_start, run_stop,
events) goes to one JSON file beside them.

Parquet: one file per stream, the unit in each field's metadata, run_start, run_stop and outcome as
JSON in the schema's; the events are one more file, a line each, with their data as JSON.

A name that a file system may not take is changed, and then ends with a hash of what it was: two
streams never share a file. Streams are read and written some thousand frames at a time.

A file appears under its name when it is whole and on disk, or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from labctl.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from labctl.store.reading import StoredRun


_EVENTS = "events"
_ROWS_AT_ONCE = 1 << 20  # a row group of Parquet at most, where frames are large


class GivenUpError(StoreError):
    """Writing files was given up before they were whole."""


def export_csv(run: StoredRun, directory: Path) -> list[Path]:
    """Write each stream as `<run_id>_<stream>.csv`, the rest as `<run_id>.json`.

    Returns:
        The files written, the JSON file first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    about = directory / f"{_safe(run.run_id)}.json"
    with _whole_file(about) as part:
        content = {**_about(run), "events": run.events()}
        part.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return [about, *(_write_csv(run, stream, directory) for stream in run.streams())]


def export_parquet(
    run: StoredRun, directory: Path, *, is_wanted: Callable[[], bool] = lambda: True
) -> list[Path]:
    """Write each stream as `<run_id>_<stream>.parquet`, events as `<run_id>_events.parquet`.

    Args:
        run: What to write.
        directory: Where to.
        is_wanted: Asked again and again while it writes; no ends that.

    Returns:
        The files written, that of the events last, if there are any.

    Raises:
        GivenUpError: it was not wanted any more; of the file under way nothing is left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    about = {f"labctl.{name}": orjson.dumps(value) for name, value in _about(run).items()}

    def go_on() -> None:
        if not is_wanted():
            raise GivenUpError(f"run {run.run_id}: writing its files was given up")

    files = [_write_parquet(run, stream, directory, about, go_on) for stream in run.streams()]
    if run.event_streams():
        files.append(_write_events(run, directory, about))
    return files


def _about(run: StoredRun) -> dict[str, Any]:
    """Return everything about a run that is neither a column nor an event."""
    ending = run.ending
    return {
        "run_id": run.run_id,
        "outcome": ending.outcome.value,
        "ending": ending.sentence,
        "run_start": run.start,
        "run_stop": run.stop,
    }


def _write_csv(run: StoredRun, stream: str, directory: Path) -> Path:
    """Write one stream as CSV; return the file."""
    path = directory / f"{_stem(run, stream)}.csv"
    units = run.columns_of(stream)
    listed = ", ".join(f"{name}={unit}" for name, unit in units.items())
    with _whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# labctl run {run.run_id}, {run.outcome}; stream {stream}\n")
        file.write(f"# units: {listed}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(units)
        for columns in run.column_parts(stream):
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return path


def _write_parquet(
    run: StoredRun,
    stream: str,
    directory: Path,
    about: dict[str, bytes],
    go_on: Callable[[], None],
) -> Path:
    """Write one stream as Parquet; return the file. `go_on` is called between its parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    go_on()
    path = directory / f"{_stem(run, stream)}.parquet"
    fields = [
        pa.field(name, pa.int64() if name == "seq" else pa.float64(), metadata={"unit": unit})
        for name, unit in run.columns_of(stream).items()
    ]
    schema = pa.schema(fields, metadata={**about, "labctl.stream": stream})
    with _whole_file(path) as part, pq.ParquetWriter(part, schema) as writer:
        for columns in run.column_parts(stream):
            table = _table(columns, schema)
            for begin in range(0, table.num_rows, _ROWS_AT_ONCE):
                go_on()
                writer.write_table(table.slice(begin, _ROWS_AT_ONCE))
    return path


def _table(columns: Mapping[str, npt.NDArray[Any]], schema: Any) -> Any:
    """Return columns as a table of pyarrow's."""
    import pyarrow as pa

    # From their bytes: pyarrow would import pandas to find out that these are none of its columns.
    arrays = [
        pa.Array.from_buffers(field.type, column.size, [None, pa.py_buffer(column.tobytes())])
        for field, column in zip(schema, columns.values(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _write_events(run: StoredRun, directory: Path, about: dict[str, bytes]) -> Path:
    """Write the events as Parquet, one line each; return the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / f"{_safe(run.run_id)}_{_EVENTS}.parquet"
    types = {"seq": pa.int64(), "stream": pa.string(), "time": pa.string(), "data": pa.string()}
    schema = pa.schema(list(types.items()), metadata=about)
    lines = [{**event, "data": orjson.dumps(event["data"]).decode()} for event in run.events()]
    with _whole_file(path) as part:
        pq.write_table(pa.Table.from_pylist(lines, schema=schema), part)
    return path


def _stem(run: StoredRun, stream: str) -> str:
    """Return the name of a stream's file, without its ending."""
    own = _safe(stream, also="_")
    return f"{_safe(run.run_id)}_{own}" + (_hash(stream) if own == _EVENTS else "")


@contextmanager
def _whole_file(path: Path) -> Generator[Path]:
    """Give a temporary file to write; it takes its name once it is on disk, or vanishes."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _safe(name: str, also: str = "") -> str:
    """Return a name that every file system takes; one that differs tells of what.

    No _ in a run's, lest one run's stream be taken for another run's.
    """
    safe = re.sub(rf"[^A-Za-z0-9.{also}-]+", "-", name).strip(".-") or "unnamed"
    return safe if safe == name else safe + _hash(name)


def _hash(name: str) -> str:
    return f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to disk, where the system lets one ask for that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
