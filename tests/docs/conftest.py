from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Workplace:
    """A user's folder with the examples in it, a HOME, a data folder and labctl on the PATH."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "share" / "labctl"

    def run(self, command: list[str]) -> str:
        """Return what a command prints; it must end well."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, block: str) -> str:
        """Return what a block of commands prints, stopped at the first that fails."""
        return self.run(["sh", "-e", "-c", block])

    def copied_to(self, folder: Path) -> Workplace:
        """Return a workplace of one's own that begins with what is in this one."""
        shutil.copytree(self.folder, folder)
        return Workplace(folder)

    def _environment(self) -> dict[str, str]:
        programs = Path(sys.executable).parent
        return {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / "share"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "LABCTL_DATA": str(self.data),
        }


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples")
    return Workplace(folder)
