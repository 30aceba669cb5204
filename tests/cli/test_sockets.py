"""The same protocol against `labctl sim` over TCP: real sockets, scaled time, real signals."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import labctl as package
from labctl.stream.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def bench(
    served_bench: Callable[..., AbstractContextManager[Any]],
    free_ports: Callable[[int], list[int]],
) -> Iterator[Any]:
    """A bench that is served where its rig file says."""
    ports = dict(zip(("potentiostat", "stage"), free_ports(2), strict=True))
    with served_bench(ports) as bench:
        assert bench.ports == ports
        yield bench


def order(bench: Any, settings: dict[str, str], *more: str) -> list[str]:
    """Return the arguments of a run that ends with JSON."""
    return bench.run(settings, "--json", *more)


def test_a_bare_socket_talks_to_the_stage(bench: Any) -> None:
    with bench.line_to("stage") as ask:
        assert ask("*IDN?") == ["LSCI,MODEL336,LSA24DE/#######,2.9"]
        assert ask("SETP 1,310.5;SETP? 1") == ["+310.500"]


def test_a_bare_socket_talks_to_the_potentiostat(bench: Any) -> None:
    with bench.line_to("potentiostat") as ask:
        assert ask("t", 2)[0].startswith("tes4_hr")
        assert ask("i") == ["iES4HR20B0008"]


def test_the_wire_tells_whether_the_cell_is_on(bench: Any) -> None:
    with bench.line_to("potentiostat") as ask:
        assert ask("e\nset_pgstat_mode 3\ncell_on\n", 2) == ["e", ""]
    assert bench.cell_is_on()
    with bench.line_to("potentiostat") as ask:
        assert ask("e\ncell_off\n", 2) == ["e", ""]
    assert not bench.cell_is_on()


def test_pymeasure_s_own_class_talks_to_the_stage(bench: Any) -> None:
    from pymeasure.instruments.lakeshore import LakeShore3xx

    controller: Any = LakeShore3xx(
        bench.address(bench.ports["stage"]), read_termination="\r\n", write_termination="\n"
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


def test_a_second_client_is_turned_away(bench: Any) -> None:
    with bench.line_to("stage") as ask:
        ask("*IDN?")
        with socket.create_connection(("127.0.0.1", bench.ports["stage"]), timeout=5.0) as second:
            assert second.recv(1) == b""
        ask("*IDN?")


def test_spectra_over_tcp_are_those_of_the_run_in_process(
    bench: Any, command, labctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_tcp = command(bench.folder, *order(bench, bench.QUICK, "--speed", bench.SPEED))
    monkeypatch.chdir(bench.folder)
    in_process = labctl(*order(bench, bench.QUICK, "--simulate"))
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
    assert not bench.cell_is_on()
    assert bench.heater_range() == "0"


def long_order(bench: Any) -> list[str]:
    return order(bench, bench.LONG, "--speed", bench.SPEED)


def swapped(bench: Any) -> Path:
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


def test_instruments_that_have_changed_places_are_refused(bench: Any, labctl, monkeypatch) -> None:
    rig = swapped(bench)
    monkeypatch.chdir(bench.folder)
    said = labctl(*order(bench, bench.QUICK, "--speed", bench.SPEED, "--rig", str(rig)))
    assert said.exit_code == 2
    assert said.err.count("\n") == 1
    assert said.err.startswith("labctl: error: potentiostat: no EmStat4 HR, but 'LSCI,MODEL336,")
    assert labctl("runs", "--json").json == []


def test_where_instruments_are_served_is_told_as_json(start, write_bench, tmp_path: Path) -> None:
    with start(write_bench(tmp_path), "sim", "rig.toml", "--json") as simulation:
        assert simulation.stdout is not None
        text = ""
        while not text.endswith("\n}\n"):
            text += simulation.stdout.readline()
        simulation.send_signal(signal.SIGINT)
        assert simulation.wait(timeout=10) == 0
    assert list(json.loads(text)) == ["potentiostat", "stage"]


def test_a_port_that_is_taken_is_refused(bench: Any, labctl) -> None:
    said = labctl("sim", str(bench.folder / "rig.toml"))
    assert said.exit_code == 2
    assert f"port {bench.ports['potentiostat']} is not free" in said.err
    assert "instruments.potentiostat.address" in said.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_run_in_the_safe_state(
    bench: Any, start, tmp_path: Path, number: signal.Signals
) -> None:
    with bench.measuring(start, long_order(bench), tmp_path) as process:
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
    assert not bench.cell_is_on()
    assert bench.heater_range() == "0"


def test_what_was_acknowledged_survives_a_kill(bench: Any, start, labctl, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with bench.measuring(start, long_order(bench), data) as process:
        seen = bench.points_stored(data)
        process.kill()
    assert bench.points_stored(data) >= seen
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
