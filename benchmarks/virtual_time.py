"""How fast a day of experiment runs in virtual time, and where the time goes.

    python -m benchmarks.virtual_time [--quick] [--json]

A 12-temperature temperature_eis run with 60 points a spectrum on the demonstration's pellet: once
through everything (outbox, broker, recorder, store), once into a sink that only keeps documents.
In the second run loop and bus threads strictly take turns, so the main thread's own time is the
engine and the fits, and the rest is drivers and simulators. Recorded documents are then encoded and
stored once more, and recorded spectra fitted once more, to tell these shares apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl import assembly
from labctl.analysis.impedance import fit_impedance
from labctl.documents import Document, Kind, Room, encode
from labctl.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from labctl.run.executor import Ending

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 100


class KeepingSink:
    """Keeps documents in memory and does nothing with them."""

    def __init__(self) -> None:
        self.documents: list[Document] = []

    async def put(self, document: Document) -> None:
        """Keep one document."""
        self.documents.append(document)

    async def flush(self) -> None:
        """Have nothing to do."""

    @property
    def room(self) -> Room:
        """As much room as there is memory."""
        return Room.PLENTY

    async def room_again(self) -> None:
        """Have nothing to wait for."""


def _request(folder: Path, *, n_temperatures: int) -> assembly.RunRequest:
    """Return the run to measure: 5 K steps from 25 degC on."""
    with as_file(files("labctl_simulators.demo") / "alocl") as demo:
        for name in ("rig.toml", "world.toml", "sample.toml"):
            (folder / name).write_bytes((demo / name).read_bytes())
    last = 25 + 5 * (n_temperatures - 1)
    return assembly.RunRequest(
        protocol="temperature_eis",
        rig=folder / "rig.toml",
        sample=folder / "sample.toml",
        parameters={
            "temperatures": {"start": "25 degC", "stop": f"{last} degC", "step": "5 K"},
            "frequency_end": "1 Hz",
            "points_per_decade": 11,
        },
        data=folder / "data",
        is_simulated=True,
        run_id="benchmark",
        epoch=_EPOCH,
    )


def _whole(request: assembly.RunRequest) -> tuple[float, assembly.RunReport]:
    """Return the wall time of a run through everything, and its report."""
    began_s = perf_counter()
    report = assembly.run(request, lambda _: None)
    return perf_counter() - began_s, report


def _without_stream(request: assembly.RunRequest) -> tuple[float, float, list[Document], Ending]:
    """Return wall time, main thread's time, documents and ending of a run into memory."""
    sink = KeepingSink()
    began_s, began_thread_s = perf_counter(), thread_time()
    ending = assembly.run_into(request, sink)
    return perf_counter() - began_s, thread_time() - began_thread_s, sink.documents, ending


def _encoding_s(documents: list[Document]) -> float:
    began_s = perf_counter()
    for document in documents:
        encode(document)
    return perf_counter() - began_s


def _storing_s(documents: list[Document], folder: Path) -> float:
    store = SqliteStore(folder / "benchmark.sqlite")
    began_s = perf_counter()
    for at in range(0, len(documents), _BATCH):
        store.add(documents[at : at + _BATCH])
    spent_s = perf_counter() - began_s
    store.close()
    return spent_s


def _fitting_s(documents: list[Document]) -> float:
    """Return the time to fit every spectrum once more."""
    points: dict[float, list[tuple[float, complex]]] = {}
    for document in documents:
        if document.kind is Kind.EVENT_PAGE and document.stream == "eis":
            columns = document.body["columns"]
            z_ohm = complex(columns["z_real_ohm"][0], columns["z_imag_ohm"][0])
            points.setdefault(columns["step"][0], []).append((columns["frequency_hz"][0], z_ohm))
    began_s = perf_counter()
    for spectrum in points.values():
        frequency_hz, z_ohm = zip(*spectrum, strict=True)
        fit_impedance(np.array(frequency_hz), np.array(z_ohm))
    return perf_counter() - began_s


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the figures, times in s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = _request(folder, n_temperatures=3 if quick else 12)
        warm = replace(request, data=folder / "warm", run_id="warm-up")
        assembly.run(
            replace(warm, parameters={**warm.parameters, "temperatures": ["25 degC"]}), _idle
        )
        whole_s, report = _whole(request)
        bare_s, main_s, documents, ending = _without_stream(request)
        fitting_s = _fitting_s(documents)
        hours = report.duration_s / 3600
        return {
            "simulated_hours": hours,
            "documents": len(documents),
            "eis_points": ending.actual_points["eis"],
            "wall_s": whole_s,
            "simulated_hours_per_s": hours / whole_s,
            "times_faster_than_life": report.duration_s / whole_s,
            "split_s": {
                "engine": main_s - fitting_s,
                "fits": fitting_s,
                "drivers and simulators": bare_s - main_s,
                "encoding": _encoding_s(documents),
                "storing": _storing_s(documents, folder),
                "stream and store, as waited for": whole_s - bare_s,
            },
        }


def _idle(_: object) -> None:
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three temperatures, not twelve")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(quick=options.quick)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        if name != "split_s":
            print(f"{name:28}{value:12.4g}")
    for name, seconds in figures["split_s"].items():
        print(f"  {name:32}{seconds:8.3f} s")


if __name__ == "__main__":
    main()
