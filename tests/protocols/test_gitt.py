"""Titrations from parameters to diffusion and efficiency, on a cell whose truth is in its file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labctl import assembly
from labctl.config import SampleConfig, load, read_toml, validate
from labctl.errors import BadInputError, LimitError
from labctl.testing import simulate
from labctl_protocols.gitt import GittParameters, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.run.progress import Progress
    from labctl.store.reading import StoredRun

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
BENCH = EXAMPLES / "titration-bench"
CELL = read_toml(BENCH / "world.toml")["cells"]["cell"]
EXAMPLE = read_toml(BENCH / "gitt.toml")
SAMPLE = load(SampleConfig, BENCH / "sample.toml")
TRUE_CM2_PER_S = CELL["diffusion_coefficient_cm2_per_s"]
TO_LI_V = CELL["reference_potential_v"]
SHORT = {
    **EXAMPLE,
    "branches": "charge",
    "max_pulses": 1,
    "rest_duration": "20 min",
    "pulse_duration": "100 s",
}


def titrate(folder: Path, parameters: Mapping[str, Any], *, bench: Path = BENCH) -> StoredRun:
    return simulate(
        "gitt",
        folder=folder,
        parameters=parameters,
        rig=bench / "rig.toml",
        sample=bench / "sample.toml",
    )


def results(run: StoredRun, stream: str) -> list[dict[str, Any]]:
    return [event["data"] for event in run.events(stream)]


@pytest.fixture(scope="module")
def titrated(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """The example, carried out once."""
    return titrate(tmp_path_factory.mktemp("gitt"), EXAMPLE)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """The same cell and current, only interrupted: from the same state up as far."""
    changes = {"mode": "ici", "branches": "charge", "upper_potential": "4.4 V", "max_pulses": 9}
    parameters = {**EXAMPLE, **changes, "pulse_duration": "7 min", "rest_duration": "2 min"}
    return titrate(tmp_path_factory.mktemp("ici"), parameters)


def found_cm2_per_s(run: StoredRun) -> np.ndarray:
    """The coefficients that a run trusts."""
    values = [pulse["d_cm2_per_s"] for pulse in results(run, "gitt")]
    return np.array([value for value in values if value is not None])


def test_the_coefficient_is_the_cell_s(titrated: StoredRun) -> None:
    pulses = results(titrated, "gitt")
    whole = [pulse for pulse in pulses if not pulse["pulse_ended_by"]]
    assert len(whole) > 12
    for pulse in whole:
        assert pulse["warnings"] == []
        assert pulse["d_cm2_per_s"] == pytest.approx(TRUE_CM2_PER_S, rel=0.1)
        assert abs(pulse["d_cm2_per_s"] - TRUE_CM2_PER_S) < 2.5 * pulse["u_d_cm2_per_s"]
        assert pulse["d_m2_per_s"] == pytest.approx(pulse["d_cm2_per_s"] * 1e-4)
    (summary,) = results(titrated, "gitt_summary")
    for branch in summary["branches"].values():
        assert branch["d_median_m2_per_s"] == pytest.approx(TRUE_CM2_PER_S * 1e-4, rel=0.07)


def test_interruptions_find_the_coefficient_of_the_titration_in_less_time(
    titrated: StoredRun, interrupted: StoredRun
) -> None:
    by_pulses, by_interruptions = found_cm2_per_s(titrated), found_cm2_per_s(interrupted)
    assert by_interruptions.size >= 3
    assert np.median(by_interruptions) == pytest.approx(np.median(by_pulses), rel=0.15)
    assert by_interruptions == pytest.approx(TRUE_CM2_PER_S, rel=0.15)
    assert interrupted.frames("temperature")["time_s"].max() < 0.3 * (
        titrated.frames("temperature")["time_s"].max()
    )
    first = results(interrupted, "gitt")[0]
    assert first["d_cm2_per_s"] is None
    assert "the first interruption" in first["warnings"][0]


def test_each_branch_ends_at_its_potential(titrated: StoredRun) -> None:
    pulses = results(titrated, "gitt")
    (summary,) = results(titrated, "gitt_summary")
    for direction, limit_v in (("charge", 4.21), ("discharge", 4.113)):
        ended_by = [each["pulse_ended_by"] for each in pulses if each["direction"] == direction]
        assert not any(ended_by[:-1])
        assert ended_by[-1].startswith("potential")
        assert summary["branches"][direction]["ended_by"] == ended_by[-1]
        last = next(each for each in reversed(pulses) if each["direction"] == direction)
        assert last["pulse_end_v_vs_li"] == pytest.approx(limit_v, abs=1e-3)
        assert last["pulse_end_v"] + TO_LI_V == pytest.approx(last["pulse_end_v_vs_li"])


def test_every_point_is_stored(titrated: StoredRun) -> None:
    assert titrated.summary.outcome == "completed"
    ends = [step for step in results(titrated, "step") if step["phase"] == "end"]
    for stream in ("cp", "ocp"):
        stored = titrated.frames(stream).groupby("step").size()
        for step in (each for each in ends if each["kind"] == stream):
            assert stored[step["index"]] == step["result"]["n_points"]


def test_the_loss_is_what_the_side_reaction_took(titrated: StoredRun) -> None:
    (summary,) = results(titrated, "gitt_summary")
    charge, discharge = (summary["branches"][each]["charge_c"] for each in ("charge", "discharge"))
    last_c = titrated.frames("cp").groupby("step")["charge_c"].last()
    assert charge == pytest.approx(last_c[last_c > 0].sum())
    assert summary["coulombic_efficiency"] == pytest.approx(-discharge / charge)
    assert summary["lost_share"] * charge == pytest.approx(side_reaction_c(titrated), rel=0.1)


def side_reaction_c(run: StoredRun) -> float:
    """Return what Tafel's law takes at the potentials that were measured."""
    total_c = 0.0
    for stream in ("cp", "ocp"):
        for step, points in run.frames(stream).groupby("step"):
            beyond_v = points["potential_v"] + TO_LI_V - CELL["side_reaction_potential_v"]
            current_a = CELL["side_reaction_current_a"] * 10 ** (
                beyond_v / CELL["side_reaction_v_per_decade"]
            )
            is_before_the_first_pulse = step <= 1
            if not is_before_the_first_pulse:
                total_c += float(np.trapezoid(current_a, points["elapsed_s"]))
    return total_c


def test_charge_and_resistances_are_told(titrated: StoredRun) -> None:
    pulses = results(titrated, "gitt")
    net_c = np.cumsum([pulse["charge_c"] for pulse in pulses])
    assert [pulse["net_charge_c"] for pulse in pulses] == pytest.approx(list(net_c))
    states = net_c / SAMPLE.nominal_capacity
    assert [pulse["state_of_charge"] for pulse in pulses] == pytest.approx(list(states))
    for pulse in pulses:
        assert pulse["r_time_s"] == pytest.approx(1.0, abs=0.01)
        assert 100.0 < pulse["r_ohm"] < pulse["r_10s_ohm"] < pulse["r_tau_ohm"]
        assert abs(pulse["rest_slope_v_per_s"]) < 1e-6
        assert pulse["rest_ended_by"].startswith("changed by less than 0.0001 V")
        assert np.sign(pulse["overpotential_v"]) == np.sign(pulse["current_a"])


def test_a_pulse_that_is_too_long_gives_no_coefficient(tmp_path: Path) -> None:
    (pulse,) = results(titrate(tmp_path, {**SHORT, "pulse_duration": "20 min"}), "gitt")
    assert pulse["d_m2_per_s"] is None
    assert any("L^2/D: expected at most 0.1" in said for said in pulse["warnings"])
    assert pulse["r_ohm"] > 0


def test_a_rest_that_is_too_short_gives_no_coefficient(tmp_path: Path) -> None:
    short = {**SHORT, "pulse_duration": "5 min", "rest_duration": "5 min", "rest_window": "4 min"}
    (pulse,) = results(titrate(tmp_path, short), "gitt")
    assert pulse["d_m2_per_s"] is None
    assert any("the rest was too short" in said for said in pulse["warnings"])


def test_where_the_curve_bends_within_a_pulse_there_is_no_coefficient(tmp_path: Path) -> None:
    bench = EXAMPLES / "cell-bench"
    nearly_empty = {**SHORT, "lower_potential": "2.6 V", "upper_potential": "4.8 V"}
    run = titrate(tmp_path, {**nearly_empty, "pulse_duration": "5 min"}, bench=bench)
    (pulse,) = results(run, "gitt")
    assert pulse["d_m2_per_s"] is None
    assert any("no straight line" in said for said in pulse["warnings"])


def test_what_the_sample_does_not_tell_is_left_out_and_said(tmp_path: Path) -> None:
    bench = tmp_path / "changed"
    shutil.copytree(BENCH, bench)
    (bench / "sample.toml").write_text('name = "unknown"\ndiameter = "10 mm"\n')
    window = {"potential_scale": "reference", "lower_potential": "3 V", "upper_potential": "4 V"}
    run = titrate(tmp_path, {**SHORT, **window}, bench=bench)
    (pulse,) = results(run, "gitt")
    assert pulse["state_of_charge"] is None
    assert pulse["rest_v_vs_li"] is None
    assert pulse["warnings"] == ["no diffusion length"]
    (summary,) = results(run, "gitt_summary")
    assert summary["coulombic_efficiency"] is None
    assert any("one branch only" in said for said in summary["warnings"])
    assert any("Li+/Li" in said for said in summary["warnings"])


def test_the_plan_asks_for_one_pulse_and_allows_for_the_capacity() -> None:
    steps = plan(validate(GittParameters, EXAMPLE, source="test"), SAMPLE)
    assert [step.key for step in steps[:4]] == [
        "settle",
        "charge/rest",
        "charge-001/pulse",
        "charge-001/rest",
    ]
    pulses = [step for step in steps if step.kind == "cp"]
    needed = [step.key for step in pulses if not step.is_optional]
    assert needed == ["charge-001/pulse", "discharge-001/pulse"]
    current_a = 1.2 * np.pi * 0.005**2
    assert len(pulses) == 2 * np.ceil(1.25 * 5.4 / (current_a * 300.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rest_interval": "20 min"}, "rest_interval: expected at most rest_window"),
        ({"pulse_interval": "6 min"}, "pulse_interval: expected at most pulse_duration"),
        ({"pulse_duration": "1 s"}, "expected at most 5000"),
        ({"current": "1 mA"}, "expected one of current, current_density, c_rate"),
        ({"upper_potential": "5.5 V"}, "step charge-001/pulse: stop.potential_above_v = 4.88 V"),
        ({"current_density": "7 mA/cm^2"}, "step charge-001/pulse: current_a"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes, message: str) -> None:
    request = assembly.RunRequest(
        protocol="gitt",
        rig=BENCH / "rig.toml",
        sample=BENCH / "sample.toml",
        parameters={**EXAMPLE, **changes},
        data=tmp_path,
    )
    with pytest.raises((BadInputError, LimitError)) as caught:
        assembly.check(request)
    assert message in str(caught.value)


def test_progress_runs_down_while_a_pulse_runs(tmp_path: Path) -> None:
    told: list[Progress] = []
    request = assembly.RunRequest(
        protocol="gitt",
        rig=BENCH / "rig.toml",
        sample=BENCH / "sample.toml",
        parameters={**SHORT, "max_pulses": 2},
        data=tmp_path,
        is_simulated=True,
    )
    assembly.run(request, told.append)
    during = [each for each in told if each.step == "charge-001/pulse" and each.last_point]
    left_s = np.array([each.time_left_s for each in during])
    assert np.all(np.diff(left_s) <= 0.0)
    assert left_s[0] - left_s[-1] == pytest.approx(99.0, abs=5.0)
    assert {"elapsed_s", "potential_v", "charge_c"} <= during[-1].last_point.keys()
    assert told[-1].steps_done == told[-1].steps_total
