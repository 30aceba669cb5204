"""Diffusion against temperature, on a cell whose activation energy is in its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl.config import SampleConfig, load, read_toml, validate
from labctl.testing import simulate
from labctl_protocols.temperature_gitt import TemperatureGittParameters, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.store.reading import StoredRun

BENCH = Path(__file__).parents[2] / "docs" / "examples" / "titration-bench"
CELL = read_toml(BENCH / "world.toml")["cells"]["cell"]
EXAMPLE = read_toml(BENCH / "temperature_gitt.toml")
SAMPLE = load(SampleConfig, BENCH / "sample.toml")


def titrate(folder: Path, parameters: Mapping[str, Any]) -> StoredRun:
    return simulate(
        "temperature_gitt",
        folder=folder,
        parameters=parameters,
        rig=BENCH / "rig.toml",
        sample=BENCH / "sample.toml",
    )


def results(run: StoredRun, stream: str) -> list[dict[str, Any]]:
    return [event["data"] for event in run.events(stream)]


def test_the_activation_energy_is_the_cell_s(tmp_path: Path) -> None:
    run = titrate(tmp_path, EXAMPLE)
    assert run.summary.outcome == "completed"
    (line,) = results(run, "diffusion_arrhenius")
    true_ev = CELL["diffusion_activation_energy_ev"]
    assert line["n_pulses"] == 6
    assert line["ea_ev"] == pytest.approx(true_ev, abs=0.03)
    assert abs(line["ea_ev"] - true_ev) < 2 * line["u_ea_ev"]
    true_cm2_per_s = CELL["diffusion_coefficient_cm2_per_s"]
    assert line["d_25_cm2_per_s"] == pytest.approx(true_cm2_per_s, rel=0.1)
    assert line["d_25_m2_per_s"] == pytest.approx(1e-4 * line["d_25_cm2_per_s"])
    pulses = results(run, "gitt")
    assert [pulse["direction"] for pulse in pulses] == 3 * ["charge", "discharge"]
    kelvin = [pulse["temperature_k"] for pulse in pulses]
    assert kelvin[::2] == pytest.approx([298.15, 308.15, 318.15], abs=0.2)
    assert [pulse["net_charge_c"] for pulse in pulses[1::2]] == pytest.approx([0.0] * 3, abs=1e-4)


def test_too_few_temperatures_are_no_failure(tmp_path: Path) -> None:
    run = titrate(tmp_path, {**EXAMPLE, "temperatures": ["25 degC"], "pulse_duration": "60 s"})
    assert run.summary.outcome == "completed"
    (line,) = results(run, "diffusion_arrhenius")
    assert line["ea_ev"] is None
    assert "fewer than 3 temperatures" in line["warnings"][0]


def test_a_temperature_that_is_skipped_is_forgone(tmp_path: Path) -> None:
    hurried = {
        "settle_timeout": "12 min",
        "settle_window": "5 min",
        "dwell": "1 min",
        "on_settle_timeout": "skip",
    }
    changes = {"temperatures": ["25 degC", "55 degC"], "pulse_duration": "60 s"}
    run = titrate(tmp_path, {**EXAMPLE, **changes, **hurried})
    assert run.summary.outcome == "completed"
    assert [pulse["place"].split("/")[0] for pulse in results(run, "gitt")] == [
        "01-heating-25.0C",
        "01-heating-25.0C",
    ]


def test_the_plan_names_every_step() -> None:
    steps = plan(validate(TemperatureGittParameters, EXAMPLE, source="test"), SAMPLE)
    assert [step.key.partition("/")[2] for step in steps[:6]] == [
        "settle",
        "rest",
        "charge-001/pulse",
        "charge-001/rest",
        "discharge-001/pulse",
        "discharge-001/rest",
    ]
    assert len(steps) == 18
    assert not any(step.is_optional for step in steps)
