"""A sequence does what its file says, in that order, and refuses what it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from labctl.config import SampleConfig, validate
from labctl.errors import BadInputError
from labctl.testing import simulate
from labctl_protocols.sequence import SequenceParameters, plan

if TYPE_CHECKING:
    from pathlib import Path

EIS = {"do": "eis", "at": "ocp", "frequency_end": "10 kHz", "points_per_decade": 5}
STEPS = [
    {"do": "ocp", "duration": "10 s"},
    {"do": "repeat", "times": 2, "steps": [EIS, {"do": "wait", "duration": "1 min"}]},
]


def parameters(*steps: dict[str, Any]) -> SequenceParameters:
    return validate(SequenceParameters, {"steps": list(steps)}, source="sequence.toml")


def test_steps_are_taken_in_their_order_repeats_written_out(tmp_path: Path) -> None:
    run = simulate("sequence", folder=tmp_path, parameters={"steps": STEPS})
    assert run.summary.outcome == "completed"
    begun = [each["data"]["key"] for each in run.events("step") if each["data"]["phase"] == "start"]
    assert begun == [
        "01-ocp",
        "02-repeat.1/01-eis",
        "02-repeat.1/02-wait",
        "02-repeat.2/01-eis",
        "02-repeat.2/02-wait",
    ]


def test_a_spectrum_at_ocp_lies_around_the_potential_measured_before(tmp_path: Path) -> None:
    run = simulate("sequence", folder=tmp_path, parameters={"steps": STEPS})
    rested_v = run.frames("ocp")["potential_v"].iloc[-1]
    assert abs(rested_v) > 1e-3
    assert run.frames("eis")["bias_v"].to_numpy() == pytest.approx(rested_v, abs=1e-4)


def test_the_sign_of_a_c_rate_is_its_direction() -> None:
    sample = SampleConfig(name="x", nominal_capacity=3.6)
    step = {"do": "cp", "c_rate": -0.5, "duration": "1 min"}
    (planned,) = plan(parameters(step), sample)
    assert planned.technique is not None
    assert planned.technique.parameters()["current_a"] == pytest.approx(-0.5e-3)


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ({"do": "boil"}, r"steps.0 = .*boil"),
        ({"do": "wait"}, "steps.0.duration: missing"),
        ({"do": "wait", "duration": "5 V"}, "steps.0.duration = '5 V': expected a time"),
        ({"do": "cp", "duration": "1 s"}, "expected one of current, current_density, c_rate"),
        ({"do": "repeat", "times": 0, "steps": [EIS]}, "steps.0.times = 0"),
        ({"do": "ocp", "duration": "1 s", "volume": 11}, "steps.0.volume: unknown key"),
    ],
)
def test_a_wrong_step_is_named(step: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInputError, match=complaint):
        parameters(step)


def test_what_the_sample_does_not_tell_is_asked_for() -> None:
    given = parameters({"do": "cp", "c_rate": 0.5, "duration": "1 min"})
    with pytest.raises(BadInputError, match="nominal_capacity: missing"):
        plan(given, SampleConfig(name="x"))
