"""Sweeps of cells whose onsets are known: every criterion, and why where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from labctl.analysis.voltammetry import Sweep, analyse_sweep, charge_ratio, sweep_of
from labctl.errors import AnalysisError

AREA_M2 = math.pi * 25e-6
UA_PER_CM2 = 0.01 * AREA_M2


@dataclass(frozen=True)
class Oxidised:
    """A capacitance, and an oxidation that runs out as its charge passes; written for the tests.

    i = i0 exp((E - E0) / b) (1 - theta) with dtheta/dt = i / q_passivation.
    """

    begin_v: float = 2.6
    end_v: float = 4.6
    e0_v: float = 4.0
    slope_v: float = 0.04
    i0_a: float = UA_PER_CM2
    q_passivation_c: float = math.inf
    capacitance_f: float = 1e-5
    rate_v_per_s: float = 1e-4
    step_v: float = 1e-3
    noise_a: float = 2e-10
    offset_a: float = 0.0

    @property
    def sign(self) -> float:
        return math.copysign(1.0, self.end_v - self.begin_v)

    def onset_v(self, ua_per_cm2: float) -> float:
        """The true potential where the oxidation reaches a density, without passivation."""
        return self.e0_v + self.sign * self.slope_v * math.log(ua_per_cm2 * UA_PER_CM2 / self.i0_a)

    def points(self, *, theta: float = 0.0, seed: int = 0):
        """Return times, potentials, currents and the coverage that is left at the end."""
        n_points = round(abs(self.end_v - self.begin_v) / self.step_v) + 1
        potential_v = np.linspace(self.begin_v, self.end_v, n_points)
        times_s = np.arange(1, n_points + 1) * self.step_v / self.rate_v_per_s
        faradaic_a = np.empty(n_points)
        dt_s = self.step_v / self.rate_v_per_s
        for k, e in enumerate(potential_v):
            drive = math.exp(self.sign * (e - self.e0_v) / self.slope_v)
            faradaic_a[k] = self.i0_a * drive * (1 - theta)
            theta += (1 - theta) * -math.expm1(-self.i0_a * drive * dt_s / self.q_passivation_c)
        # A constant phase element that charges: the current rises as t^0.1.
        charging_a = self.capacitance_f * self.rate_v_per_s * (times_s / times_s[-1]) ** 0.1
        noise_a = self.noise_a * np.random.default_rng(seed).normal(size=n_points)
        current_a = self.sign * (faradaic_a + charging_a) + self.offset_a + noise_a
        return times_s, potential_v, current_a, theta

    def sweep(self, *, theta: float = 0.0, seed: int = 0, area_m2: float | None = AREA_M2) -> Sweep:
        return sweep_of(*self.points(theta=theta, seed=seed)[:3], area_m2=area_m2)


ANODIC = Oxidised()
CATHODIC = Oxidised(begin_v=2.6, end_v=0.0, e0_v=1.0, slope_v=0.08)


@pytest.mark.parametrize("cell", [ANODIC, CATHODIC], ids=["anodic", "cathodic"])
@pytest.mark.parametrize("threshold", [1, 2, 5, 10])
def test_a_threshold_is_crossed_where_the_truth_crosses_it(cell, threshold) -> None:
    found = analyse_sweep(cell.sweep()).onset(f"{threshold} uA/cm2")
    assert found.potential_v == pytest.approx(cell.onset_v(threshold), abs=0.002)
    assert found.reason == ""


def test_an_onset_is_as_far_off_as_it_says() -> None:
    cell = Oxidised(noise_a=3e-8)
    off = []
    for seed in range(80):
        found = analyse_sweep(cell.sweep(seed=seed)).onset("5 uA/cm2")
        off.append((found.potential_v - cell.onset_v(5)) / found.u_potential_v)
    assert np.mean(np.abs(off) > 2.5) < 0.08
    assert np.std(off) > 0.3


def test_the_direction_is_that_of_the_sweep() -> None:
    anodic, cathodic = (analyse_sweep(cell.sweep()) for cell in (ANODIC, CATHODIC))
    assert (anodic.direction, cathodic.direction) == ("anodic", "cathodic")
    assert (cathodic.begin_v, cathodic.end_v) == pytest.approx((2.6, 0.0))
    assert cathodic.charge_c > 0


def test_potentials_against_lithium_are_shifted_by_the_reference() -> None:
    found = analyse_sweep(ANODIC.sweep(), reference_shift_v=0.62)
    assert found.reference_shift_v == 0.62
    for onset in found.onsets:
        assert onset.potential_vs_li_v == pytest.approx(onset.potential_v + 0.62)


def test_without_a_reference_potential_there_is_none_against_lithium() -> None:
    found = analyse_sweep(ANODIC.sweep())
    assert [onset.potential_vs_li_v for onset in found.onsets] == [None] * len(found.onsets)
    assert "no reference potential: none vs Li+/Li" in found.warnings


def test_a_threshold_that_is_not_reached_is_no_onset() -> None:
    cell = Oxidised(e0_v=4.54)
    found = analyse_sweep(cell.sweep())
    assert found.onset("2 uA/cm2").potential_v == pytest.approx(cell.onset_v(2), abs=0.003)
    assert found.onset("10 uA/cm2").potential_v is None
    assert found.onset("10 uA/cm2").reason == "not reached: at most 4.5 uA/cm2"


def test_a_stable_cell_has_no_onset_at_all() -> None:
    found = analyse_sweep(Oxidised(i0_a=0.0).sweep())
    assert [onset.potential_v for onset in found.onsets] == [None] * 6
    assert found.onset("5 sigma").reason == "no current beyond noise and baseline"
    assert abs(found.charge_c) < 5 * found.u_charge_c


def test_a_threshold_below_the_noise_is_no_onset() -> None:
    found = analyse_sweep(Oxidised(noise_a=2 * UA_PER_CM2).sweep())
    assert found.onset("1 uA/cm2").potential_v is None
    assert found.onset("1 uA/cm2").reason.startswith("noise and baseline are known to 2")


def test_without_an_area_there_are_no_densities() -> None:
    found = analyse_sweep(ANODIC.sweep(area_m2=None))
    assert found.onset("1 uA/cm2").reason == "the electrode's area is not known"
    assert found.onset("5 sigma").potential_v is not None
    assert found.largest_ua_per_cm2 is None


def test_the_charging_current_is_no_onset_and_no_charge() -> None:
    """A composite electrode of 5 mF charges with 0.6 uA/cm2."""
    cell = Oxidised(capacitance_f=5e-3)
    found = analyse_sweep(cell.sweep())
    # The baseline is not known better than its rise beyond the window, 0.1 uA/cm2 at worst.
    assert found.onset("1 uA/cm2").potential_v == pytest.approx(cell.onset_v(1), abs=0.010)
    assert found.onset("10 uA/cm2").potential_v == pytest.approx(cell.onset_v(10), abs=0.002)


def test_the_first_current_beyond_noise_is_seen_before_any_threshold() -> None:
    found = analyse_sweep(ANODIC.sweep())
    seen_v = found.onset("5 sigma").potential_v
    expected_v = ANODIC.onset_v(5 * ANODIC.noise_a / UA_PER_CM2)
    assert seen_v == pytest.approx(expected_v, abs=0.01)
    assert seen_v < found.onset("1 uA/cm2").potential_v


def test_the_tangent_of_a_peak_meets_the_baseline_before_it() -> None:
    """A rise that is a straight line of 100 mV: there the tangent is the line itself."""
    times_s, potential_v, _, _ = ANODIC.points()
    line_a = np.clip((potential_v - 4.0) / 0.1, 0.0, 1.0) * 10 * UA_PER_CM2
    noise_a = 2e-10 * np.random.default_rng(1).normal(size=line_a.size)
    found = analyse_sweep(sweep_of(times_s, potential_v, line_a + noise_a, area_m2=AREA_M2))
    assert found.onset("tangent").potential_v == pytest.approx(4.0, abs=0.002)
    assert found.onset("tangent").u_potential_v < 0.002


def test_a_tangent_at_the_sweep_s_end_is_said_to_depend_on_it() -> None:
    found = analyse_sweep(ANODIC.sweep())
    assert found.onset("tangent").potential_v == pytest.approx(4.6 - 0.04, abs=0.02)
    assert any("depends on where it ends" in said for said in found.warnings)


def test_the_tangent_is_that_of_the_first_rise() -> None:
    passivating = Oxidised(q_passivation_c=1e-3)
    first = analyse_sweep(passivating.sweep())
    _, potential_v, current_a, _ = passivating.points()
    peak_v = potential_v[np.argmax(current_a)]
    assert first.onset("tangent").potential_v < peak_v < 4.5
    assert not any("depends on where it ends" in said for said in first.warnings)


def test_a_second_scan_of_a_passivated_cell_has_less_charge() -> None:
    cell = Oxidised(q_passivation_c=1e-3)
    theta = cell.points()[3]
    found = charge_ratio(cell.sweep(), cell.sweep(theta=theta, seed=1))
    assert theta > 0.999
    assert found.first_c == pytest.approx(1e-3, rel=0.02)
    assert abs(found.ratio) < 0.01


def test_a_charge_ratio_is_that_of_the_charges_that_passed() -> None:
    cell = Oxidised(q_passivation_c=1e-3)
    found = charge_ratio(cell.sweep(), cell.sweep(theta=0.6, seed=1))
    assert found.ratio == pytest.approx(0.4, abs=0.01)
    assert found.u_ratio < 0.01


def test_scans_that_begin_elsewhere_are_compared_where_both_have_been() -> None:
    late = Oxidised(begin_v=3.0)
    found = charge_ratio(ANODIC.sweep(), late.sweep())
    # The later scan's baseline begins after 5 % of its way.
    assert (found.from_v, found.to_v) == pytest.approx((3.08, 4.6))
    assert found.ratio == pytest.approx(1.0, abs=0.01)


def test_a_first_scan_without_charge_gives_no_ratio() -> None:
    stable = Oxidised(i0_a=0.0)
    found = charge_ratio(stable.sweep(), stable.sweep(seed=1))
    assert found.ratio is None
    assert "not above its uncertainty" in found.reason
    apart = charge_ratio(ANODIC.sweep(), CATHODIC.sweep())
    assert apart.ratio is None
    assert apart.reason == "the scans have no potentials in common"


def test_a_current_that_begins_in_the_first_quarter_is_said() -> None:
    found = analyse_sweep(Oxidised(begin_v=3.85).sweep())
    assert any("begins within the first quarter" in said for said in found.warnings)
    assert not analyse_sweep(ANODIC.sweep(), reference_shift_v=0.0).baseline.warnings


def test_a_single_point_that_jumps_is_no_onset() -> None:
    times_s, potential_v, current_a, _ = Oxidised(i0_a=0.0).points()
    current_a[1500] += 50 * UA_PER_CM2
    found = analyse_sweep(sweep_of(times_s, potential_v, current_a, area_m2=AREA_M2))
    assert found.onset("1 uA/cm2").potential_v is None
    assert found.onset("5 sigma").potential_v is None


def test_what_is_no_sweep_is_refused() -> None:
    with pytest.raises(AnalysisError, match="needs 40"):
        sweep_of(np.arange(20.0), np.arange(20.0), np.arange(20.0))
    with pytest.raises(AnalysisError, match="finite"):
        sweep_of(np.arange(50.0), np.arange(50.0), np.full(50, np.nan))
