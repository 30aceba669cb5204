"""Diffusion from pulses and from interruptions, on a cell whose response is known exactly."""

from dataclasses import dataclass

import numpy as np
import pytest

from labctl.analysis.gitt import analyze_pulse, coulombic_efficiency
from labctl.analysis.ici import analyze_interruption, end_of_flow
from labctl.analysis.sqrt_time import sqrt_time_line
from labctl.analysis.traces import rest_end
from labctl.errors import AnalysisError

LENGTH_M = 2e-6
CURRENT_A = 1e-4


@dataclass(frozen=True)
class Layer:
    """A sheet that ions enter from one side, behind a resistance and a charge transfer.

    The response to a step of current is the sum over the sheet's modes; currents add.
    """

    d_m2_per_s: float = 1e-15
    v_per_c: float = 0.2  # dU/dQ
    ohmic_ohm: float = 120.0
    transfer_ohm: float = 80.0
    transfer_s: float = 2.0
    noise_v: float = 5e-6
    rest_v: float = 3.7

    @property
    def diffusion_s(self):
        return LENGTH_M**2 / self.d_m2_per_s

    def step_ohm(self, t):
        k = np.pi * np.arange(1, 401)[:, None]
        share = t / self.diffusion_s
        modes = (2 / k**2 * (1 - np.exp(-(k**2) * share))).sum(axis=0)
        sheet = self.v_per_c * self.diffusion_s * (share + modes)
        transfer = self.transfer_ohm * (1 - np.exp(-t / self.transfer_s))
        return np.where(t > 0, self.ohmic_ohm + transfer + sheet, 0.0)

    def potential_v(self, t, switches, *, seed=0):
        """Return the potential at times, after steps [(time, change of current), ...]."""
        noise = self.noise_v * np.random.default_rng(seed).normal(size=t.size)
        responses = (change * self.step_ohm(np.maximum(t - at, 0.0)) for at, change in switches)
        return self.rest_v + sum(responses) + noise

    def pulse(self, *, tau_s=None, rest_s=None, current_a=CURRENT_A, interval_s=1.0):
        """Return what `analyze_pulse` needs of a pulse between two rests."""
        tau_s = tau_s or 0.05 * self.diffusion_s
        rest_s = rest_s or 1.0 * self.diffusion_s
        switches = [(0.0, current_a), (tau_s, -current_a)]
        before = np.arange(1.0, 601.0)
        pulse = np.arange(interval_s, tau_s + 1e-9, interval_s)
        after = np.arange(10.0, rest_s, 10.0)
        return {
            "elapsed_s": pulse,
            "potential_v": self.potential_v(pulse, switches, seed=2),
            "current_a": np.full(pulse.size, current_a),
            "before": rest_end(before, self.potential_v(before - 1e6, [], seed=1)),
            "after": rest_end(after, self.potential_v(tau_s + after, switches, seed=3)),
            "diffusion_length_m": LENGTH_M,
        }

    def interrupted(self, *, periods, on_s, off_s):
        """Return what the last of several interruptions says."""
        flows, elapsed = [], np.arange(1.0, on_s + 0.5)
        switches = []
        for number in range(periods):
            begin_s = number * (on_s + off_s)
            switches += [(begin_s, CURRENT_A), (begin_s + on_s, -CURRENT_A)]
            potential = self.potential_v(begin_s + elapsed, switches[:-1], seed=number)
            flows.append(end_of_flow(elapsed, potential, np.full(elapsed.size, CURRENT_A)))
        off = np.arange(1.0, off_s + 0.5)
        return analyze_interruption(
            off,
            self.potential_v(begin_s + on_s + off, switches, seed=99),
            flow=flows[-1],
            before=flows[-2] if periods > 1 else None,
            flowed_s=periods * on_s,
            diffusion_length_m=LENGTH_M,
        )


@pytest.mark.parametrize("d", [2e-16, 1e-15, 4e-15])
@pytest.mark.parametrize("current_a", [CURRENT_A, -CURRENT_A])
def test_a_short_pulse_gives_the_true_coefficient(d, current_a):
    found = analyze_pulse(**Layer(d).pulse(current_a=current_a)).diffusion

    assert found.objections == ()
    assert found.d_m2_per_s == pytest.approx(d, rel=0.05)
    assert abs(found.d_m2_per_s - d) < 3 * found.u_d_m2_per_s
    assert found.u_d_m2_per_s < 0.1 * d
    assert found.d_cm2_per_s == pytest.approx(1e4 * found.d_m2_per_s)
    assert found.diffusion_time_s == pytest.approx(LENGTH_M**2 / found.d_m2_per_s)


def test_the_uncertainty_covers_the_scatter_of_repeated_pulses():
    layer = Layer(noise_v=1e-4)
    pulse = layer.pulse()
    rng = np.random.default_rng(5)
    found = []
    for _ in range(40):
        noisy = pulse["potential_v"] + 1e-4 * rng.normal(size=pulse["elapsed_s"].size)
        found.append(analyze_pulse(**{**pulse, "potential_v": noisy}).diffusion)
    values = np.array([each.d_m2_per_s for each in found if not each.objections])
    stated = np.median([each.u_d_m2_per_s for each in found if not each.objections])
    assert values.size > 30
    assert values.std() < 2 * stated
    assert stated < 0.2 * layer.d_m2_per_s


def test_spheres_count_with_a_third_of_their_radius():
    pulse = Layer().pulse()
    plane = analyze_pulse(**pulse)
    sphere = analyze_pulse(**{**pulse, "diffusion_length_m": 3 * LENGTH_M}, shape="sphere")
    assert sphere.diffusion.d_m2_per_s == pytest.approx(plane.diffusion.d_m2_per_s)


def test_the_line_leaves_jump_and_charge_transfer_out():
    line = analyze_pulse(**Layer(transfer_s=10.0, transfer_ohm=300.0).pulse()).line
    assert line.begin_s > 20.0
    assert line.r_squared > 0.999


def test_resistances_are_those_of_their_times():
    layer = Layer(noise_v=0.0)
    found = analyze_pulse(**layer.pulse())
    assert found.r_time_s == 1.0
    assert found.r_ohm == pytest.approx(layer.step_ohm(np.array([1.0]))[0], rel=1e-9)
    assert found.r_10s_ohm == pytest.approx(layer.step_ohm(np.array([10.0]))[0], rel=1e-9)
    assert found.tau_s == 200.0
    assert found.r_tau_ohm == pytest.approx(layer.step_ohm(np.array([200.0]))[0], rel=1e-9)
    assert found.step_v == pytest.approx(CURRENT_A * 200.0 * layer.v_per_c, rel=0.01)
    assert found.overpotential_v == pytest.approx(
        CURRENT_A * found.r_tau_ohm - found.step_v, rel=1e-6
    )


def test_a_pulse_that_reaches_the_end_of_the_layer_gives_no_coefficient():
    layer = Layer()
    found = analyze_pulse(**layer.pulse(tau_s=0.3 * layer.diffusion_s)).diffusion
    assert np.isnan(found.d_m2_per_s)
    assert any("L^2/D: expected at most 0.1" in each for each in found.objections)


def test_a_rest_that_ends_too_early_gives_no_coefficient():
    layer = Layer()
    found = analyze_pulse(**layer.pulse(rest_s=0.15 * layer.diffusion_s)).diffusion
    assert np.isnan(found.d_m2_per_s)
    assert any("the rest was too short" in each for each in found.objections)


def test_two_phases_give_no_coefficient():
    found = analyze_pulse(**Layer(v_per_c=1e-7).pulse(tau_s=200.0)).diffusion
    assert np.isnan(found.d_m2_per_s)
    assert any("two phases?" in each for each in found.objections)


def test_slow_charge_transfer_is_no_diffusion():
    layer = Layer(transfer_s=150.0, transfer_ohm=2000.0)
    found = analyze_pulse(**layer.pulse()).diffusion
    assert np.isnan(found.d_m2_per_s)
    assert any("no straight line" in each for each in found.objections)


def test_noise_gives_no_coefficient():
    found = analyze_pulse(**Layer(noise_v=0.01).pulse()).diffusion
    assert np.isnan(found.d_m2_per_s)
    assert any("R^2" in each for each in found.objections)


def test_without_a_length_there_is_all_but_the_coefficient():
    found = analyze_pulse(**{**Layer().pulse(), "diffusion_length_m": None})
    assert found.diffusion.objections == ("no diffusion length",)
    assert found.line.is_straight
    assert found.r_ohm > 0


def test_a_pulse_of_a_few_points_says_so():
    found = analyze_pulse(**Layer().pulse(interval_s=50.0))
    assert found.line is None
    assert found.diffusion.objections == ("too few points in the pulse",)


def test_a_pulse_without_current_is_none():
    pulse = Layer().pulse()
    with pytest.raises(AnalysisError, match="no current"):
        analyze_pulse(**{**pulse, "current_a": np.zeros(pulse["elapsed_s"].size)})


def test_times_that_do_not_rise_are_refused():
    with pytest.raises(AnalysisError, match="must rise"):
        rest_end([1.0, 2.0, 2.0], [0.0, 0.0, 0.0])


def test_a_rest_tells_how_fast_it_still_changes():
    elapsed = np.arange(10.0, 1001.0, 10.0)
    end = rest_end(elapsed, 3.7 - 1e-7 * elapsed)
    assert end.slope_v_per_s == pytest.approx(-1e-7)
    assert end.potential_v == pytest.approx(3.7 - 1e-4)


@pytest.mark.parametrize("d", [1e-15, 4e-15])
def test_interruptions_give_the_coefficient_of_pulses(d):
    layer = Layer(d, transfer_s=0.5)
    on_s, off_s = 0.1 * layer.diffusion_s, 0.03 * layer.diffusion_s
    found = layer.interrupted(periods=8, on_s=on_s, off_s=off_s)
    assert found.diffusion.objections == ()
    assert found.diffusion.d_m2_per_s == pytest.approx(d, rel=0.1)
    assert found.diffusion.d_m2_per_s == pytest.approx(
        analyze_pulse(**layer.pulse()).diffusion.d_m2_per_s, rel=0.1
    )
    assert found.r_ohm == pytest.approx(layer.ohmic_ohm + layer.transfer_ohm, rel=0.05)


def test_an_interruption_soon_after_the_begin_gives_no_coefficient():
    layer = Layer()
    found = layer.interrupted(periods=2, on_s=0.1 * layer.diffusion_s, off_s=100.0)
    assert any("had flowed for" in each for each in found.diffusion.objections)


def test_the_first_interruption_gives_no_coefficient():
    found = Layer().interrupted(periods=1, on_s=400.0, off_s=100.0)
    assert any("first interruption" in each for each in found.diffusion.objections)


def test_periods_of_unequal_length_are_not_compared():
    layer = Layer()
    t = np.arange(1.0, 401.0)
    whole, cut = (
        end_of_flow(part, layer.potential_v(part, [(0.0, CURRENT_A)]), np.full(part.size, 1e-4))
        for part in (t, t[:100])
    )
    off = np.arange(1.0, 101.0)
    found = analyze_interruption(
        off,
        layer.potential_v(100.0 + off, [(0.0, CURRENT_A), (100.0, -CURRENT_A)]),
        flow=cut,
        before=whole,
        flowed_s=1e5,
        diffusion_length_m=LENGTH_M,
    )
    assert any("another time" in each for each in found.diffusion.objections)


def test_a_long_interruption_gives_no_coefficient():
    layer = Layer()
    found = layer.interrupted(periods=8, on_s=400.0, off_s=0.5 * layer.diffusion_s)
    assert np.isnan(found.diffusion.d_m2_per_s)


def test_a_line_needs_points():
    with pytest.raises(AnalysisError, match="fewer than 10 points"):
        sqrt_time_line(np.arange(1.0, 6.0), np.zeros(5))


def test_coulombic_efficiency_is_what_came_back():
    assert coulombic_efficiency(10.0, -9.0) == pytest.approx(0.9)
    assert np.isnan(coulombic_efficiency(0.0, -9.0))
