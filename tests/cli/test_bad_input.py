"""What is wrong is said in one line, with exit code 2, and nothing is left half done."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from labctl.documents import Document, Kind
from labctl.store.reading import open_store
from labctl.store.sqlite import STORE_NAME
from labctl.stream.outbox import Outbox, entry_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIMULATED = ("run", "temperature_eis", "--rig", "rig.toml", "--simulate")
CHECKED = ("check", "temperature_eis", "--rig", "rig.toml")
TEMPERATURE = ("--set", 'temperatures=["25 degC"]')


@pytest.fixture(autouse=True)
def _bench(tmp_path: Path, write_bench: Callable[..., Path]) -> None:
    write_bench(tmp_path)


def assert_one_line(said, *expected: str) -> None:
    """Assert that a command was refused in one line that holds all of the texts expected."""
    assert said.exit_code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("labctl: error: ")
    for text in expected:
        assert text in said.err


def assert_nothing_is_stored(folder: Path) -> None:
    """Assert that the data folder holds no run."""
    store = folder / "data" / STORE_NAME
    assert not store.exists() or not open_store(store).runs()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("run", "temperatur_eis", "--rig", "rig.toml", "--simulate"),
            ["protocol = 'temperatur_eis': unknown protocol; there are: ", " temperature_eis"],
        ),
        (
            ("run", "json:dumps", "--rig", "rig.toml", "--simulate"),
            ["protocol = 'json:dumps': expected a labctl Protocol"],
        ),
        (
            ("run", "temperature_eis", "--rig", "nowhere.toml", "--simulate"),
            ["nowhere.toml: no such file"],
        ),
        ((*SIMULATED, "--sample", "nowhere.toml"), ["nowhere.toml: no such file"]),
        ((*SIMULATED, "--params", "nowhere.toml"), ["nowhere.toml: no such file"]),
        (("run", "temperature_eis", "--simulate"), ["no rig", "--rig", "config.toml"]),
        ((*SIMULATED, "--channel", "cell-2"), ["rig.toml: no channel 'cell-2'; there are: cell-1"]),
        ((*SIMULATED,), ["temperature_eis parameters: temperatures: missing"]),
        (
            (*SIMULATED, "--set", "temperatures"),
            ["--set 'temperatures': expected key=value"],
        ),
        (
            (*SIMULATED, "--set", 'temperatures=["25 V"]'),
            ["--set: temperatures.0 = '25 V': expected a temperature, such as \"25 degC\""],
        ),
        (
            (*SIMULATED, *TEMPERATURE, "--set", "settle_time=10 min"),
            ["--set: settle_time: unknown key"],
        ),
        (
            (*SIMULATED, "--set", 'temperatures=["25 degC", "151 degC"]'),
            ["step 02-heating-151.0C/settle", "151 degC", "limits of -272.85 to 150 degC"],
        ),
        (
            (*SIMULATED, "--set", 'temperatures=["9 degC"]'),
            ["9 degC", "base at 5 degC", "below 10 degC"],
        ),
        (
            (*SIMULATED, *TEMPERATURE, "--set", "frequency_start=1 MHz"),
            ["frequency_start_hz = 1 MHz: allowed are 10 µHz to 200 kHz"],
        ),
        (
            (*SIMULATED, *TEMPERATURE, "--set", "amplitude_v_rms=2 V"),
            ["amplitude_v_rms = 2 V: allowed are 1 mV to 900 mV"],
        ),
        (
            ("run", "temperature_eis", "--rig", "rig.toml", "--speed", "10", *TEMPERATURE),
            ["rig.toml: instruments.potentiostat.address", "simulated instruments on this machine"],
        ),
        ((*SIMULATED, *TEMPERATURE, "--speed", "5"), ["--speed goes with `labctl sim`"]),
        (("sim", "nowhere.toml"), ["nowhere.toml: no such file"]),
        (("analyze", "nowhere.z"), ["nowhere.z", "no such file"]),
        (
            ("analyze", "rig.toml", "--thickness", "1 V", "--diameter", "1 mm"),
            ["--thickness = '1 V': expected a length, such as \"1.0 mm\""],
        ),
        (("analyze", "rig.toml", "--thickness", "1 mm"), ["--diameter: missing"]),
        (("runs",), ["data: no such store"]),
        (("show",), ["data: no such store"]),
        (("plot",), ["data: no such store"]),
        (("export",), ["data: no such store"]),
    ],
)
def test_what_is_asked_for_cannot_be(labctl, tmp_path: Path, arguments, expected) -> None:
    assert_one_line(labctl(*arguments), *expected)
    assert_nothing_is_stored(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("rig.toml", ('name = "pellet-bench"', "name = "), ["rig.toml: not valid TOML", "line 4"]),
        (
            "rig.toml",
            ('name = "pellet-bench"', 'nom = "pellet-bench"\nname = "pellet-bench"'),
            ["rig.toml: nom: unknown key"],
        ),
        (
            "rig.toml",
            ("lakeshore-336", "lakeshore-337"),
            [
                "rig.toml: instruments.stage.driver = 'lakeshore-337': unknown driver",
                "lakeshore-336",
            ],
        ),
        (
            "rig.toml",
            ('rate_max = "5 K/min"', 'rate_max = "5 V"'),
            ["rig.toml: instruments.stage.limits: rate_max = '5 V': expected a temperature rate"],
        ),
        (
            "rig.toml",
            ('heater_range = "high"', 'heater_range = "huge"'),
            ["rig.toml: instruments.stage.settings: heater_range = 'huge'", "'low'"],
        ),
        (
            "rig.toml",
            ('potentiostat = "potentiostat"', 'potentiostat = "stage"'),
            ["rig.toml: channels.cell-1.potentiostat = 'stage'", "is no potentiostat"],
        ),
        (
            "rig.toml",
            ('world = "world.toml"', 'world = "mars.toml"'),
            ["rig.toml: simulation.world = ", "mars.toml': no such file"],
        ),
        (
            "sample.toml",
            ('thickness = "1.0 mm"', 'thickness = "1.0 ohm"'),
            ["sample.toml: thickness = '1.0 ohm': expected a length"],
        ),
        (
            "sample.toml",
            ('thickness_uncertainty = "5 um"', 'thickness_uncertainty = "5 mm"'),
            ["sample.toml: thickness_uncertainty = 5 mm: expected less than thickness = 1 mm"],
        ),
        (
            "sample.toml",
            ('diameter_uncertainty = "20 um"', 'diameter_uncertainty = "10 mm"'),
            ["sample.toml: diameter_uncertainty = 10 mm: expected less than diameter = 10 mm"],
        ),
        (
            "rig.toml",
            ('max_temperature = "200 degC"', 'max_temperature = "100 degC"'),
            ["rig.toml: instruments.stage.limits.temperature_max = 150 degC: expected", "100 degC"],
        ),
        (
            "rig.toml",
            ("ASRL/dev/ttyACM0::INSTR", "/dev/ttyACM0"),
            ["rig.toml: instruments.potentiostat.address = '/dev/ttyACM0': expected a VISA addr"],
        ),
        (
            "rig.toml",
            ("TCPIP::192.168.0.12::7777::SOCKET", "TCPIP::192.168.0.12::stage::SOCKET"),
            ["rig.toml: instruments.stage.address = ", "its port is no number"],
        ),
        (
            "parameters.toml",
            ('amplitude_v_rms = "10 mV"', 'amplitude_v_rms = "10 mA"'),
            ["parameters.toml: amplitude_v_rms = '10 mA': expected a voltage, such as"],
        ),
        (
            "world.toml",
            ("heat_capacity_j_per_k = 900.0", "heat_capacity_j_per_k = -900.0"),
            ["world.toml: stages.chamber.heat_capacity_j_per_k = -900.0: expected"],
        ),
    ],
)
def test_a_file_is_wrong(labctl, tmp_path: Path, file: str, change, expected) -> None:
    text = (tmp_path / file).read_text()
    assert change[0] in text
    (tmp_path / file).write_text(text.replace(change[0], change[1], 1))
    files = ("--sample", "sample.toml", "--params", "parameters.toml")
    for command in (CHECKED, SIMULATED):
        assert_one_line(labctl(*command, *files), *expected)
    assert_nothing_is_stored(tmp_path)


def test_nothing_answers_at_the_address(labctl, tmp_path: Path, free_ports) -> None:
    (port,) = free_ports(1)
    address = f"TCPIP::127.0.0.1::{port}::SOCKET"
    rig = tmp_path / "rig.toml"
    rig.write_text(rig.read_text().replace("ASRL/dev/ttyACM0::INSTR", address))
    said = labctl("run", "temperature_eis", "--rig", "rig.toml", *TEMPERATURE)
    assert_one_line(said, "potentiostat: no connection at", address)
    assert_nothing_is_stored(tmp_path)


def test_a_spectrum_file_that_is_cut_short(labctl, tmp_path: Path) -> None:
    rows = [f"{10.0**-i:.6e},{100.0 + i},{-i:.3f}" for i in range(20)]
    whole = "frequency_hz,z_real_ohm,z_imag_ohm\n" + "\n".join(rows) + "\n"
    (tmp_path / "cut.csv").write_text(whole[: whole.index(rows[12]) + 9])
    assert_one_line(labctl("analyze", "cut.csv"), "cut.csv")


def test_data_that_cannot_be_kept_where_they_are_asked_to(labctl, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said = labctl(*SIMULATED, *TEMPERATURE, "--data", "taken")
    assert_one_line(said, "taken: ", "exists")


@pytest.mark.parametrize("wrong", ["--no-such-option", "--format=xml"])
def test_an_option_that_there_is_not_is_refused(labctl, wrong: str) -> None:
    said = labctl("export", wrong)
    assert said.exit_code == 2
    assert wrong.partition("=")[0] in said.err
    assert "Traceback" not in said.err


def test_the_installed_command_ends_as_its_entrance_does(labctl, command, tmp_path: Path) -> None:
    wrong = ("check", "temperature_eis", "--rig", "nowhere.toml")
    assert command(tmp_path, *wrong) == labctl(*wrong)


@pytest.mark.parametrize("url", ["mqtt://[::1", "mqtts://u:secret@broker..example"])
@pytest.mark.parametrize(
    "command",
    [
        ("watch",),
        ("send", "ping", "bench"),
        ("recorder",),
        ("drain", "--rig", "rig.toml"),
        (*SIMULATED, *TEMPERATURE),
    ],
)
def test_a_broker_that_cannot_be_is_refused(labctl, tmp_path: Path, command, url: str) -> None:
    with closing(Outbox(tmp_path / "outbox.sqlite", rig="bench")) as outbox:
        body = {"stream": "eis", "n_points": 1, "columns": {"a": [1.0]}}
        outbox.append([entry_of(Document("r1", 0, Kind.EVENT_PAGE, body))])
    said = labctl(*command, "--data", str(tmp_path), "--mqtt", url)
    assert_one_line(said, "expected mqtt://host:port")
    assert "secret" not in said.err


@pytest.mark.parametrize("command", [SIMULATED, CHECKED])
def test_a_certificate_that_is_missing_is_named_with_its_key(
    labctl, tmp_path: Path, command
) -> None:
    with (tmp_path / "rig.toml").open("a") as rig:
        rig.write('\n[mqtt]\nurl = "mqtts://u:p@broker.lab"\nca_file = "ca.crt"\n')
    said = labctl(*command, *TEMPERATURE)
    assert_one_line(said, "rig.toml: mqtt.ca_file = ", "ca.crt", "no such file")
    assert_nothing_is_stored(tmp_path)
