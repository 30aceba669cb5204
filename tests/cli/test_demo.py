"""`labctl demo`, and what a user does with the runs it leaves."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import labctl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRUTH = {"AlOCl-nanoLiCl": (1.02e-3, 0.38), "LiCl": (1e-8, 0.78), "LiAlCl4": (1e-6, 0.5)}
KEYS = {
    "sample",
    "run_id",
    "sigma_25c_s_per_cm",
    "u_sigma_25c_s_per_cm",
    "activation_energy_ev",
    "u_activation_energy_ev",
    "n_spectra",
    "n_points",
    "simulated_hours",
    "wall_seconds",
}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def demo(home: Path, command: Callable[..., Any]) -> Any:
    """The one demonstration that all tests of this file look at."""
    return command(home, "demo", "--json")


@pytest.fixture
def at_home(labctl, monkeypatch: pytest.MonkeyPatch, home: Path, demo) -> Callable[..., Any]:
    """Calls labctl where the demonstration has been."""
    monkeypatch.setenv("LABCTL_DATA", str(home / "data"))
    return labctl


def test_demo_says_what_it_found(demo) -> None:
    assert demo.exit_code == 0, demo.err
    assert demo.err == ""
    assert [pellet["sample"] for pellet in demo.json] == list(TRUTH)
    for pellet in demo.json:
        assert set(pellet) >= KEYS
        assert pellet["n_spectra"] == 6
        assert pellet["n_points"] > 6 * 40
        assert pellet["simulated_hours"] > 1.0


def test_demo_finds_what_was_put_in(demo) -> None:
    for pellet in demo.json:
        sigma_s_per_cm, energy_ev = TRUTH[pellet["sample"]]
        assert pellet["sigma_25c_s_per_cm"] == pytest.approx(sigma_s_per_cm, rel=0.01)
        assert pellet["activation_energy_ev"] == pytest.approx(energy_ev, abs=0.002)
        assert 0.0 < pellet["u_sigma_25c_s_per_cm"] < 0.03 * sigma_s_per_cm
        assert 0.0 < pellet["u_activation_energy_ev"] < 0.01


def test_demo_is_as_uncertain_as_it_says(demo) -> None:
    for pellet in demo.json:
        sigma_s_per_cm, energy_ev = TRUTH[pellet["sample"]]
        sigma_off = pellet["sigma_25c_s_per_cm"] - sigma_s_per_cm
        energy_off = pellet["activation_energy_ev"] - energy_ev
        assert abs(sigma_off) < 2.5 * pellet["u_sigma_25c_s_per_cm"]
        assert abs(energy_off) < 2.5 * pellet["u_activation_energy_ev"]


def test_every_spectrum_of_licl_shows_both_arcs(at_home, demo) -> None:
    licl = next(pellet for pellet in demo.json if pellet["sample"] == "LiCl")
    fits = at_home("show", licl["run_id"], "--json").json["fits"]
    assert [fit["circuit"] for fit in fits] == ["R||CPE-R||CPE-CPE"] * 6
    assert all(fit["warnings"] == [] for fit in fits)


def test_demo_leaves_a_picture_and_files_to_start_from(demo, home: Path) -> None:
    assert (home / "data" / "demo" / "demo.png").read_bytes().startswith(PNG)
    for pellet in ("alocl", "licl", "lialcl4"):
        files = {file.name for file in (home / "data" / "demo" / pellet).iterdir()}
        assert files == {"rig.toml", "sample.toml", "world.toml", "parameters.toml"}


def test_runs_lists_the_newest_first(at_home, demo) -> None:
    said = at_home("runs", "--json")
    assert [run["run_id"] for run in said.json] == [each["run_id"] for each in reversed(demo.json)]
    assert {run["outcome"] for run in said.json} == {"completed"}
    table = at_home("runs").out
    assert all(run["run_id"] in table for run in said.json)


def test_show_prints_fits_and_activation_energy(at_home, demo) -> None:
    run_id = demo.json[0]["run_id"]
    text = at_home("show", run_id).out
    assert "completed: every expected point was measured" in text
    assert "from ln(sigma T) against 1/T" in text
    shown = at_home("show", run_id, "--json").json
    assert len(shown["fits"]) == 6
    assert shown["arrhenius"]["primary"]["ea_ev"] == demo.json[0]["activation_energy_ev"]
    assert shown["streams"]["eis"]["z_real_ohm"] == "ohm"


def test_a_run_may_be_named_by_its_beginning_or_as_the_latest(at_home, demo) -> None:
    last = demo.json[-1]["run_id"]
    assert at_home("show", "latest", "--json").json["run_id"] == last
    assert at_home("show", last[:-3], "--json").json["run_id"] == last


def test_a_run_that_there_is_not_is_refused_with_those_there_are(at_home, demo) -> None:
    said = at_home("show", "no-such-run")
    assert said.exit_code == 2
    assert said.err.startswith("labctl: error: ")
    assert "no run 'no-such-run'; the latest: " in said.err
    assert all(pellet["run_id"] in said.err for pellet in demo.json)
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("name", "magic"), [("run.png", PNG), ("run.pdf", b"%PDF")])
def test_plot_draws_a_picture(at_home, tmp_path: Path, name: str, magic: bytes) -> None:
    said = at_home("plot", "latest", "--output", name)
    assert said.out.strip() == name
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_plot_refuses_a_picture_of_an_unknown_kind(at_home) -> None:
    said = at_home("plot", "latest", "--output", "run.doc")
    assert said.exit_code == 2
    assert ".png, .svg, .pdf" in said.err


def stored(home: Path, run_id: str, stream: str) -> pd.DataFrame:
    return labctl.open_store(home / "data").run(run_id).frames(stream)


def test_python_gets_a_table_with_units(demo, home: Path) -> None:
    for pellet in demo.json:
        frame = stored(home, pellet["run_id"], "eis")
        assert len(frame) == pellet["n_points"]
        assert frame.attrs["units"]["frequency_hz"] == "Hz"
        assert frame.attrs["units"]["amplitude_v_rms"] == "V"
        assert (frame["z_real_ohm"] > 0.0).all()
        assert frame["step"].nunique() == 6


def files_of(said) -> dict[str, str]:
    """Return the files that an export wrote, by what comes after the run's id in their names."""
    assert said.exit_code == 0, said.err
    return {line.rpartition("_")[2]: line for line in said.out.splitlines()}


def test_csv_gives_the_stored_numbers_back(at_home, home: Path, demo, tmp_path: Path) -> None:
    run_id = demo.json[0]["run_id"]
    files = files_of(at_home("export", run_id, "--format", "csv", "--output", "out"))
    assert set(files) == {f"out/{run_id}.json", "eis.csv", "probe.csv", "temperature.csv"}
    text = (tmp_path / files["eis.csv"]).read_text()
    assert "frequency_hz=Hz" in text.splitlines()[1]
    pd.testing.assert_frame_equal(
        pd.read_csv(StringIO(text), comment="#"), stored(home, run_id, "eis"), check_exact=True
    )


def test_parquet_gives_the_stored_numbers_back(at_home, home: Path, demo, tmp_path: Path) -> None:
    run_id = demo.json[0]["run_id"]
    files = files_of(at_home("export", run_id, "--format", "parquet", "--output", "out"))
    assert set(files) == {"eis.parquet", "probe.parquet", "temperature.parquet", "events.parquet"}
    frame = pd.read_parquet(tmp_path / files["temperature.parquet"])
    expected = stored(home, run_id, "temperature")
    assert list(frame) == list(expected)
    for name in frame:
        assert np.array_equal(frame[name], expected[name], equal_nan=True)


def test_the_files_that_demo_writes_run_again(at_home, home: Path) -> None:
    folder = home / "data" / "demo" / "alocl"
    files = ("--sample", str(folder / "sample.toml"), "--params", str(folder / "parameters.toml"))
    said = at_home("check", "temperature_eis", "--rig", str(folder / "rig.toml"), *files)
    assert said.exit_code == 0
    assert "All limits hold. 270 points" in said.out
