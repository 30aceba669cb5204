"""The same frames through what other frameworks record with, each as its documentation shows.

None of them waits for the disk. Needs `uv run --no-default-groups --group bench`.
"""
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
# The group is not installed where types are checked.

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.stream_parts import COLUMNS, documents
from labctl.documents import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def peers(*, n_frames: int, n_points: int) -> dict[str, float]:
    """Return the points/s of each framework.

    Raises:
        ImportError: one is not installed.
    """
    frames = [
        document.body["columns"]
        for document in documents(n_frames, n_points)
        if document.kind is Kind.EVENT_PAGE
    ]
    return {
        "pymeasure Results, CSV": _rate(_pymeasure, frames),
        "QCoDeS DataSaver, SQLite": _rate(_qcodes, frames),
        "bluesky and tiled": _rate(_bluesky, frames[:50]),
    }


def _rate(record: Callable[[Any, Path], None], frames: Sequence[dict[str, list[float]]]) -> float:
    with tempfile.TemporaryDirectory() as name:
        began_s = time.perf_counter()
        record(frames, Path(name))
        spent_s = time.perf_counter() - began_s
    return sum(len(frame[COLUMNS[0]]) for frame in frames) / spent_s


def _pymeasure(frames: Sequence[dict[str, list[float]]], folder: Path) -> None:
    """A worker's records, one a point, through its Recorder into a CSV file."""
    from pymeasure.experiment import Procedure, Results
    from pymeasure.experiment.listeners import Recorder

    class Sweep(Procedure):
        DATA_COLUMNS: ClassVar = list(COLUMNS)

    records: Queue[Any] = Queue()
    recorder = Recorder(Results(Sweep(), str(folder / "results.csv")), records)
    recorder.start()
    for frame in frames:
        for values in zip(*frame.values(), strict=True):
            records.put(dict(zip(frame, values, strict=True)))
    recorder.stop()


def _qcodes(frames: Sequence[dict[str, list[float]]], folder: Path) -> None:
    """One add_result a frame, arrays for each parameter, as for a hardware-timed sweep."""
    from qcodes.dataset import Measurement, initialise_or_create_database_at, new_experiment

    initialise_or_create_database_at(folder / "qcodes.db")
    measurement = Measurement(exp=new_experiment("benchmark", "pellet"))
    for name in COLUMNS:
        measurement.register_custom_parameter(name, paramtype="numeric")
    with measurement.run() as saver:
        for frame in frames:
            saver.add_result(*((name, np.array(column)) for name, column in frame.items()))


def _bluesky(frames: Sequence[dict[str, list[float]]], folder: Path) -> None:
    """A plan's events, one a point, through a TiledWriter into a local catalogue."""
    from bluesky import RunEngine
    from bluesky import plan_stubs as bps
    from bluesky import preprocessors as bpp
    from bluesky.callbacks.tiled_writer import TiledWriter
    from tiled.client import from_uri
    from tiled.server import SimpleTiledServer

    class Sweep:
        name, parent = "sweep", None
        point: Mapping[str, float]

        def describe(self) -> dict[str, Any]:
            key = {"source": "frame", "dtype": "number", "shape": []}
            return dict.fromkeys(COLUMNS, key)

        def read(self) -> dict[str, Any]:
            return {name: {"value": v, "timestamp": time.time()} for name, v in self.point.items()}  # noqa: TID251

        def read_configuration(self) -> dict[str, Any]:
            return {}

        def describe_configuration(self) -> dict[str, Any]:
            return {}

    sweep = Sweep()

    @bpp.run_decorator()
    def plan() -> Any:
        for frame in frames:
            for values in zip(*frame.values(), strict=True):
                sweep.point = dict(zip(frame, values, strict=True))
                yield from bps.trigger_and_read([sweep])

    with SimpleTiledServer(directory=str(folder)) as server:
        engine = RunEngine({})
        engine.subscribe(TiledWriter(from_uri(server.uri)))
        engine(plan())
