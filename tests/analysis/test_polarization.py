"""DC polarisation of pellets whose electronic resistance is known: values, and honest bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from labctl.analysis.conductivity import Pellet
from labctl.analysis.polarization import electronic_conductivity
from labctl.analysis.steady_current import (
    PotentialStep,
    SteadyCurrent,
    drift_of,
    fit_steady_current,
)
from labctl.errors import AnalysisError

PELLET = Pellet(thickness_m=1e-3, diameter_m=10e-3)
AREA_CM2 = math.pi * 0.25
VOLTAGES = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Blocked:
    """A pellet between blocking electrodes and an instrument that measures it, from a textbook.

    A CPE takes up I = V Q t^-n / Gamma(1 - n) after a step; the electrons' path lies beside it.
    """

    sigma_s_per_cm: float = 1.2e-9
    q: float = 4e-6
    n: float = 0.9
    offset_a: float = 0.0
    noise_a: float = 1e-11
    hold_s: float = 3600.0

    @property
    def resistance_ohm(self) -> float:
        return 0.1 / (AREA_CM2 * self.sigma_s_per_cm)

    @property
    def times_s(self) -> np.ndarray:
        return np.arange(2.0, self.hold_s + 1e-9, 2.0)

    def current_a(self, voltage_v: float, seed: int = 0) -> np.ndarray:
        random = np.random.default_rng([seed, round(1000 * voltage_v)])
        charging = voltage_v * self.q * self.times_s**-self.n / math.gamma(1.0 - self.n)
        noise = self.noise_a * random.normal(size=self.times_s.size)
        return voltage_v / self.resistance_ohm + charging + self.offset_a + noise

    def held(self, voltage_v: float, seed: int = 0) -> SteadyCurrent:
        potential_v = np.full(self.times_s.size, voltage_v)
        return fit_steady_current(self.times_s, potential_v, self.current_a(voltage_v, seed))

    def result(self, voltages=VOLTAGES, seed: int = 0):
        held = [self.held(voltage, seed) for voltage in voltages]
        return electronic_conductivity(
            held, [self.held(0.0, seed), self.held(0.0, seed + 1)], PELLET
        )


@pytest.mark.parametrize("hold_s", [600.0, 3600.0])
@pytest.mark.parametrize("n", [0.75, 0.9])
def test_the_steady_current_is_found_before_the_current_is_steady(hold_s, n) -> None:
    cell = Blocked(hold_s=hold_s, n=n)
    found = cell.held(1.0)
    last_a = cell.current_a(1.0)[-30:].mean()
    true_a = 1.0 / cell.resistance_ohm
    assert abs(last_a / true_a - 1) > 0.003
    assert found.current_a == pytest.approx(true_a, rel=0.003)
    assert found.exponent == pytest.approx(n, abs=0.05)
    assert found.warnings == ()


@pytest.mark.parametrize(("hold_s", "noise_a"), [(600.0, 1e-11), (1800.0, 1e-10)])
def test_the_stated_uncertainty_is_how_far_fits_are_off(hold_s, noise_a) -> None:
    random = np.random.default_rng(1)
    off = []
    for seed in range(100):
        cell = Blocked(n=random.uniform(0.75, 0.95), hold_s=hold_s, noise_a=noise_a)
        found = cell.held(0.5, seed)
        off.append((found.current_a - 0.5 / cell.resistance_ohm) / found.u_current_a)
    assert np.std(off) == pytest.approx(1.0, abs=0.35)
    assert np.mean(np.abs(off) > 2.5) < 0.07


def test_earlier_steps_that_still_decay_are_known_to() -> None:
    """An hour at 1 V and half an hour at 0 V before: what is left of it flows at 0.2 V."""
    cell = Blocked(noise_a=1e-12)
    earlier = (PotentialStep(1.0, 5400.0), PotentialStep(-1.0, 1800.0))
    left_a = sum(
        step.step_v * cell.q * (cell.times_s + step.before_s) ** -cell.n / math.gamma(1 - cell.n)
        for step in earlier
    )
    measured = cell.times_s, np.full(cell.times_s.size, 0.2), cell.current_a(0.2) + left_a
    true_a = 0.2 / cell.resistance_ohm
    told = fit_steady_current(*measured, steps=(PotentialStep(0.2), *earlier))
    untold = fit_steady_current(*measured)
    assert abs(told.current_a - true_a) < 4 * told.u_current_a < 0.001 * true_a
    assert told.decay_a_per_v == pytest.approx(cell.q / math.gamma(1 - cell.n), rel=0.02)
    assert "no power of time" in untold.warnings[0]
    assert untold.u_current_a > 20 * told.u_current_a
    assert abs(left_a[0]) > 0.1 * true_a


def test_the_noise_of_a_point_is_told_from_the_decay() -> None:
    assert Blocked(noise_a=3e-11).held(1.0).noise_a == pytest.approx(3e-11, rel=0.15)


def test_points_of_a_large_range_weigh_less() -> None:
    cell = Blocked(hold_s=1200.0, noise_a=0.0)
    times_s = cell.times_s
    range_a = np.where(times_s < 300.0, 1e-6, 1e-8)
    noise_a = 1e-3 * range_a * np.random.default_rng(3).normal(size=times_s.size)
    measured = times_s, np.ones_like(times_s), cell.current_a(1.0) + noise_a
    weighed = fit_steady_current(*measured, u_current_a=range_a)
    alike = fit_steady_current(*measured)
    assert weighed.u_current_a < alike.u_current_a / 3
    assert abs(weighed.current_a - 1.0 / cell.resistance_ohm) < 3 * weighed.u_current_a


def test_what_comes_before_the_power_of_time_is_left_out() -> None:
    cell = Blocked(hold_s=3600.0)
    relaxation_a = 5e-8 * np.exp(-cell.times_s / 80.0)
    potential_v = np.ones_like(cell.times_s)
    found = fit_steady_current(cell.times_s, potential_v, cell.current_a(1.0) + relaxation_a)
    assert found.current_a == pytest.approx(1.0 / cell.resistance_ohm, rel=0.01)
    assert found.warnings == ()


def test_a_decay_that_is_no_power_of_time_is_said() -> None:
    times_s = np.arange(2.0, 1800.0, 2.0)
    wobbling_a = 1e-8 * (1 + 0.1 * np.sin(times_s / 100.0))
    found = fit_steady_current(times_s, np.ones_like(times_s), wobbling_a)
    assert "no power of time" in found.warnings[0]


def test_a_current_without_decay_has_no_exponent() -> None:
    found = Blocked(q=1e-12).held(1.0)
    assert found.exponent is None
    assert found.current_a == pytest.approx(1.0 / Blocked().resistance_ohm, rel=0.001)


def test_a_drift_is_that_of_the_last_third() -> None:
    times_s = np.arange(1.0, 901.0)
    falling_a = 1e-8 * (1 - 0.2 * times_s / 3600.0)
    drift = drift_of(times_s, falling_a)
    assert drift.slope_a_per_h == pytest.approx(-2e-9, rel=1e-6)
    assert drift.objection(0.05).startswith("the current is not steady: it drifts by -21 ")
    assert drift.objection(0.3) == ""


def test_the_slope_gives_resistance_and_conductivity() -> None:
    cell = Blocked(offset_a=2e-11)
    found = cell.result()
    assert not found.is_bound
    assert found.sigma_s_per_cm == pytest.approx(1.2e-9, rel=0.01)
    assert found.resistance_ohm == pytest.approx(cell.resistance_ohm, rel=0.01)
    assert found.intercept_a == pytest.approx(2e-11, abs=4 * found.u_intercept_a)
    assert found.u_intercept_a < 1e-11
    assert [each.reason for each in found.voltages] == [""] * 5


def test_the_conductivity_is_as_far_off_as_it_says() -> None:
    off = []
    for seed in range(60):
        found = Blocked(noise_a=5e-11).result(seed=10 * seed)
        off.append((found.sigma_s_per_cm - 1.2e-9) / found.u_sigma_s_per_cm)
    assert np.mean(np.abs(off) > 2.5) < 0.08
    assert np.std(off) > 0.3


def test_geometry_adds_to_the_uncertainty() -> None:
    doubtful = PELLET.model_copy(update={"u_diameter_m": 1e-4})
    cell = Blocked()
    steady, zero = [cell.held(1.0)], [cell.held(0.0), cell.held(0.0, 1)]
    sure = electronic_conductivity(steady, zero, PELLET)
    unsure = electronic_conductivity(steady, zero, doubtful)
    assert sure.u_sigma_s_per_cm < 0.01 * sure.sigma_s_per_cm
    assert unsure.u_sigma_s_per_cm == pytest.approx(0.02 * unsure.sigma_s_per_cm, rel=0.1)


def test_a_current_that_still_falls_gives_a_bound_above_the_truth() -> None:
    found = Blocked(hold_s=200.0).result()
    assert found.is_bound
    assert found.sigma_s_per_cm is None
    assert 1.2e-9 < found.sigma_upper_bound_s_per_cm < 2e-9
    assert "not steady: it drifts by -" in found.reason
    assert found.resistance_lower_bound_ohm < Blocked().resistance_ohm


@pytest.mark.parametrize("sigma", [1e-12, 1e-14])
def test_a_current_below_five_times_offset_and_noise_gives_a_bound_above_the_truth(sigma) -> None:
    found = Blocked(sigma_s_per_cm=sigma, q=1e-9, offset_a=2e-11).result()
    assert found.is_bound
    assert found.sigma_s_per_cm is None
    assert sigma < found.sigma_upper_bound_s_per_cm < 5e-11
    assert "is below 5 x (offset + noise)" in found.reason


def test_voltages_without_a_value_are_left_out_of_the_line_by_name() -> None:
    noisy = Blocked(noise_a=4e-10, hold_s=3600.0)
    found = noisy.result()
    assert not found.is_bound
    assert found.sigma_s_per_cm == pytest.approx(1.2e-9, rel=0.05)
    assert found.voltages[0].current_a is None
    assert found.voltages[0].bound_a > 0.2 / noisy.resistance_ohm
    assert found.warnings[-1].startswith("left out: 0.2 V (")


def test_a_current_that_rises_bounds_nothing() -> None:
    times_s = np.arange(2.0, 1800.0, 2.0)
    rising_a = 1e-8 * (1 + times_s / 3600.0)
    steady = fit_steady_current(times_s, np.ones_like(times_s), rising_a)
    found = electronic_conductivity([steady], [Blocked().held(0.0)], PELLET)
    assert found.is_bound
    assert found.sigma_upper_bound_s_per_cm is None
    assert "it rises" in found.reason


def test_a_current_against_the_voltage_bounds_nothing() -> None:
    cell = Blocked()
    backwards = cell.held(1.0).model_copy(update={"potential_v": -1.0})
    found = electronic_conductivity([backwards], [cell.held(0.0)], PELLET)
    assert found.is_bound
    assert found.sigma_upper_bound_s_per_cm is None
    assert "against the voltage" in found.reason


def test_currents_that_are_not_on_a_line_are_said() -> None:
    held = [replace(Blocked(), sigma_s_per_cm=1.2e-9 * (1 + v)).held(v) for v in VOLTAGES]
    found = electronic_conductivity(held, [Blocked().held(0.0)], PELLET)
    assert any("no straight line" in said for said in found.warnings)
    assert found.reduced_chi2 > 100


def test_references_that_differ_make_the_offset_uncertain() -> None:
    before, after = Blocked(offset_a=1e-11).held(0.0), Blocked(offset_a=9e-11).held(0.0)
    found = electronic_conductivity([Blocked().held(1.0)], [before, after], PELLET)
    assert found.reference.offset_a == pytest.approx(5e-11, rel=0.1)
    assert found.reference.u_offset_a == pytest.approx(4e-11, rel=0.1)


def test_without_geometry_there_is_a_resistance_only() -> None:
    cell = Blocked()
    found = electronic_conductivity([cell.held(1.0)], [cell.held(0.0)], None)
    assert found.resistance_ohm == pytest.approx(cell.resistance_ohm, rel=0.01)
    assert found.sigma_s_per_cm is None
    assert "no geometry: no conductivity" in found.warnings


def test_what_cannot_be_analysed_is_refused() -> None:
    times_s, ones = np.arange(1.0, 31.0), np.ones(30)
    with pytest.raises(AnalysisError, match="12"):
        fit_steady_current(times_s[:8], ones[:8], ones[:8])
    with pytest.raises(AnalysisError, match="rising order"):
        fit_steady_current(times_s[::-1], ones, ones)
    with pytest.raises(AnalysisError, match="finite"):
        fit_steady_current(times_s, ones, np.full(30, np.nan))
    with pytest.raises(AnalysisError, match="positive"):
        fit_steady_current(times_s, ones, ones, u_current_a=np.zeros(30))
    cell = Blocked()
    with pytest.raises(AnalysisError, match="no voltage"):
        electronic_conductivity([], [cell.held(0.0)], PELLET)
    with pytest.raises(AnalysisError, match="offset is not known"):
        electronic_conductivity([cell.held(1.0)], [], PELLET)
