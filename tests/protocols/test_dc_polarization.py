"""`dc_polarization` from parameters to a conductivity or a bound, on pellets of known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from labctl.config import SampleConfig, validate
from labctl.documents import Reason
from labctl.errors import BadInputError
from labctl_protocols.dc_polarization import DcPolarizationParameters, plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SAMPLE = SampleConfig(name="pellet")
SIGMA_S_PER_CM = 1.2e-9  # the demonstration's pellet, at 25 degC
QUICK = {"temperature": "25 degC", "dwell": "5 min", "interval": "15 s"}


@pytest.fixture
def polarize(
    tmp_path: Path, write_bench: Callable[..., Path], quick_world, run_protocol
) -> Callable[..., Any]:
    """Polarises the demonstration's pellet, changed or not, and gives the stored run."""

    def polarized(parameters: dict[str, Any], **world: str) -> Any:
        folder = write_bench(tmp_path / "bench", world={**quick_world, **world})
        return run_protocol("dc_polarization", folder, {**QUICK, **parameters})

    return polarized


def result_of(run: Any) -> dict[str, Any]:
    (result,) = run.events("electronic_conductivity")
    return result["data"]


def holds_of(run: Any) -> dict[str, dict[str, Any]]:
    return {event["data"]["key"]: event["data"] for event in run.events("hold")}


def test_the_demonstration_s_pellet_gives_its_conductivity(polarize) -> None:
    run = polarize({})
    found = result_of(run)
    assert not found["is_bound"]
    assert found["sigma_s_per_cm"] == pytest.approx(SIGMA_S_PER_CM, rel=0.02)
    assert abs(found["sigma_s_per_cm"] - SIGMA_S_PER_CM) < 4 * found["u_sigma_s_per_cm"]
    assert found["resistance_ohm"] == pytest.approx(1.061e8, rel=0.02)
    assert found["temperature_k"] == pytest.approx(298.15, abs=0.1)
    assert found["reason"] == ""
    holds = holds_of(run)
    assert list(holds) == [
        "zero-start/hold",
        *(
            f"{number:02d}-{voltage}V/hold"
            for number, voltage in enumerate((0.2, 0.4, 0.6, 0.8, 1), 1)
        ),
        "zero-end/hold",
    ]
    for key, hold in holds.items():
        assert hold["ended_by"].startswith("the longest time" if "zero" in key else "steady: ")
    # What a person would read off the last points is more than a value of this uncertainty allows.
    last_a = run.frames("ca").query(f"step == {holds['05-1V/hold']['step']}")["current_a"].iloc[-1]
    assert last_a > holds["05-1V/hold"]["current_a"] * 1.01


def test_a_hold_that_is_steady_is_ended_and_says_so(polarize) -> None:
    run = polarize({"voltages": ["1 V"]})
    ends = {
        step["data"]["key"]: step["data"]["result"]
        for step in run.events("step")
        if step["data"]["phase"] == "end"
    }
    hold = ends["01-1V/hold"]
    assert hold["ended_by"].startswith("steady: drifts by ")
    assert 36 <= hold["n_points"] < 7200 / 15


def test_a_current_that_is_not_steady_in_time_gives_a_bound_above_the_truth(polarize) -> None:
    found = result_of(polarize({"voltages": ["0.5 V", "1 V"], "hold_max": "12 min"}))
    assert found["is_bound"]
    assert found["sigma_s_per_cm"] is None
    assert SIGMA_S_PER_CM < found["sigma_upper_bound_s_per_cm"] < 1.5 * SIGMA_S_PER_CM
    assert "not steady: it drifts by -" in found["reason"]


def test_electrons_that_are_not_seen_give_a_bound_above_the_truth(polarize) -> None:
    found = result_of(
        polarize(
            {"voltages": ["1 V"], "hold_max": "1 hour"},
            electronic_conductivity_s_per_cm="1e-13",
            electrode_cpe_q_siemens_s_n="1e-9",
        )
    )
    assert found["is_bound"]
    assert 1e-13 < found["sigma_upper_bound_s_per_cm"] < 1e-11
    assert found["reason"].startswith("upper bound, from 1 V: ")


def test_a_pellet_that_cools_meanwhile_is_said(
    tmp_path, write_bench, quick_world, run_protocol
) -> None:
    """Without a temperature the heater is off, and the bench cools towards its base at 5 degC."""
    folder = write_bench(tmp_path / "bench", world=quick_world)
    run = run_protocol("dc_polarization", folder, {"voltages": ["1 V"], "interval": "15 s"})
    assert any("the temperature moved by" in said for said in result_of(run)["warnings"])


def parameters_of(**given: Any) -> DcPolarizationParameters:
    return validate(DcPolarizationParameters, given, source="p.toml")


def test_the_plan_holds_0_v_first_between_and_last() -> None:
    keys = [step.key for step in plan(parameters_of(voltages=["0.5 V", "-0.5 V"]), SAMPLE)]
    assert keys == [
        "rest",
        "zero-start/hold",
        "01-0.5V/hold",
        "02--0.5V/discharge",
        "02--0.5V/hold",
        "zero-end/hold",
    ]


def test_the_plan_settles_first_where_a_temperature_is_given() -> None:
    (first, *others) = plan(parameters_of(temperature="40 degC"), SAMPLE)
    assert (first.kind, first.temperature_k) == ("settle", pytest.approx(313.15))
    assert all(step.technique is not None for step in others)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"voltages": ["0 V", "1 V"]}, "none of 0 V"),
        ({"voltages": []}, "at least one"),
        ({"hold_min": "2 hours", "hold_max": "1 hour"}, "no more than hold_max"),
        ({"hold_min": "1 min"}, "at least 36 times interval"),
        ({"zero_hold": "1 min"}, "zero_hold: expected at least 36 times interval"),
        ({"rest": "1 s"}, "at least one interval"),
        ({"steady_drift": 0.05}, 'such as "0.5 %"'),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given, message) -> None:
    with pytest.raises(BadInputError, match=message):
        parameters_of(**given)


def test_a_voltage_beyond_the_rig_s_limit_is_refused_before_anything_is_opened(
    tmp_path, write_bench, run_protocol
) -> None:
    folder = write_bench(tmp_path / "bench")
    with pytest.raises(BadInputError, match=r"step 01-9V/hold: potential_v = 9 V"):
        run_protocol("dc_polarization", folder, {"voltages": ["9 V"]}, reason=Reason.FAILED)
