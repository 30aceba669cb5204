"""Checking a plan: limits hold before anything is opened, and cooling takes its time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from labctl import assembly
from labctl.errors import BadInputError, LimitError


@pytest.fixture
def check(tmp_path, write_bench, change_toml, quick):
    """Checks the quick run with some of its parameters, and of its rig file, changed."""
    folder = write_bench(tmp_path / "bench")

    def checked(rig: dict[str, str] | None = None, **parameters: Any):
        change_toml(folder / "rig.toml", rig or {})
        request = assembly.RunRequest(
            protocol="temperature_eis",
            rig=folder / "rig.toml",
            sample=None,
            parameters={**quick, **parameters},
            data=tmp_path / "data",
        )
        steps = assembly.check(request)
        assert not (tmp_path / "data").exists()
        return steps

    return checked


def test_a_plan_lists_its_steps_one_after_the_other(check) -> None:
    steps = check()
    assert [(step.kind, step.expected_points) for step in steps] == [
        ("settle", 0),
        ("eis", 15),
        ("settle", 0),
        ("eis", 15),
    ]
    assert steps[0].begins_s == 0.0
    for before, after in itertools.pairwise(steps):
        assert after.begins_s == before.begins_s + before.duration_s


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperatures": ["30 degC", "160 degC"]}, "160 degC: outside the stage's limits"),
        ({"temperatures": ["9.9 degC"]}, "cannot hold a setpoint below 10 degC"),
        ({"temperatures": ["-20 degC"]}, "base at 5 degC"),
        ({"ramp_rate": "6 K/min"}, "rate 6 K/min: allowed are 0.1 to 5 K/min"),
        ({"frequency_start": "1 MHz"}, "frequency_start_hz = 1 MHz: allowed are 10 µHz to 200 kHz"),
        ({"amplitude_v_rms": "1 V"}, r"amplitude_v_rms = 1 V: allowed are 1 mV to 900 mV"),
    ],
)
def test_what_the_rig_does_not_allow_is_refused(check, parameters, message: str) -> None:
    with pytest.raises(LimitError, match=message) as caught:
        check(**parameters)
    assert str(caught.value).startswith("step 0")


def test_the_tighter_of_rig_file_and_instrument_counts(check) -> None:
    check(temperatures=["140 degC"])
    with pytest.raises(LimitError, match=r"limits of -272\.85 to 120 degC"):
        check({"temperature_max": '"120 degC"'}, temperatures=["140 degC"])


def test_cooling_down_takes_as_long_as_the_stage_needs(check) -> None:
    _, _, settle, _ = check(temperatures=["75 degC", "15 degC"], settle_timeout="3 hours")
    ramp_s = 60.0 / 5.0 * 60.0
    passive_s = 3600.0 * math.log((75.0 - 5.0) / (15.0 - 5.0))
    rest_s = 1.5 * 60.0 + 4 * 30.0
    assert passive_s > ramp_s
    assert settle.duration_s == pytest.approx(passive_s + rest_s)
    assert settle.note == "limited by passive cooling"


def test_cooling_ends_at_the_time_out_at_the_latest(check) -> None:
    steps = check(temperatures=["75 degC", "15 degC"], settle_timeout="1 hour")
    assert steps[2].duration_s == 3600.0
    assert steps[2].note == "passive cooling is too slow for settle_timeout"


def test_cooling_that_the_ramp_holds_back_is_not_called_passive(check) -> None:
    _, _, settle, _ = check(temperatures=["75 degC", "70 degC"], ramp_rate="0.5 K/min")
    assert settle.note == ""


def test_a_rig_with_several_channels_wants_one_named(tmp_path, write_bench, quick) -> None:
    rig = write_bench(tmp_path / "bench") / "rig.toml"
    text = rig.read_text()
    second = '[channels.cell-2]\npotentiostat = "other"\nstage = "stage"\n'
    other = '[instruments.other]\ndriver = "palmsens-emstat4-hr"\naddress = "ASRL2::INSTR"\n'
    rig.write_text(text + second + other)
    request = assembly.RunRequest(
        protocol="temperature_eis", rig=rig, sample=None, parameters=quick, data=tmp_path
    )
    with pytest.raises(BadInputError, match="name one with --channel: cell-1, cell-2"):
        assembly.check(request)
