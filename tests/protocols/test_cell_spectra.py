"""Spectra of whole cells, while they are cycled and while they rest."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labctl.config import validate
from labctl.errors import BadInputError
from labctl_protocols.stability_eis import StabilityEisParameters
from tests.protocols.cell_bench import BENCH, WINDOW, on_cell, results

if TYPE_CHECKING:
    from pathlib import Path

CYCLING = {
    **WINDOW,
    "c_rate": 0.5,
    "n_cycles": 1,
    "eis_every_soc": "25 %",
    "interval": "60 s",
}
STABILITY = {"duration": "6 hours", "every": "2 hours", "interval": "5 min"}


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    return tomllib.loads((BENCH / "world.toml").read_text())["cells"]["llo"]


@pytest.fixture(scope="module")
def cycled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return on_cell("cycling_eis", CYCLING, folder=tmp_path_factory.mktemp("cycled"))


def test_a_spectrum_follows_every_piece_of_each_half(cycled: Any) -> None:
    assert cycled.summary.outcome == "completed"
    spectra = results(cycled, "drt")
    charging = [each for each in spectra if each["direction"] == "charge"]
    assert len(charging) >= 4
    assert len(spectra) == len(set(cycled.frames("eis")["step"]))
    states = [each["state_of_charge"] for each in charging]
    assert states == sorted(states)
    assert states[0] == pytest.approx(0.25, abs=0.02)


def test_a_spectrum_lies_around_the_potential_that_the_cell_came_to(cycled: Any) -> None:
    bias_v = cycled.frames("eis").groupby("step")["bias_v"].mean().to_numpy()
    rested_v = [each["potential_v"] for each in results(cycled, "drt")]
    assert bias_v == pytest.approx(rested_v, abs=2e-3)


def test_three_processes_are_seen_at_200_khz_and_the_fastest_is_said_to_be_in_r0(
    cycled: Any, truth: dict[str, Any]
) -> None:
    middle = min(results(cycled, "drt"), key=lambda each: abs(each["state_of_charge"] - 0.5))
    decades = [float(np.log10(peak["tau_s"])) for peak in middle["peaks"]]
    assert decades == pytest.approx([-4.0, -0.8, 0.5], abs=0.4)
    for peak, name in zip(
        middle["peaks"], ("interphase", "fast_transfer", "slow_transfer"), strict=True
    ):
        assert peak["r_ohm"] == pytest.approx(truth[f"{name}_resistance_ohm"], rel=0.25)
    fastest_ohm = truth["series_resistance_ohm"] + truth["electrolyte_resistance_ohm"]
    assert 0.6 * fastest_ohm < middle["r0_ohm"] < fastest_ohm
    assert "lie outside the window of frequencies: they are part of R0" in middle["warnings"][0]


def test_charge_transfer_moves_with_the_state_of_charge_and_comes_back(cycled: Any) -> None:
    spectra = results(cycled, "drt")
    by_state = {each["direction"]: {} for each in spectra}
    for each in spectra:
        place = round(each["state_of_charge"] * 4) / 4
        by_state[each["direction"]][place] = each["r_polarization_ohm"]
    there, back = by_state["charge"], by_state["discharge"]
    assert there[0.25] > 1.1 * there[0.75]
    assert back[0.5] == pytest.approx(there[0.5], rel=0.1)


def test_a_cell_at_rest_stays_what_it_is(tmp_path: Path) -> None:
    run = on_cell("stability_eis", STABILITY, folder=tmp_path)
    assert run.summary.outcome == "completed"
    spectra = results(run, "stability")
    assert len(spectra) == 4
    assert [each["elapsed_s"] for each in spectra] == pytest.approx(
        [0, 7200, 14400, 21600], abs=300
    )
    assert all(each["rms_relative_change"] < 0.01 for each in spectra)
    assert not any(each["is_significant"] for each in results(run, "trend"))


def test_spectra_that_take_longer_than_their_interval_are_refused() -> None:
    with pytest.raises(BadInputError, match="every: a spectrum takes about"):
        validate(StabilityEisParameters, {**STABILITY, "every": "5 min"}, source="p.toml")
