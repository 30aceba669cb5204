"""`labctl run CAMPAIGN.toml` and `labctl check CAMPAIGN.toml` as a user and a script call them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "four-pellets"
CAMPAIGN = """\
name = "short"
rig = "rig.toml"

[[runs]]
name = "warm"
protocol = "temperature_eis"

[runs.parameters]
temperatures = ["26 degC"]
frequency_end = "100 Hz"
points_per_decade = 4
settle_band = "0.5 K"
settle_slope = "0.5 K/min"
settle_window = "1 min"

[runs.samples]
cell-1 = "samples/a.toml"
cell-3 = "samples/c.toml"
"""


@pytest.fixture(autouse=True)
def _bench(tmp_path: Path, change_toml, quick_world: dict[str, str]) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    change_toml(tmp_path / "world.toml", quick_world)
    (tmp_path / "campaign.toml").write_text(CAMPAIGN)


def test_check_says_what_each_run_will_do_and_opens_nothing(labctl, tmp_path: Path) -> None:
    said = labctl("check", "campaign.toml")
    assert said.exit_code == 0
    lines = [line for line in said.out.splitlines() if "temperature_eis" in line]
    assert ["cell-1" in line for line in lines] == [True, False]
    assert "pellet c" in lines[1]
    assert "26 degC" in lines[1]
    assert not (tmp_path / "data").exists()


def test_a_campaign_ends_with_a_line_for_each_run(labctl) -> None:
    said = labctl("run", "campaign.toml", "--simulate")
    assert said.exit_code == 0
    lines = [line for line in said.out.splitlines() if "completed" in line]
    assert ["pellet a" in line for line in lines] == [True, False]
    assert "[cell-1 1/2] 01-heating-26.0C/settle" in said.err
    assert "[cell-3 2/2] 01-heating-26.0C/eis" in said.err
    listed = labctl("runs").out
    assert listed.count("short: warm") == 2


def test_a_script_gets_a_list_of_the_runs(labctl) -> None:
    said = labctl("run", "campaign.toml", "--simulate", "--json")
    assert said.exit_code == 0
    assert said.err == ""
    one, other = said.json
    assert (one["channel"], other["channel"]) == ("cell-1", "cell-3")
    assert {run["reason"] for run in said.json} == {"completed"}
    assert one["actual_points"]["eis"] == one["expected_points"]["eis"] == 15
    assert one["run_id"] == f"{one['campaign_id']}-1-cell-1"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "campaign.toml", "--sample", "samples/a.toml"], "--sample: a campaign's file"),
        (["check", "campaign.toml", "--set", "x=1"], "--set: a campaign's file says that"),
        (["run", "nothing.toml"], "nothing.toml: no such file"),
        (["run", "campaign.toml", "--only", "cold"], "--only cold: no such entry; there are warm"),
        (["check", "temperature_eis", "--only", "warm"], "--only warm: expected a campaign's"),
    ],
)
def test_what_does_not_go_with_a_campaign_is_one_line(labctl, arguments, complaint) -> None:
    said = labctl(*arguments)
    assert said.exit_code == 2
    assert said.err.startswith("labctl: error: ")
    assert complaint in said.err
    assert said.err.count("\n") == 1
