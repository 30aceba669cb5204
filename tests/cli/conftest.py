"""The command line as a user calls it, with a home of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest

from labctl.cli.main import main
from labctl.errors import LabctlError
from labctl.store.reading import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

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


class Bench:
    """A folder with a rig whose instruments `labctl sim` serves on this machine."""

    SPEED = "25"
    """Deadlines are in the instruments' time: at 25 times the speed of life an abort that may take
    5 s has 0.2 s, which a busy machine keeps.
    """
    # Where the chamber stands already: nothing to wait for but the settling itself.
    QUICK: ClassVar = {
        "temperatures": '["25 degC"]',
        "ramp_rate": "5 K/min",
        "frequency_end": "100 Hz",
        "points_per_decade": "4",
        "settle_band": "0.5 K",
        "settle_slope": "0.5 K/min",
        "settle_window": "30 s",
        "probe_interval": "10 s",
        "probe_tolerance": "2 %",
    }
    # A spectrum long enough to be hit by a signal.
    LONG: ClassVar = {**QUICK, "frequency_end": "1 Hz", "points_per_decade": "100"}
    ADDRESSES: ClassVar = {
        "potentiostat": "ASRL/dev/ttyACM0::INSTR",
        "stage": "TCPIP::192.168.0.12::7777::SOCKET",
    }

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder = folder
        self.ports = ports

    def connect(self, ports: Mapping[str, int]) -> None:
        """Let the rig file lead to the instruments by these ports."""
        path = self.folder / "rig.toml"
        rig = path.read_text()
        for name, old in self.ADDRESSES.items():
            rig = rig.replace(old, self.address(ports[name]))
        path.write_text(rig)

    @staticmethod
    def address(port: int) -> str:
        return f"TCPIP::127.0.0.1::{port}::SOCKET"

    def run(self, settings: Mapping[str, str], *more: str) -> list[str]:
        """Return the arguments of a run."""
        given = [f"--set={key}={value}" for key, value in settings.items()]
        files = ("--rig", "rig.toml", "--sample", "sample.toml")
        return ["run", "temperature_eis", *files, *given, *more]

    def ask(self, name: str, message: str, n_lines: int = 1) -> list[str]:
        """Return what an instrument answers to a client of its own."""
        with self.line_to(name) as ask:
            return ask(message, n_lines)

    @contextmanager
    def line_to(self, name: str) -> Iterator[Callable[..., list[str]]]:
        """Give a function that sends a message and returns all lines that come back."""
        with socket.create_connection(("127.0.0.1", self.ports[name]), timeout=5.0) as line:
            yield partial(_answers, line)

    def heater_range(self) -> str:
        (answer,) = self.ask("stage", "RANGE? 1")
        return answer

    def cell_is_on(self) -> bool:
        """Ask an idle potentiostat to change its mode, which it refuses while its cell is on."""
        echo, answer = self.ask("potentiostat", "e\nset_pgstat_mode 2\n", 2)[:2]
        assert echo == "e", "it is not idle"
        if answer:
            self._wait_until_it_hears_again()
        return answer != ""

    def _wait_until_it_hears_again(self) -> None:
        """Send empty lines until one is answered: after an error it is deaf for 50 ms."""
        port = self.ports["potentiostat"]
        with socket.create_connection(("127.0.0.1", port), timeout=0.1) as line:
            for _ in range(50):
                line.sendall(b"\n")
                with suppress(TimeoutError):
                    line.recv(100)
                    return

    @contextmanager
    def measuring(
        self,
        start: Callable[..., subprocess.Popen[str]],
        arguments: Sequence[str],
        data: Path | None = None,
    ) -> Iterator[subprocess.Popen[str]]:
        """Give a run, in a process of its own, that is in the middle of its spectrum."""
        data = data or self.folder / "data"
        with start(self.folder, *arguments, data=data) as process:
            try:
                while self.points_stored(data) < 10:
                    with pytest.raises(subprocess.TimeoutExpired):  # it goes on
                        process.wait(0.1)
                yield process
            finally:
                process.kill()

    @staticmethod
    def points_stored(data: Path) -> int:
        """Return how many points of spectra a folder's newest run has."""
        try:
            return len(open_store(data).run().frames("eis"))
        except LabctlError:  # no store, no run or no point yet
            return 0


def _answers(line: socket.socket, message: str, n_lines: int = 1) -> list[str]:
    """Send a message; return all lines that come back, so many at least."""
    line.sendall(message.encode() + b"\n")
    reply = b""
    while reply.count(b"\n") < n_lines:
        some = line.recv(4096)
        assert some, "the instrument has hung up"
        reply += some
    return reply.decode().splitlines()


@pytest.fixture(scope="module")
def served_bench(
    tmp_path_factory: pytest.TempPathFactory,
    write_bench: Callable[..., Path],
    quick_world: dict[str, str],
    start: Callable[..., subprocess.Popen[str]],
) -> Iterator[Callable[[], AbstractContextManager[Bench]]]:
    """Serves a bench by `labctl sim` in a process of its own, which ends in good order.

    With ports the rig file names them beforehand; without, it is to be connected later.
    """

    @contextmanager
    def served(ports: Mapping[str, int] | None = None) -> Iterator[Bench]:
        bench = Bench(write_bench(tmp_path_factory.mktemp("bench"), world=quick_world), {})
        if ports is not None:
            bench.connect(ports)
        with start(bench.folder, "sim", "rig.toml", "--speed", Bench.SPEED) as simulation:
            try:
                assert simulation.stdout is not None
                lines = [simulation.stdout.readline().split() for _ in Bench.ADDRESSES]
                bench.ports.update({name: int(at.split("::")[2]) for name, at in lines})
                yield bench
                simulation.send_signal(signal.SIGINT)
                assert simulation.wait(timeout=10) == 0
            finally:
                simulation.kill()

    return served


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
