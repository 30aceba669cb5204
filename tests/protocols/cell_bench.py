"""The example bench of whole cells, its files changed for one test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.testing import simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.store.reading import StoredRun

BENCH = Path(__file__).parents[2] / "docs" / "examples" / "cell-bench"
WINDOW = {
    "lower_potential": "2.6 V",
    "upper_potential": "4.8 V",
    "potential_scale": "Li+/Li",
}


def on_cell(
    protocol: str,
    parameters: Mapping[str, Any],
    *,
    folder: Path,
    world: Mapping[str, str] | None = None,
    rig: Mapping[str, str] | None = None,
) -> StoredRun:
    """Run a protocol on the example's cell; `world` and `rig` replace pieces of the files' text."""
    bench = folder / "cell-bench"
    shutil.copytree(BENCH, bench)
    _change(bench / "world.toml", world or {})
    _change(bench / "rig.toml", rig or {})
    return simulate(
        protocol,
        folder=folder,
        parameters=parameters,
        rig=bench / "rig.toml",
        sample=bench / "sample.toml",
    )


def _change(path: Path, changes: Mapping[str, str]) -> None:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def results(run: StoredRun, stream: str) -> list[Any]:
    """Return what a run has recorded in a stream."""
    return [event["data"] for event in run.events(stream)]
