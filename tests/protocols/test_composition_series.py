"""One composition of a series: its conductivity and how well it repeats."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from labctl.demo_bench import write_bench
from labctl.testing import simulate

if TYPE_CHECKING:
    from pathlib import Path

QUICK = {"temperature": "25 degC", "dwell": "1 hour", "n_repeats": 3, "frequency_end": "10 Hz"}


def test_the_conductivity_put_in_comes_back_with_its_composition(tmp_path: Path) -> None:
    bench = write_bench("alocl", tmp_path / "own")
    sample = bench / "sample.toml"
    sample.write_text(sample.read_text() + '\n[composition]\n"Li/Al" = 1.5\n')
    run = simulate("composition_series", folder=tmp_path, parameters=QUICK, sample=sample)
    (found,) = (event["data"] for event in run.events("composition"))
    world = tomllib.loads((bench / "world.toml").read_text())
    true = world["cells"]["pellet"]["conductivity_s_per_cm"]
    assert found["composition"] == {"Li/Al": 1.5}
    assert found["n_spectra"] == 3
    assert found["sigma_s_per_cm"] == pytest.approx(true, rel=0.02)
    assert found["u_sigma_s_per_cm"] > 0


def test_one_spectrum_does_not_claim_to_know_its_scatter(tmp_path: Path) -> None:
    run = simulate(
        "composition_series", folder=tmp_path, parameters={"n_repeats": 1, "frequency_end": "10 Hz"}
    )
    (found,) = (event["data"] for event in run.events("composition"))
    assert found["warnings"] == ["one spectrum only: its scatter is not known"]
