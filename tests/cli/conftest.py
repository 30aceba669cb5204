"""The command line as a user calls it, with a home of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from labctl.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

LABCTL = Path(sys.executable).parent / "labctl"


@dataclass(frozen=True)
class Said:
    """What a command said, and the code it ended with."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


def environment(home: Path, data: Path) -> dict[str, str]:
    """Return an environment in which labctl knows of no user but this one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    return {**kept, "HOME": str(home), "LABCTL_DATA": str(data)}


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Starts `labctl ...` as a process of its own in a folder, which is its home too."""

    def started(
        folder: Path, *arguments: str, data: Path | None = None, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(LABCTL), *arguments],
            cwd=folder,
            env=environment(folder, data or folder / "data"),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    return started


@pytest.fixture(scope="session")
def command(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Said]:
    """Calls `labctl ...` as a process of its own and waits for its end."""

    def called(folder: Path, *arguments: str) -> Said:
        with start(folder, *arguments) as process:
            out, err = process.communicate(timeout=90)
        return Said(process.returncode, out, err)

    return called


@pytest.fixture
def labctl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Calls the entrance of the command line in this process: the same, but for its start."""
    monkeypatch.setattr(os, "environ", environment(tmp_path, tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        assert isinstance(code, int)
        return Said(code, *capsys.readouterr())

    return called


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """Finds ports that nobody listens on."""

    def found(count: int) -> list[int]:
        probes = [socket.socket() for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [int(probe.getsockname()[1]) for probe in probes]
        for probe in probes:
            probe.close()
        return ports

    return found
