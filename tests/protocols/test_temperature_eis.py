"""`temperature_eis` from parameters to activation energy, on pellets whose truth is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labctl import assembly
from labctl.config import validate
from labctl.documents import Reason
from labctl.errors import BadInputError
from labctl.quantities import kelvin
from labctl.store.reading import open_store
from labctl_protocols.temperature_eis import TemperatureEisParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from labctl.store.reading import StoredRun

THICKNESS_CM, AREA_CM2 = 0.1, np.pi * 0.5**2
TEMPERATURES = {"start": "25 degC", "stop": "73 degC", "step": "16 K"}


@dataclass(frozen=True)
class Truth:
    """What a pellet is made of, drawn from a seed that neither run nor fit knows."""

    sigma_25c_s_per_cm: float
    activation_energy_ev: float

    @classmethod
    def drawn(cls, seed: int) -> Truth:
        random = np.random.default_rng(seed)
        return cls(10.0 ** random.uniform(-8.0, np.log10(3e-3)), random.uniform(0.25, 0.8))

    @property
    def resistance_ohm(self) -> float:
        return THICKNESS_CM / (AREA_CM2 * self.sigma_25c_s_per_cm)

    def world(self, seed: int) -> dict[str, str]:
        """Return the pellet for a world file; electrons carry next to nothing of the current."""
        return {
            "seed": str(seed),
            "conductivity_s_per_cm": repr(self.sigma_25c_s_per_cm),
            "activation_energy_ev": repr(self.activation_energy_ev),
            "electronic_conductivity_s_per_cm": repr(1e-5 * self.sigma_25c_s_per_cm),
            "electrode_cpe_q_siemens_s_n": "2e-6",
        }

    def careful_parameters(self) -> dict[str, Any]:
        """Return what a person chooses who knows the resistance from a first look.

        The current stays well above 12 nA, below which the lowest range is underfilled, and the
        window reaches down to where the electrodes' spike begins.
        """
        amplitude, lowest = next(
            (amplitude, lowest)
            for limit_ohm, amplitude, lowest in (
                (1e4, "10 mV", "10 Hz"),
                (1e6, "50 mV", "1 Hz"),
                (np.inf, "300 mV", "0.5 Hz"),
            )
            if self.resistance_ohm < limit_ohm
        )
        return {
            "temperatures": TEMPERATURES,
            "amplitude_v_rms": amplitude,
            "frequency_end": lowest,
        }


@pytest.fixture
def measure(tmp_path: Path, write_bench: Callable[..., Path]) -> Callable[..., StoredRun]:
    """Runs `temperature_eis` over MQTT into a store, and gives the stored run."""

    def measured(world: Mapping[str, str], parameters: Mapping[str, Any]) -> StoredRun:
        folder = write_bench(tmp_path / "bench", world=world)
        report = assembly.run(
            assembly.RunRequest(
                protocol="temperature_eis",
                rig=folder / "rig.toml",
                sample=folder / "sample.toml",
                parameters=parameters,
                data=tmp_path / "data",
                is_simulated=True,
            ),
            lambda _: None,
        )
        assert report.ending.reason is Reason.COMPLETED, report.ending.message
        assert report.undelivered == ""
        return open_store(report.store).run(report.run_id)

    return measured


@pytest.mark.parametrize("seed", [1, 10, 11])
def test_a_hidden_truth_is_found(measure, seed: int) -> None:
    truth = Truth.drawn(seed)
    run = measure(truth.world(seed), truth.careful_parameters())
    (line,) = run.events("arrhenius")
    found = line["data"]["primary"]
    assert found["sigma_25_s_per_cm"] == pytest.approx(truth.sigma_25c_s_per_cm, rel=0.03)
    assert found["ea_ev"] == pytest.approx(truth.activation_energy_ev, abs=0.01)


@pytest.mark.parametrize("lag_s", ["600.0", "1200.0"])
def test_a_resistive_pellet_that_lags_its_stage_is_waited_for(measure, lag_s: str) -> None:
    truth = Truth(1e-8, 0.78)
    run = measure({**truth.world(1), "sample_lag_s": lag_s}, truth.careful_parameters())
    line = run.events("arrhenius")[0]["data"]["primary"]
    assert line["sigma_25_s_per_cm"] == pytest.approx(truth.sigma_25c_s_per_cm, rel=0.025)
    assert line["ea_ev"] == pytest.approx(truth.activation_energy_ev, abs=0.005)
    off = line["sigma_25_s_per_cm"] - truth.sigma_25c_s_per_cm
    assert abs(off) < 3 * line["u_sigma_25_s_per_cm"]


def test_a_probe_counts_only_points_of_a_fitting_current_range(measure) -> None:
    truth = Truth(1e-8, 0.78)
    run = measure(truth.world(1), truth.careful_parameters())
    ends = [step["data"] for step in run.events("step") if step["data"]["phase"] == "end"]
    for settle in [step["result"] for step in ends if step["kind"] == "settle"]:
        assert abs(settle["probe_change"]) < 0.02
        assert abs(settle["probe_remainder"]) < 0.02


def test_what_has_not_settled_is_kept_out_of_the_line(measure, quick) -> None:
    hurried = {
        **quick,
        "temperatures": ["26 degC", "70 degC", "27 degC"],
        "settle_timeout": "5 min",
    }
    run = measure({}, hurried)
    (line,) = run.events("arrhenius")
    assert "not settled" in line["data"]["warnings"][-1]
    assert "primary" not in line["data"]


def test_a_line_after_fixed_dwells_says_that_the_sample_was_not_probed(
    measure, quick, quick_world
) -> None:
    parameters = {
        **quick,
        "temperatures": ["26 degC", "34 degC", "42 degC"],
        "equilibration": "fixed",
        "dwell": "10 min",
    }
    line = measure(quick_world, parameters).events("arrhenius")[0]["data"]
    assert "sample not probed" in line["warnings"][-1]
    assert line["primary"]["ea_ev"] == pytest.approx(0.38, abs=3 * line["primary"]["u_ea_ev"])


def test_the_seeds_draw_pellets_that_differ() -> None:
    resistances_ohm = [Truth.drawn(seed).resistance_ohm for seed in (1, 10, 11)]
    assert max(resistances_ohm) > 100.0 * min(resistances_ohm)


def test_a_cooling_branch_gives_both_branches(measure, quick, quick_world) -> None:
    parameters = {
        **quick,
        "temperatures": ["26 degC", "32 degC", "38 degC", "44 degC"],
        "cooling_branch": True,
        "settle_window": "30 s",
    }
    run = measure(quick_world, parameters)
    fits = [event["data"] for event in run.events("fit")]
    assert [fit["branch"] for fit in fits] == ["heating"] * 4 + ["cooling"] * 3
    celsius = [round(fit["temperature_k"] - kelvin(0.0)) for fit in fits]
    assert celsius == [26, 32, 38, 44, 38, 32, 26]
    (line,) = run.events("arrhenius")
    assert set(line["data"]["branches"]) == {"heating", "cooling"}
    for branch in line["data"]["branches"].values():
        assert branch["ea_ev"] == pytest.approx(0.38, abs=0.03)


def test_the_first_frequency_is_measured_again_at_the_end(measure, quick, quick_world) -> None:
    run = measure(quick_world, {**quick, "temperatures": ["26 degC"]})
    points = run.frames("eis")
    assert list(points["is_repeat"]) == [0.0] * (len(points) - 1) + [1.0]
    assert points["frequency_hz"].iloc[-1] == points["frequency_hz"].iloc[0]
    (fit,) = run.events("fit")
    assert abs(fit["data"]["drift"]) < 0.01


def test_two_temperatures_give_no_activation_energy_and_say_so(measure, quick, quick_world) -> None:
    run = measure(quick_world, quick)
    (line,) = run.events("arrhenius")
    assert line["data"] == {"warnings": ["fewer than 3 temperatures: no activation energy"]}


def parameters_of(**given: Any) -> TemperatureEisParameters:
    asked = {"temperatures": ["25 degC"], **given}
    return validate(TemperatureEisParameters, asked, source="p.toml")


def test_points_per_decade_count_from_end_to_end() -> None:
    sweep = parameters_of(
        frequency_start="100 kHz", frequency_end="1 Hz", points_per_decade=10
    ).sweep()
    assert sweep.n_points == 51
    assert sweep.expected_points == 52


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"temperatures": []}, "p.toml: temperatures = []: expected at least one"),
        ({"temperatures": "25 degC"}, "temperatures = '25 degC': expected a list in brackets"),
        ({"temperatures": ["25 V"]}, "temperatures.0 = '25 V': expected a temperature, such as"),
        ({"temperatures": ["25 degC", 30]}, "temperatures.1 = 30: expected a temperature with its"),
        ({"temperatures": {"start": "25 degC", "stop": "75 degC"}}, "temperatures.step: missing"),
        (
            {"temperatures": {"start": "25 degC", "stop": "75 degC", "step": "0 K"}},
            "temperatures.step = '0 K': Input should be greater than 0",
        ),
        ({"temprature": "25 degC"}, "p.toml: temprature: unknown key"),
        ({"amplitude": "10 mV"}, "p.toml: amplitude: unknown key"),
        ({"amplitude_v_rms": "0 mV"}, "amplitude_v_rms = '0 mV': Input should be greater than 0"),
        ({"points_per_decade": 1000}, "points_per_decade = 1000: Input should be less than or"),
        (
            {"frequency_start": "1 Hz", "frequency_end": "1 kHz"},
            "frequency_end = 1 kHz: expected less than frequency_start = 1 Hz",
        ),
        ({"probe_tolerance": "1 K"}, "probe_tolerance = '1 K': expected a share, such as"),
        ({"on_settle_timeout": "wait"}, "on_settle_timeout = 'wait': Input should be 'measure'"),
    ],
)
def test_a_bad_parameter_is_one_line(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parameters_of(**given)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
