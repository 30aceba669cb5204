"""`labctl run --simulate` and `labctl check` as a user and as a script call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import labctl as package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = ("--rig", "rig.toml", "--sample", "sample.toml")
QUICK = {
    "temperatures": '["26 degC"]',
    "frequency_end": "100 Hz",
    "points_per_decade": "4",
    "settle_band": "0.5 K",
    "settle_slope": "0.5 K/min",
    "settle_window": "1 min",
}


@pytest.fixture(autouse=True)
def _bench(tmp_path: Path, write_bench: Callable[..., Path], quick_world: dict[str, str]) -> None:
    write_bench(tmp_path, world=quick_world)


def settings(**changes: str) -> list[str]:
    given = {**QUICK, **changes}
    return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


def test_check_prints_a_table_that_names_every_step(labctl) -> None:
    said = labctl("check", "temperature_eis", *FILES, *settings())
    assert said.exit_code == 0
    assert "01-heating-26.0C/settle" in said.out
    assert "01-heating-26.0C/eis" in said.out
    assert said.out.splitlines()[2].split("┃")[1:-1][-1].strip() == "note"
    assert "All limits hold. 15 points in about" in said.out


def test_check_gives_a_script_its_steps(labctl) -> None:
    temperatures = '["40 degC", "15 degC"]'
    steps = labctl(
        "check", "temperature_eis", *FILES, *settings(temperatures=temperatures), "--json"
    ).json
    assert [step["kind"] for step in steps] == ["settle", "eis", "settle", "eis"]
    assert [step["expected_points"] for step in steps] == [0, 15, 0, 15]
    assert steps[2]["temperature_k"] == pytest.approx(288.15)
    assert steps[2]["note"] == "limited by passive cooling"
    assert steps[3]["begins_s"] == pytest.approx(steps[2]["begins_s"] + steps[2]["duration_s"])


def test_check_opens_and_writes_nothing(labctl, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    labctl("check", "temperature_eis", *FILES, *settings())
    assert set(tmp_path.rglob("*")) == before


def run_json(labctl, *more: str, **changes: str) -> Any:
    said = labctl(
        "run", "temperature_eis", *FILES, "--simulate", "--json", *settings(**changes), *more
    )
    assert said.err == ""
    return said


def test_a_run_gives_a_script_its_ending(labctl, tmp_path: Path) -> None:
    said = run_json(labctl)
    assert said.exit_code == 0
    assert said.json["exit_status"] == "success"
    assert said.json["reason"] == "completed"
    assert said.json["expected_points"] == {"eis": 15}
    assert said.json["actual_points"]["eis"] == 15
    assert said.json["unsafe"] == {}
    assert said.json["undelivered"] == ""
    assert said.json["store"] == str(tmp_path / "data" / "labctl.sqlite")
    run = package.open_store(tmp_path / "data").run(said.json["run_id"])
    assert run.outcome == "completed"
    assert len(run.frames("eis")) == 15


def test_a_run_that_fails_ends_with_1_and_says_why(labctl) -> None:
    hurry = {"settle_window": "9 s", "settle_timeout": "10 s", "on_settle_timeout": "fail"}
    said = run_json(labctl, **hurry)
    assert said.exit_code == 1
    assert (said.json["exit_status"], said.json["reason"]) == ("fail", "failed")
    assert "not settled within 10 s" in said.json["message"]
    (listed,) = labctl("runs", "--json").json
    assert listed["outcome"] == "failed"


def test_a_run_shows_its_steps_and_then_its_result(labctl) -> None:
    said = labctl("run", "temperature_eis", *FILES, "--simulate", *settings())
    assert said.exit_code == 0
    assert [line.split()[0] for line in said.err.splitlines()] == ["[1/2]", "[2/2]"]
    assert "left" in said.err
    assert "completed: every expected point was measured" in said.out
    assert "AlOCl-nanoLiCl" in said.out


def test_set_overrules_the_file_and_that_the_sample(labctl, tmp_path: Path) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_text(
        sample.read_text()
        + '[parameters]\namplitude_v_rms = "20 mV"\nramp_rate = "1 K/min"\nprobe_interval = "1 min"'
    )
    (tmp_path / "p.toml").write_text('ramp_rate = "3 K/min"\nprobe_interval = "2 min"')
    ran = run_json(labctl, "--params", "p.toml", probe_interval="30 s").json
    asked = labctl("show", ran["run_id"], "--json").json["parameters"]
    assert asked["amplitude_v_rms"] == pytest.approx(0.02)
    assert asked["ramp_rate"] == pytest.approx(3.0)
    assert asked["probe_interval"] == pytest.approx(30.0)


def test_the_rig_of_the_user_s_configuration_is_used(labctl, tmp_path: Path) -> None:
    config = tmp_path / ".config" / "labctl" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"rig = '{tmp_path / 'rig.toml'}'")
    assert labctl("check", "temperature_eis", *settings()).exit_code == 0


def test_a_wrong_parameter_of_the_sample_names_the_sample_s_file(labctl, tmp_path: Path) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_text(sample.read_text() + '[parameters]\namplitude_v_rms = "20 mA"')
    said = labctl("check", "temperature_eis", *FILES, *settings())
    assert said.exit_code == 2
    assert "sample.toml: parameters: amplitude_v_rms = '20 mA': expected a voltage" in said.err


@pytest.mark.parametrize("name", ["LLZO pellet", "µ-LiCl [/red] a/b"])
def test_any_sample_name_is_shown_as_it_was_written(labctl, tmp_path: Path, name: str) -> None:
    (tmp_path / "sample.toml").write_text(f'name = "{name}"\n')
    said = labctl("run", "temperature_eis", *FILES, *settings(), "--simulate")
    assert said.exit_code == 0, said.err
    assert f"sample {name}\n" in said.out
    assert name in labctl("runs").out


def test_a_script_s_error_is_shown_as_it_was_raised(labctl, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    said = labctl("run", "failing.py", *FILES, "--simulate")
    assert said.exit_code == 1
    assert "failed: no column [/z_real] in [red] table\n" in said.out


FAILING = """
from labctl.run.protocol import Parameters, Protocol

async def script(run, parameters):
    raise ValueError("no column [/z_real] in [red] table")

PROTOCOL = Protocol(
    name="failing", script=script, parameters=Parameters, plan=lambda _, __: [], capabilities=(),
    summary="",
)
"""


def test_the_store_s_file_names_its_folder(labctl, tmp_path: Path) -> None:
    labctl("run", "temperature_eis", *FILES, *settings(), "--simulate", "--json")
    store = str(tmp_path / "data" / "labctl.sqlite")
    for command in ("plot", "export"):
        said = labctl(command, "--data", store)
        assert said.exit_code == 0, said.err
        for line in said.out.splitlines():
            assert line.startswith(str(tmp_path / "data"))


def test_a_skipped_measurement_is_no_success(labctl) -> None:
    impatient = settings(
        temperatures='["60 degC"]', settle_timeout="2 min", on_settle_timeout="skip"
    )
    said = labctl("run", "temperature_eis", *FILES, *impatient, "--simulate", "--json")
    assert said.exit_code == 1
    assert said.json["reason"] == "truncated"
    assert said.json["expected_points"] == said.json["forgone_points"] == {"eis": 15}
    assert "" not in said.json["actual_points"]
