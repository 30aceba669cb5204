"""The same protocol against `labctl sim` over TCP: real sockets, scaled time, real signals."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import labctl as package
from labctl.errors import LabctlError
from labctl.stream.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.realtime

# Deadlines are in the instruments' time: at 25 times the speed of life an abort that may take 5 s
# has 0.2 s, which a busy machine keeps.
SPEED = "25"
# Where the chamber stands already: nothing to wait for but the settling itself.
QUICK = {
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
LONG = {**QUICK, "frequency_end": "1 Hz", "points_per_decade": "100"}


def options(settings: dict[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@dataclass(frozen=True)
class Bench:
    """A folder with a rig whose instruments are served on this machine."""

    folder: Path
    ports: dict[str, int]

    def run(self, settings: dict[str, str], *more: str) -> list[str]:
        """Return the arguments of a run at the simulators' speed."""
        files = ("--rig", "rig.toml", "--sample", "sample.toml")
        return ["run", "temperature_eis", *files, *more, "--json", *options(settings)]


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    write_bench: Callable[..., Path],
    quick_world: dict[str, str],
    free_ports: Callable[[int], list[int]],
    start: Callable[..., subprocess.Popen[str]],
) -> Iterator[Bench]:
    """`labctl sim` in a process of its own, and the rig file that leads to it."""
    folder = write_bench(tmp_path_factory.mktemp("bench"), world=quick_world)
    ports = dict(zip(("potentiostat", "stage"), free_ports(2), strict=True))
    rig = (folder / "rig.toml").read_text()
    rig = rig.replace("ASRL/dev/ttyACM0::INSTR", address(ports["potentiostat"]))
    rig = rig.replace("TCPIP::192.168.0.12::7777::SOCKET", address(ports["stage"]))
    (folder / "rig.toml").write_text(rig)
    with start(folder, "sim", "rig.toml", "--speed", SPEED) as simulation:
        assert simulation.stdout is not None
        told = dict(simulation.stdout.readline().strip().split("\t") for _ in ports)
        assert told == {name: address(port) for name, port in ports.items()}
        yield Bench(folder, ports)
        simulation.send_signal(signal.SIGINT)
        assert simulation.wait(timeout=10) == 0


def address(port: int) -> str:
    return f"TCPIP::127.0.0.1::{port}::SOCKET"


@contextmanager
def line_to(port: int) -> Iterator[Callable[[str], list[str]]]:
    """Give a function that sends a message and returns all lines that come back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as line:

        def ask(message: str, n_lines: int = 1) -> list[str]:
            line.sendall(message.encode() + b"\n")
            reply = b""
            while reply.count(b"\n") < n_lines:
                some = line.recv(4096)
                assert some, "the instrument has hung up"
                reply += some
            return reply.decode().splitlines()

        yield ask


def heater_range(bench: Bench) -> str:
    with line_to(bench.ports["stage"]) as ask:
        (answer,) = ask("RANGE? 1")
    return answer


def cell_is_on(bench: Bench) -> bool:
    """Ask an idle potentiostat to change its mode, which it refuses while its cell is on."""
    with line_to(bench.ports["potentiostat"]) as ask:
        echo, answer = ask("e\nset_pgstat_mode 2\n", 2)[:2]
    assert echo == "e", "it is not idle"
    if answer:
        wait_until_it_hears_again(bench.ports["potentiostat"])
    return answer != ""


def wait_until_it_hears_again(port: int) -> None:
    """Send empty lines until one is answered: after an error the instrument is deaf for 50 ms."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as line:
        for _ in range(50):
            line.sendall(b"\n")
            with suppress(TimeoutError):
                line.recv(100)
                return


def test_a_bare_socket_talks_to_the_stage(bench: Bench) -> None:
    with line_to(bench.ports["stage"]) as ask:
        assert ask("*IDN?") == ["LSCI,MODEL336,LSA24DE/#######,2.9"]
        assert ask("SETP 1,310.5;SETP? 1") == ["+310.500"]


def test_a_bare_socket_talks_to_the_potentiostat(bench: Bench) -> None:
    with line_to(bench.ports["potentiostat"]) as ask:
        assert ask("t", 2)[0].startswith("tes4_hr")
        assert ask("i") == ["iES4HR20B0008"]


def test_the_wire_tells_whether_the_cell_is_on(bench: Bench) -> None:
    with line_to(bench.ports["potentiostat"]) as ask:
        assert ask("e\nset_pgstat_mode 3\ncell_on\n", 2) == ["e", ""]
    assert cell_is_on(bench)
    with line_to(bench.ports["potentiostat"]) as ask:
        assert ask("e\ncell_off\n", 2) == ["e", ""]
    assert not cell_is_on(bench)


def test_pymeasure_s_own_class_talks_to_the_stage(bench: Bench) -> None:
    from pymeasure.instruments.lakeshore import LakeShore3xx

    controller: Any = LakeShore3xx(
        address(bench.ports["stage"]), read_termination="\r\n", write_termination="\n"
    )
    try:
        assert controller.id.startswith("LSCI,MODEL336")
        assert controller.input_A.kelvin == pytest.approx(298.15, abs=3.0)
        assert controller.input_A.celsius == pytest.approx(
            controller.input_A.kelvin - 273.15, abs=1
        )
        controller.output_1.setpoint = 305.25
        assert controller.output_1.setpoint == 305.25
        controller.output_1.range = "low"
        assert controller.output_1.range == "low"
        controller.output_1.range = "off"
        assert controller.output_1.range == "off"
    finally:
        controller.adapter.close()


def test_a_second_client_is_turned_away(bench: Bench) -> None:
    with line_to(bench.ports["stage"]) as ask:
        ask("*IDN?")
        with socket.create_connection(("127.0.0.1", bench.ports["stage"]), timeout=5.0) as second:
            assert second.recv(1) == b""
        ask("*IDN?")


def test_spectra_over_tcp_are_those_of_the_run_in_process(
    bench: Bench, command, labctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_tcp = command(bench.folder, *bench.run(QUICK, "--speed", SPEED))
    monkeypatch.chdir(bench.folder)
    in_process = labctl(*bench.run(QUICK, "--simulate"))
    assert (over_tcp.exit_code, in_process.exit_code) == (0, 0), over_tcp.err + in_process.err
    assert over_tcp.err == ""
    runs = [
        package.open_store(said.json["store"]).run(said.json["run_id"])
        for said in (over_tcp, in_process)
    ]
    tcp, virtual = (run.frames("eis") for run in runs)
    assert list(tcp["frequency_hz"]) == list(virtual["frequency_hz"])
    z_tcp, z_virtual = (table["z_real_ohm"] + 1j * table["z_imag_ohm"] for table in (tcp, virtual))
    kelvins = [run.events("fit")[0]["data"]["temperature_k"] for run in runs]
    # 0.1 % noise, 4.6 % a kelvin, and the one point of a first range that is too large for it.
    allowed = 0.005 + 0.06 * abs(kelvins[0] - kelvins[1])
    assert np.max(np.abs(z_tcp / z_virtual - 1.0)) < allowed
    assert runs[0].start["instruments"] == runs[1].start["instruments"]
    assert not cell_is_on(bench)
    assert heater_range(bench) == "0"


def swapped(bench: Bench) -> Path:
    """Write a rig file whose instruments have changed places."""
    ports, text = bench.ports, (bench.folder / "rig.toml").read_text()
    for old, new in (
        (ports["potentiostat"], "x"),
        (ports["stage"], str(ports["potentiostat"])),
        ("x", str(ports["stage"])),
    ):
        text = text.replace(f"::{old}::", f"::{new}::")
    (bench.folder / "swapped.toml").write_text(text)
    return bench.folder / "swapped.toml"


def test_instruments_that_have_changed_places_are_refused(bench: Bench, labctl, tmp_path) -> None:
    rig = swapped(bench)
    said = labctl("run", "temperature_eis", "--rig", str(rig), "--speed", SPEED, *options(QUICK))
    assert said.exit_code == 2
    assert said.err.count("\n") == 1
    assert said.err.startswith("labctl: error: potentiostat: no EmStat4 HR, but 'LSCI,MODEL336,")
    assert labctl("runs", "--json").json == []


def test_a_port_that_is_taken_is_refused(bench: Bench, labctl) -> None:
    said = labctl("sim", str(bench.folder / "rig.toml"))
    assert said.exit_code == 2
    assert f"port {bench.ports['potentiostat']} is not free" in said.err
    assert "instruments.potentiostat.address" in said.err


@contextmanager
def measuring(
    bench: Bench, start: Callable[..., subprocess.Popen[str]], data: Path
) -> Iterator[subprocess.Popen[str]]:
    """Give a run, in a process of its own, that is in the middle of its spectrum."""
    with start(bench.folder, *bench.run(LONG, "--speed", SPEED), data=data) as process:
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_run_in_the_safe_state(
    bench: Bench, start, tmp_path: Path, number: signal.Signals
) -> None:
    with measuring(bench, start, tmp_path) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in err
    said = json.loads(out)
    assert (said["exit_status"], said["reason"]) == ("abort", "aborted")
    assert said["unsafe"] == {}
    run = package.open_store(tmp_path).run(said["run_id"])
    assert run.stop is not None
    assert (
        run.stop["actual_points"]["eis"] == len(run.frames("eis")) < said["expected_points"]["eis"]
    )
    assert run.outcome == "aborted"
    assert not cell_is_on(bench)
    assert heater_range(bench) == "0"


def test_what_was_acknowledged_survives_a_kill(bench: Bench, start, labctl, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with measuring(bench, start, data) as process:
        seen = points_stored(data)
        process.kill()
    assert points_stored(data) >= seen
    (run,) = labctl("runs", "--json").json
    assert run["outcome"] == "interrupted"
    forgotten, stored, waiting = sequences(data)
    assert set(range(forgotten + 1)) <= stored
    assert stored | waiting == set(range(max(stored | waiting) + 1))
    deliver(data)
    assert sequences(data)[1] == stored | waiting
    assert labctl("runs", "--json").json[0]["outcome"] == "interrupted"


def sequences(data: Path) -> tuple[int, set[int], set[int]]:
    """Return up to where the outbox has forgotten, and which documents lie in store and outbox."""
    with closing(sqlite3.connect(data / "outbox.sqlite")) as outbox:
        ((forgotten,),) = outbox.execute("SELECT forgotten FROM run").fetchall()
        waiting = {seq for (seq,) in outbox.execute("SELECT seq FROM document")}
    with closing(sqlite3.connect(data / "labctl.sqlite")) as store:
        stored = {seq for (seq,) in store.execute("SELECT seq FROM document")}
    return forgotten, stored, waiting


def deliver(data: Path) -> None:
    """Let a link take what the outbox still holds to the store, as the next run would."""
    import asyncio

    async def main() -> int:
        with Link(
            outbox_path=data / "outbox.sqlite", rig="bench", store_path=data / "labctl.sqlite"
        ) as link:
            return await link.drain(30.0)

    assert asyncio.run(main()) == 0
