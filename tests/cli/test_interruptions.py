"""What interrupts a real process: signals at any moment, and lines that are cut under it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import labctl as package
from labctl.errors import LabctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.realtime

SPEED = "25"
SETTINGS = {
    "temperatures": '["25 degC"]',
    "ramp_rate": "5 K/min",
    "frequency_end": "1 Hz",
    "points_per_decade": "100",
    "settle_band": "0.5 K",
    "settle_slope": "0.5 K/min",
    "settle_window": "30 s",
    "probe_interval": "10 s",
    "probe_tolerance": "2 %",
}
# Two temperatures, so that there is something to show after the first.
SHORT = (
    '--set=temperatures=["25 degC", "26 degC"]',
    "--set=points_per_decade=4",
    "--set=frequency_end=100 Hz",
)
RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing resets the connection


def address(port: int) -> str:
    return f"TCPIP::127.0.0.1::{port}::SOCKET"


class Wire:
    """A TCP line to an instrument that a test can cut, and that tells of whoever takes it."""

    def __init__(self, port: int) -> None:
        self.on_connect: Callable[[], None] = lambda: None
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection that there is; another one may be made at once."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD)
            end.close()

    def remove(self) -> None:
        """Cut the line for good."""
        # A thread that waits in accept keeps a closed socket listening.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.on_connect()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=(source, sink), daemon=True).start()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way until either end is closed."""
    with suppress(OSError):
        while some := source.recv(4096):
            sink.sendall(some)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Bench:
    """A folder with a rig whose instruments are served here, at the ends of two wires."""

    folder: Path
    ports: dict[str, int]
    wires: dict[str, Wire]

    def run(self, *more: str) -> list[str]:
        """Return the arguments of a run."""
        settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
        files = ("--rig", "rig.toml", "--sample", "sample.toml")
        return ["run", "temperature_eis", *files, "--speed", SPEED, *settings, *more]

    def ask(self, name: str, message: str, n_lines: int = 1) -> list[str]:
        """Return what an instrument answers to a client of its own."""
        with socket.create_connection(("127.0.0.1", self.ports[name]), timeout=5.0) as line:
            line.sendall(message.encode() + b"\n")
            reply = b""
            while reply.count(b"\n") < n_lines:
                some = line.recv(4096)
                assert some, "the instrument has hung up"
                reply += some
        return reply.decode().splitlines()

    def leave_heater_on(self) -> None:
        assert self.ask("stage", "SETP 1,350;RANGE 1,3;RANGE? 1") == ["3"]

    def heater_is_off(self) -> bool:
        return self.ask("stage", "RANGE? 1") == ["0"]

    def cell_is_off(self) -> bool:
        """Ask the potentiostat to change its mode, which it refuses while its cell is on."""
        echo, answer = self.ask("potentiostat", "e\nset_pgstat_mode 2\n", 2)[:2]
        return (echo, answer) == ("e", "")


@pytest.fixture
def bench(
    tmp_path: Path,
    write_bench: Callable[..., Path],
    quick_world: dict[str, str],
    start: Callable[..., subprocess.Popen[str]],
) -> Iterator[Bench]:
    folder = write_bench(tmp_path / "bench", world=quick_world)
    with start(folder, "sim", "rig.toml", "--speed", SPEED, "--json") as simulation:
        try:
            ports = {name: int(where.split("::")[2]) for name, where in told(simulation).items()}
            wires = {name: Wire(port) for name, port in ports.items()}
            rig = (folder / "rig.toml").read_text()
            for name, old in (
                ("potentiostat", "ASRL/dev/ttyACM0::INSTR"),
                ("stage", "TCPIP::192.168.0.12::7777::SOCKET"),
            ):
                rig = rig.replace(old, address(wires[name].port))
            (folder / "rig.toml").write_text(rig)
            yield Bench(folder, ports, wires)
            for wire in wires.values():
                wire.remove()
        finally:
            simulation.terminate()


def told(process: subprocess.Popen[str]) -> Any:
    """Return the JSON that a process which goes on has printed."""
    assert process.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        text += process.stdout.readline()
    return json.loads(text)


@contextmanager
def measuring(
    bench: Bench, start: Callable[..., subprocess.Popen[str]], *more: str
) -> Iterator[subprocess.Popen[str]]:
    """Give a run, in a process of its own, that is in the middle of its spectrum."""
    data = bench.folder / "data"
    with start(bench.folder, *bench.run(*more), data=data) as process:
        try:
            while points_stored(data) < 10:
                with pytest.raises(subprocess.TimeoutExpired):  # it goes on
                    process.wait(0.1)
            yield process
        finally:
            process.kill()


def points_stored(data: Path) -> int:
    try:
        return len(package.open_store(data).run().frames("eis"))
    except LabctlError:  # no store, no run or no point yet
        return 0


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("potentiostat", signal.SIGTERM),
        ("potentiostat", signal.SIGINT),
        ("stage", signal.SIGHUP),
        ("stage", signal.SIGQUIT),
    ],
)
def test_a_signal_while_the_rig_is_opened_leaves_it_safe_and_says_so(
    bench: Bench, start, name: str, number: signal.Signals
) -> None:
    bench.leave_heater_on()
    with start(bench.folder, *bench.run()) as process:
        bench.wires[name].on_connect = lambda: process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert "labctl: error: stopped before the run began; the rig is safe: outputs off\n" in err
    assert "Traceback" not in err
    assert bench.heater_is_off()


def test_signals_without_end_do_not_keep_a_run_from_saying_that_the_rig_is_safe(
    bench: Bench, start
) -> None:
    with measuring(bench, start, "--json") as process:
        is_over = threading.Event()

        def insist() -> None:
            while not is_over.wait(0.01) and process.poll() is None:
                process.send_signal(signal.SIGQUIT)

        insisting = threading.Thread(target=insist)
        insisting.start()
        assert process.stdout is not None
        said = told(process)
        is_over.set()
        insisting.join()
        process.communicate(timeout=30)
    assert said["reason"] == "aborted"
    assert said["unsafe"] == {}
    assert bench.heater_is_off()
    assert bench.cell_is_off()


def test_a_run_that_shall_outlive_its_terminal_does(bench: Bench, start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with measuring(bench, start, "--json") as process:
            process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=30)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert json.loads(out)["reason"] == "aborted"


@pytest.mark.parametrize("name", ["potentiostat", "stage"])
def test_an_instrument_whose_connection_is_cut_is_made_safe_on_a_new_one(
    bench: Bench, start, name: str
) -> None:
    with measuring(bench, start, "--json") as process:
        bench.wires[name].cut()
        out, err = process.communicate(timeout=60)
    said = json.loads(out)
    assert (said["reason"], said["unsafe"]) == ("failed", {})
    assert said["message"].startswith(f"{name}: ")
    assert f"{name}: no connection at" in err
    assert "making it safe on a new line" in err
    assert bench.heater_is_off()
    assert bench.cell_is_off()


def test_an_instrument_that_stays_away_is_named_not_safe(bench: Bench, start) -> None:
    with measuring(bench, start, "--json") as process:
        bench.wires["stage"].remove()
        out, err = process.communicate(timeout=60)
    said = json.loads(out)
    assert said["reason"] == "failed"
    assert list(said["unsafe"]) == ["stage"]
    assert "NOT SAFE: stage: no connection at" in err
    assert bench.cell_is_off()


def test_a_run_whose_progress_nobody_reads_any_more_goes_on(bench: Bench, start) -> None:
    with start(bench.folder, *bench.run(*SHORT)) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        process.stderr.close()
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    assert "completed: every expected point was measured" in out


def test_a_run_whose_terminal_is_gone_goes_on(bench: Bench, start) -> None:
    ours, its = os.openpty()
    try:
        process = start(bench.folder, *bench.run(*SHORT), stderr=its)
    finally:
        os.close(its)
    with process:
        assert os.read(ours, 1)
        os.close(ours)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    assert "completed: every expected point was measured" in out


def test_a_second_run_on_one_folder_is_refused_and_told_of_the_first(bench: Bench, start) -> None:
    with measuring(bench, start) as first:
        run_id = package.open_store(bench.folder / "data").run().run_id
        with start(bench.folder, *bench.run()) as second:
            out, err = second.communicate(timeout=60)
        assert first.poll() is None
    assert (second.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert f"run {run_id} (process {first.pid}, since " in err
