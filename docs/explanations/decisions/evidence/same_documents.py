"""Runs one protocol twice on simulated instruments and compares what was stored, byte for byte.

python docs/explanations/decisions/evidence/same_documents.py
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from labctl import assembly
from labctl.config import read_toml

_BENCH = Path(__file__).parents[3] / "examples" / "simulated-bench"
_DOCUMENTS = "SELECT seq, kind, stream, body, names, points FROM document ORDER BY seq"


def _run(data: Path) -> tuple[list[tuple[object, ...]], float, float]:
    """Return the documents of a run, its simulated hours and its seconds on the clock."""
    began_s = perf_counter()
    report = assembly.run(
        assembly.RunRequest(
            protocol="temperature_eis",
            rig=_BENCH / "rig.toml",
            sample=_BENCH / "sample.toml",
            parameters=read_toml(_BENCH / "parameters.toml"),
            data=data,
            is_simulated=True,
            run_id="same",
            epoch=datetime(2026, 1, 1, tzinfo=UTC),
        ),
        lambda _: None,
    )
    wall_s = perf_counter() - began_s
    with closing(sqlite3.connect(report.store)) as store:
        return store.execute(_DOCUMENTS).fetchall(), report.duration_s / 3600.0, wall_s


def main() -> None:
    """Print how many documents there are and how many differ."""
    with tempfile.TemporaryDirectory() as folder:
        first, hours, wall_s = _run(Path(folder, "first"))
        second, _, _ = _run(Path(folder, "second"))
    differing = sum(one != other for one, other in zip(first, second, strict=True))
    sys.stdout.write(
        f"{len(first)} documents, {differing} differ; {hours:.2f} simulated h in {wall_s:.1f} s\n"
    )


if __name__ == "__main__":
    main()
