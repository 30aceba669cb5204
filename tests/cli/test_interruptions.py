"""What interrupts a real process: signals at any moment, and lines that are cut under it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import labctl as package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.realtime

# Two temperatures, so that there is something to show after the first.
SHORT = (
    '--set=temperatures=["25 degC", "26 degC"]',
    "--set=points_per_decade=4",
    "--set=frequency_end=100 Hz",
)
RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing resets the connection


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


@pytest.fixture
def served(served_bench: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    with served_bench() as bench:
        yield bench


@pytest.fixture
def wires(served: Any) -> Iterator[dict[str, Wire]]:
    """The line to each instrument."""
    wires = {name: Wire(port) for name, port in served.ports.items()}
    yield wires
    for wire in wires.values():
        wire.remove()


@pytest.fixture
def bench(served: Any, wires: dict[str, Wire]) -> Any:
    """A bench whose instruments are at the ends of the wires."""
    served.connect({name: wire.port for name, wire in wires.items()})
    return served


def order(bench: Any, *more: str) -> list[str]:
    """Return the arguments of a run that takes its time over a spectrum."""
    return bench.run(bench.LONG, "--speed", bench.SPEED, *more)


def told(process: subprocess.Popen[str]) -> Any:
    """Return the JSON that a process which goes on has printed."""
    assert process.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        text += process.stdout.readline()
    return json.loads(text)


def leave_heater_on(bench: Any) -> None:
    assert bench.ask("stage", "SETP 1,350;RANGE 1,3;RANGE? 1") == ["3"]


def is_safe(bench: Any) -> bool:
    return bench.heater_range() == "0" and not bench.cell_is_on()


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
    bench: Any, wires, start, name: str, number: signal.Signals
) -> None:
    leave_heater_on(bench)
    with start(bench.folder, *order(bench)) as process:
        wires[name].on_connect = lambda: process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert "labctl: error: stopped before the run began; the rig is safe: outputs off\n" in err
    assert "Traceback" not in err
    assert bench.heater_range() == "0"


def test_signals_without_end_do_not_keep_a_run_from_saying_that_the_rig_is_safe(
    bench: Any, start
) -> None:
    with bench.measuring(start, order(bench, "--json")) as process:
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
    assert is_safe(bench)


def test_a_run_that_shall_outlive_its_terminal_does(bench: Any, start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with bench.measuring(start, order(bench, "--json")) as process:
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
    bench: Any, wires, start, name: str
) -> None:
    with bench.measuring(start, order(bench, "--json")) as process:
        wires[name].cut()
        out, err = process.communicate(timeout=60)
    said = json.loads(out)
    assert (said["reason"], said["unsafe"]) == ("failed", {})
    assert said["message"].startswith(f"{name}: ")
    assert f"{name}: no connection at" in err
    assert "making it safe on a new line" in err
    assert is_safe(bench)


def test_an_instrument_that_stays_away_is_named_not_safe(bench: Any, wires, start) -> None:
    with bench.measuring(start, order(bench, "--json")) as process:
        wires["stage"].remove()
        out, err = process.communicate(timeout=60)
    said = json.loads(out)
    assert said["reason"] == "failed"
    assert list(said["unsafe"]) == ["stage"]
    assert "NOT SAFE: stage: no connection at" in err
    assert not bench.cell_is_on()


def test_a_run_whose_progress_nobody_reads_any_more_goes_on(bench: Any, start) -> None:
    with start(bench.folder, *order(bench, *SHORT)) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        process.stderr.close()
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    assert "completed: every expected point was measured" in out


def test_a_run_whose_terminal_is_gone_goes_on(bench: Any, start) -> None:
    ours, its = os.openpty()
    try:
        process = start(bench.folder, *order(bench, *SHORT), stderr=its)
    finally:
        os.close(its)
    with process:
        assert os.read(ours, 1)
        os.close(ours)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    assert "completed: every expected point was measured" in out


def test_a_second_run_on_one_folder_is_refused_and_told_of_the_first(bench: Any, start) -> None:
    with bench.measuring(start, order(bench)) as first:
        run_id = package.open_store(bench.folder / "data").run().run_id
        with start(bench.folder, *order(bench)) as second:
            out, err = second.communicate(timeout=60)
        assert first.poll() is None
    assert (second.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert f"run {run_id} (process {first.pid}, since " in err


def campaign_order(bench: Any) -> list[str]:
    """Return the arguments of a campaign of two entries, each as long as `order`."""
    lines = [f"{key} = {_toml(value)}" for key, value in bench.LONG.items()]
    (bench.folder / "long.toml").write_text("\n".join(lines))
    entries = [
        f'[[runs]]\nname = "{name}"\nprotocol = "temperature_eis"\nparams = "long.toml"\n'
        'samples = { cell-1 = "sample.toml" }\n'
        for name in ("first", "second")
    ]
    text = 'name = "long"\nrig = "rig.toml"\n' + "".join(entries)
    (bench.folder / "campaign.toml").write_text(text)
    return ["run", "campaign.toml", "--speed", bench.SPEED, "--json"]


def _toml(value: str) -> str:
    return value if value.startswith("[") or value.isdecimal() else json.dumps(value)


def test_a_signal_ends_a_whole_campaign_in_the_safe_state(bench: Any, start) -> None:
    with bench.measuring(start, campaign_order(bench)) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    first, second = json.loads(out)
    assert process.returncode == 1
    assert (first["reason"], second["reason"]) == ("aborted", "not started")
    assert first["unsafe"] == {}
    assert is_safe(bench)


def test_the_next_campaign_after_a_kill_makes_the_rig_safe_first(bench: Any, wires, start) -> None:
    with bench.measuring(start, campaign_order(bench)) as process:
        process.kill()
    assert bench.heater_range() != "0"
    with start(bench.folder, *campaign_order(bench)) as process:
        wires["stage"].on_connect = lambda: process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped before the run began; the rig is safe: outputs off" in err
    assert is_safe(bench)
