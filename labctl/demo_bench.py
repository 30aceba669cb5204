"""The demonstration's benches: complete files of a rig whose instruments are simulated."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("alocl", "licl", "lialcl4")
_FILES = ("rig.toml", "sample.toml", "world.toml", "parameters.toml")
# They are data of a package that the core must not import.
_PACKAGE = "labctl_simulators.demo"


def write_bench(name: str, folder: Path) -> Path:
    """Write one bench's files where a person can look at them and start from them."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in _FILES:
        with as_file(files(_PACKAGE) / name / file) as path:
            (folder / file).write_bytes(path.read_bytes())
    return folder
