"""`lsv_window` and `temperature_lsv` on the example cell, whose onsets follow from its laws."""

from __future__ import annotations

import math
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl.config import SampleConfig, validate
from labctl.documents import Reason
from labctl.errors import BadInputError
from labctl_protocols.lsv_window import LsvWindowParameters, plan
from labctl_protocols.temperature_lsv import TemperatureLsvParameters
from labctl_protocols.temperature_lsv import plan as plan_against_temperature

if TYPE_CHECKING:
    from collections.abc import Callable

BENCH = Path(__file__).parents[2] / "docs" / "examples" / "lsv-bench"
CELL = tomllib.loads((BENCH / "world.toml").read_text())["cells"]["window"]
AREA_CM2 = math.pi * 0.25
SAMPLE = SampleConfig(name="cell", diameter=0.01)
ANODIC = {
    "direction": "anodic",
    "end_potential": "4.8 V",
    "expected_ocv": "2.6 V",
    "step": "4 mV",
    "rest": "30 min",
}
CATHODIC = {**ANODIC, "direction": "cathodic", "end_potential": "0.3 V", "n_scans": 1}
CRITERIA = ["1 uA/cm2", "2 uA/cm2", "5 uA/cm2", "10 uA/cm2", "tangent", "5 sigma"]


@pytest.fixture
def bench(tmp_path: Path, change_toml: Callable[..., None]) -> Callable[..., Path]:
    """Copies the example bench; keywords change values of its files."""

    def copied(sample: dict[str, str] | None = None, **world: str) -> Path:
        folder = tmp_path / "bench"
        shutil.copytree(BENCH, folder)
        quick = {"initial_temperature_c": "25.0", "sample_lag_s": "5.0", "sensor_lag_s": "5.0"}
        change_toml(folder / "world.toml", {**quick, **world})
        change_toml(folder / "sample.toml", sample or {})
        return folder

    return copied


def oxidised_at_v(ua_per_cm2: float) -> float:
    """The potential of a fresh surface at a current density, by Tafel's law."""
    current_a = 1e-6 * ua_per_cm2 * AREA_CM2
    decades = math.log10(current_a / CELL["oxidation_current_a"])
    return CELL["oxidation_potential_v"] + CELL["oxidation_v_per_decade"] * decades


def reduction_ua_per_cm2(potential_v: float) -> float:
    """The density of both reductions at a potential."""
    below = (CELL["weak_reduction_potential_v"] - potential_v) / CELL["weak_reduction_v_per_decade"]
    weak_a = CELL["weak_reduction_current_a"] / (1 + 10.0**-below)
    below = CELL["strong_reduction_potential_v"] - potential_v
    strong_a = CELL["strong_reduction_current_a"] * 10 ** (
        below / CELL["strong_reduction_v_per_decade"]
    )
    return 1e6 * (weak_a + strong_a) / AREA_CM2


def sweeps_of(run: Any) -> list[dict[str, Any]]:
    return [event["data"] for event in run.events("sweep")]


def onsets_of(sweep: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {onset["criterion"]: onset for onset in sweep["onsets"]}


def test_oxidation_is_found_where_it_is_and_passivates(bench, run_protocol) -> None:
    run = run_protocol("lsv_window", bench(), ANODIC)
    first, second = sweeps_of(run)
    assert (first["scan"], second["scan"]) == (1, 2)
    assert first["begin_v"] == pytest.approx(2.6, abs=0.001)
    assert first["end_v"] == pytest.approx(4.8, abs=0.005)
    onsets = onsets_of(first)
    assert list(onsets) == CRITERIA
    told = [event["data"] for event in run.events("onset")]
    assert [(each["scan"], each["criterion"]) for each in told] == [
        (scan, criterion) for scan in (1, 2) for criterion in CRITERIA
    ]
    assert [each["potential_v"] for each in told[:6]] == [
        each["potential_v"] for each in first["onsets"]
    ]
    for density in (1, 2, 5, 10):
        found = onsets[f"{density} uA/cm2"]
        assert found["potential_v"] == pytest.approx(oxidised_at_v(density), abs=0.020)
    # Passivation has hardly begun at the lowest threshold.
    assert onsets["1 uA/cm2"]["potential_v"] == pytest.approx(oxidised_at_v(1), abs=0.002)
    assert first["charge_c"] == pytest.approx(CELL["passivation_charge_c"], rel=0.05)
    assert [each["potential_v"] for each in onsets_of(second).values()] == [None] * 6
    (ratio,) = [event["data"] for event in run.events("charge_ratio")]
    assert ratio["scan"] == 2
    assert abs(ratio["ratio"]) < 0.05


def test_a_scan_begins_at_the_open_circuit_found_before_it(bench, run_protocol) -> None:
    run = run_protocol("lsv_window", bench(), ANODIC)
    rests, points = run.frames("ocp"), run.frames("lsv")
    for sweep in sweeps_of(run):
        rest = rests[rests["step"] == sweep["step"] - 1]["potential_v"]
        begin_v = points[points["step"] == sweep["step"]]["potential_v"].iloc[0]
        assert sweep["ocv_v"] == pytest.approx(rest.iloc[-10:].mean(), abs=1e-4)
        assert begin_v == pytest.approx(sweep["ocv_v"], abs=1e-3)
    second = sweeps_of(run)[1]
    assert second["ocv_v"] > 2.7
    assert any(said.startswith("not at rest: ") for said in second["warnings"])


def test_reduction_is_weak_below_1_4_v_and_strong_below_0_5_v(bench, run_protocol) -> None:
    run = run_protocol("lsv_window", bench(), CATHODIC)
    (sweep,) = sweeps_of(run)
    onsets = onsets_of(sweep)
    assert sweep["direction"] == "cathodic"
    assert onsets["1 uA/cm2"]["potential_v"] == pytest.approx(1.4, abs=0.020)
    assert onsets["10 uA/cm2"]["potential_v"] == pytest.approx(0.5, abs=0.030)
    for density in (1, 5, 10):
        found_v = onsets[f"{density} uA/cm2"]["potential_v"]
        truth = reduction_ua_per_cm2
        assert truth(found_v + 0.02) < density < truth(found_v - 0.02)
    points = run.frames("lsv")
    at = points.set_index("potential_v")["current_a"].sort_index()
    assert at.loc[1.7:1.8].abs().max() / AREA_CM2 < 0.1e-6
    assert 1.5e-6 < at.loc[0.9:1.2].abs().mean() / AREA_CM2 < 2.5e-6
    assert at.loc[0.29:0.32].abs().mean() / AREA_CM2 > 50e-6


def test_potentials_are_shifted_to_lithium_by_the_sample_s_reference(bench, run_protocol) -> None:
    run = run_protocol(
        "lsv_window",
        bench({"reference_potential": '"0.62 V"'}),
        {**CATHODIC, "end_potential": "0.9 V"},
    )
    (sweep,) = sweeps_of(run)
    assert sweep["reference_shift_v"] == 0.62
    onset = onsets_of(sweep)["1 uA/cm2"]
    assert onset["potential_vs_li_v"] == pytest.approx(onset["potential_v"] + 0.62)


def test_a_sweep_ends_at_the_largest_density(bench, run_protocol) -> None:
    asked = {**CATHODIC, "end_potential": "0 V", "largest_density": "20 uA/cm^2"}
    (sweep,) = sweeps_of(run_protocol("lsv_window", bench(), asked))
    assert sweep["ended_by"].startswith("current above ")
    assert sweep["end_v"] > 0.3
    assert any(said.startswith("ended early: current above") for said in sweep["warnings"])


def test_an_end_on_the_wrong_side_of_the_open_circuit_fails_the_run(bench, run_protocol) -> None:
    asked = {**ANODIC, "end_potential": "2.5 V", "expected_ocv": "2 V"}
    run = run_protocol("lsv_window", bench(), asked, reason=Reason.FAILED)
    assert (
        "no anodic sweep from the measured open-circuit potential of 2.6 V" in run.stop["message"]
    )


def test_onsets_against_temperature_are_those_of_a_cell_without_a_trend(
    bench, run_protocol
) -> None:
    asked = {
        **{key: value for key, value in CATHODIC.items() if key != "n_scans"},
        "temperatures": ["26 degC", "40 degC"],
        "dwell": "5 min",
        "ramp_rate": "5 K/min",
        "step": "8 mV",
    }
    run = run_protocol("temperature_lsv", bench(), asked)
    assert [sweep["key"] for sweep in sweeps_of(run)] == [
        "01-heating-26.0C/lsv",
        "02-heating-40.0C/lsv",
    ]
    (event,) = run.events("onset_temperature")
    trend = event["data"]["trends"]["1 uA/cm2"]
    temperatures_k = [onset["temperature_k"] for onset in trend["onsets"]]
    assert temperatures_k == pytest.approx([299.15, 313.15], abs=0.2)
    for onset in trend["onsets"]:
        assert onset["potential_v"] == pytest.approx(1.4, abs=0.020)
    assert abs(trend["line"]["slope_v_per_k"]) < 3 * trend["line"]["u_slope_v_per_k"]
    assert trend["line"]["onset_25c_v"] == pytest.approx(1.4, abs=0.020)
    assert "history" in event["data"]["warnings"][0]


def test_too_few_onsets_give_no_trend_and_say_so(bench, run_protocol) -> None:
    asked = {**ANODIC, "end_potential": "4 V", "temperatures": ["26 degC"], "dwell": "5 min"}
    run = run_protocol("temperature_lsv", bench(), asked)
    (event,) = run.events("onset_temperature")
    trend = event["data"]["trends"]["1 uA/cm2"]
    assert (trend["line"], trend["reason"]) == (None, "no onset at any temperature")
    assert trend["onsets"][0]["reason"].startswith("not reached: at most ")


def parameters_of(**given: Any) -> LsvWindowParameters:
    return validate(LsvWindowParameters, {**ANODIC, **given}, source="p.toml")


def test_the_plan_rests_before_each_scan() -> None:
    steps = plan(parameters_of(n_scans=2, temperature="25 degC"), SAMPLE)
    keys = [step.key for step in steps]
    assert keys == ["settle", "scan-1/ocp", "scan-1/lsv", "scan-2/ocp", "scan-2/lsv"]
    assert steps[2].expected_duration_s == pytest.approx(2.2 / 1e-4, rel=0.01)


def test_the_plan_against_temperature_sweeps_at_each_one() -> None:
    asked = {**ANODIC, "temperatures": ["25 degC", "40 degC"], "cooling_branch": True}
    parameters = validate(TemperatureLsvParameters, asked, source="p.toml")
    keys = [step.key for step in plan_against_temperature(parameters, SAMPLE)]
    assert [key for key in keys if key.endswith("/lsv")] == [
        "01-heating-25.0C/lsv",
        "02-heating-40.0C/lsv",
        "03-cooling-25.0C/lsv",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"end_potential": "2 V"}, "expected above expected_ocv for anodic"),
        ({"direction": "cathodic"}, "expected below expected_ocv for cathodic"),
        ({"direction": "up"}, "direction = 'up'"),
        ({"rate": "0.1 mV"}, "a scan rate"),
        ({"step": "0 V"}, "greater than 0"),
        ({"n_scans": 0}, "n_scans = 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given, message) -> None:
    with pytest.raises(BadInputError, match=message):
        parameters_of(**given)


def test_an_end_beyond_the_rig_s_limit_is_refused_before_anything_is_opened(
    bench, run_protocol
) -> None:
    with pytest.raises(BadInputError, match=r"step scan-1/lsv: end_v = 5.5 V"):
        run_protocol("lsv_window", bench(), {**ANODIC, "end_potential": "5.5 V"})
