"""Capacities, efficiencies and retention, from half-cycles whose charge is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.analysis.cycling import cycle_from, half_cycle, together


def half(
    current_a: float, duration_s: float, potential_v=(3.0, 4.0), ended_by="potential above 4 V"
):
    elapsed_s = np.arange(60.0, duration_s + 1, 60.0)
    potential = np.linspace(*potential_v, elapsed_s.size)
    return half_cycle(potential, current_a * elapsed_s, elapsed_s, ended_by=ended_by)


def test_a_half_cycle_holds_its_charge_energy_and_end() -> None:
    found = half(-1e-3, 3600.0, (4.0, 3.0))
    assert found.charge_c == pytest.approx(3.6)
    assert found.mean_potential_v == pytest.approx(3.5, abs=0.01)
    assert (found.duration_s, found.end_potential_v) == (3600.0, 3.0)


def test_efficiency_is_discharge_over_charge_and_retention_counts_from_the_reference() -> None:
    first = cycle_from(1, half(1e-3, 3600.0), half(-1e-3, 3000.0))
    assert first.coulombic_efficiency == pytest.approx(3000 / 3600)
    assert (first.retention, first.reference_cycle) == (1.0, 1)
    later = cycle_from(9, half(1e-3, 3000.0), half(-1e-3, 2400.0), reference=first)
    assert later.retention == pytest.approx(0.8)
    assert later.reference_cycle == 1


def test_capacities_per_gram_need_the_mass() -> None:
    known = cycle_from(1, half(1e-3, 3600.0), half(-1e-3, 3600.0), active_mass_kg=5e-6)
    assert known.discharge_capacity_mah_per_g == pytest.approx(200.0)
    assert cycle_from(1, half(1e-3, 60.0), half(-1e-3, 60.0)).charge_capacity_mah_per_g is None


def test_a_hold_belongs_to_its_charge() -> None:
    both = together([half(1e-3, 3600.0), half(5e-4, 600.0, (4.0, 4.0), "current below 0.0001 A")])
    assert both.charge_c == pytest.approx(3.9)
    assert both.duration_s == 4200.0
    assert both.ended_by == "current below 0.0001 A"


def test_what_ended_with_its_time_is_a_lower_bound_and_says_so() -> None:
    cycle = cycle_from(1, half(1e-3, 3600.0, ended_by=""), half(-1e-3, 60.0))
    assert cycle.warnings == (
        "the charge ended because its time was up: its capacity is a lower bound",
    )


def test_nothing_charged_has_no_efficiency() -> None:
    nothing = half_cycle(np.array([3.0]), np.array([0.0]), np.array([60.0]), ended_by="x")
    assert math.isnan(cycle_from(1, nothing, half(-1e-3, 60.0)).coulombic_efficiency)
