"""Cycling from parameters to capacities, on simulated cells whose losses are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labctl.config import SampleConfig, validate
from labctl.errors import BadInputError
from labctl_protocols.cycling import CyclingParameters, plan
from tests.protocols.cell_bench import WINDOW, on_cell, results

if TYPE_CHECKING:
    from pathlib import Path

CURRENT_A = 1.1e-3  # one charge per hour of 1.1 mA h
INTERVAL_S = 30.0
QUICK = {
    **WINDOW,
    "rates": [{"c_rate": 1.0, "n_cycles": 2}],
    "rest": "0 s",
    "interval": f"{INTERVAL_S:g} s",
}
WIRED = 'cell = "llo"\n'


def test_charges_are_the_current_s_and_ends_are_the_window_s(tmp_path: Path) -> None:
    run = on_cell("cycling", QUICK, folder=tmp_path)
    assert run.summary.outcome == "completed"
    cp = run.frames("cp")
    for _, half in cp.groupby("step"):
        true_c = CURRENT_A * half["elapsed_s"].iloc[-1]
        assert abs(half["charge_c"].iloc[-1]) == pytest.approx(true_c, abs=CURRENT_A * INTERVAL_S)
    ends_v = cp.groupby("step")["potential_v"].last().to_numpy() + 0.62
    assert ends_v[::2] == pytest.approx(4.8, abs=0.05)
    assert ends_v[1::2] == pytest.approx(2.6, abs=0.2)


def test_efficiency_and_retention_are_those_of_the_measured_charges(tmp_path: Path) -> None:
    run = on_cell("cycling", QUICK, folder=tmp_path)
    charges_c = run.frames("cp").groupby("step")["charge_c"].last().abs().to_numpy()
    first, second = results(run, "cycle")
    assert first["coulombic_efficiency"] == pytest.approx(charges_c[1] / charges_c[0])
    assert second["retention"] == pytest.approx(charges_c[3] / charges_c[1])
    assert second["discharge_capacity_mah_per_g"] == pytest.approx(charges_c[3] / 3.6 / 5.2e-3)


def test_a_cell_without_side_reaction_and_loss_gives_back_what_it_took(tmp_path: Path) -> None:
    ideal = {"side_reaction_current_a = 2e-7": "side_reaction_current_a = 0.0"}
    several = {**QUICK, "rates": [{"c_rate": 1.0, "n_cycles": 5}]}
    last = results(on_cell("cycling", several, folder=tmp_path, world=ideal), "cycle")[-1]
    assert last["coulombic_efficiency"] == pytest.approx(1.0, abs=1e-3)


def test_the_cell_without_chloride_loses_a_fifth_and_more(tmp_path: Path) -> None:
    bad = {WIRED: 'cell = "llo-without-chloride"\n'}
    slow = {**QUICK, "rates": [{"current_density": "0.09 mA/cm^2", "n_cycles": 2}]}
    second = results(on_cell("cycling", slow, folder=tmp_path, world=bad), "cycle")[1]
    assert second["coulombic_efficiency"] < 0.8


def test_a_source_that_cannot_keep_its_current_shows_in_the_charge(tmp_path: Path) -> None:
    """Beyond the compliance less current flows than was set: capacities count what flowed."""
    resistive = {
        "series_resistance_ohm = 20.0": "series_resistance_ohm = 20000.0",
        "side_reaction_current_a = 2e-7": "side_reaction_current_a = 0.0",
    }
    unlimited = {'potential_min = "1.5 V"\npotential_max = "4.4 V"\n': ""}
    parameters = {**QUICK, "rates": [{"c_rate": 1.0}]}
    run = on_cell("cycling", parameters, folder=tmp_path, world=resistive, rig=unlimited)
    cp = run.frames("cp")
    assert np.abs(cp["current_a"]).max() < 0.5 * CURRENT_A
    charges_c = cp.groupby("step")["charge_c"].last().abs().to_numpy()
    (only,) = results(run, "cycle")
    assert only["coulombic_efficiency"] == pytest.approx(charges_c[1] / charges_c[0])
    assert abs(only["coulombic_efficiency"] - 1.0) > 0.2


def test_a_hold_follows_the_charge_and_ends_with_the_current(tmp_path: Path) -> None:
    run = on_cell("cycling", {**QUICK, "cv_until": "20 %"}, folder=tmp_path)
    hold = run.frames("ca")
    assert hold["potential_v"].to_numpy() + 0.62 == pytest.approx(4.8, abs=0.01)
    assert hold.groupby("step")["current_a"].last().to_numpy() == pytest.approx(
        0.2 * CURRENT_A, rel=0.1
    )


def test_it_ends_early_when_the_cell_has_faded(tmp_path: Path) -> None:
    fading = {"capacity_loss_c_per_c = 1.4e-4": "capacity_loss_c_per_c = 5e-2"}
    many = {**QUICK, "rates": [{"c_rate": 1.0, "n_cycles": 40}], "end_below": "80 %"}
    run = on_cell("cycling", many, folder=tmp_path, world=fading)
    cycles = results(run, "cycle")
    assert run.summary.outcome == "completed"
    assert cycles[-1]["retention"] < 0.8 <= cycles[-2]["retention"]
    assert "ended early: retention of" in run.ending.sentence


def test_what_the_rates_leave(tmp_path: Path) -> None:
    rates = [{"c_rate": 0.5, "n_cycles": 2}, {"c_rate": 2.0, "n_cycles": 2}]
    run = on_cell("rate_capability", {**QUICK, "rates": rates}, folder=tmp_path)
    slow, fast, again = results(run, "rate")
    assert fast["share_of_first_cycle"] < slow["share_of_first_cycle"]
    assert again["share_of_first_cycle"] == pytest.approx(slow["share_of_first_cycle"], abs=0.03)


def checked(**parameters: Any) -> CyclingParameters:
    return validate(CyclingParameters, {**QUICK, **parameters}, source="cycling.toml")


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"lower_potential": "5 V"}, "lower_potential: expected less than upper_potential"),
        ({"rates": []}, "rates = .*expected at least one"),
        ({"rates": [{"n_cycles": 3}]}, "expected one of current, current_density, c_rate"),
        ({"rates": [{"c_rate": 1.0, "current": "1 mA"}]}, "found current and c_rate"),
        ({"cv_until": "200 %"}, "cv_until = '200 %'"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInputError, match=complaint):
        checked(**parameters)


def test_what_the_sample_does_not_tell_is_asked_for() -> None:
    with pytest.raises(BadInputError, match="nominal_capacity: missing"):
        plan(checked(), SampleConfig(name="x", reference_potential=0.62))
    with pytest.raises(BadInputError, match="reference_potential: missing"):
        plan(checked(), SampleConfig(name="x", nominal_capacity=4.0))
