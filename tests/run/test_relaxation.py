"""What a sample has still to relax is foreseen from probes on the way, however slow it is."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.quantities import BOLTZMANN_EV_PER_K
from labctl.run.relaxation import remainder
from labctl.run.settle import Probe

INTERVAL_S = 180.0


def probes(tau_s: float, *, n: int, noise: float, seed: int = 0, shift: float = 0.2) -> list[Probe]:
    """Return probes of a resistance whose logarithm relaxes from `shift` to 0, three repeats."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(n):
        ln_r = shift * np.exp(-number * INTERVAL_S / tau_s)
        z_ohm = np.exp(ln_r) * (1.0 + noise * random.normal(size=3))
        made.append(Probe(float(z_ohm.mean()), float(z_ohm.std(ddof=1) / np.sqrt(3.0))))
    return made


def times_s(n: int) -> list[float]:
    return [number * INTERVAL_S for number in range(n)]


@pytest.mark.parametrize("tau_s", [300.0, 600.0, 1200.0, 2400.0])
def test_what_is_still_to_come_is_foreseen(tau_s: float) -> None:
    share, u = remainder(times_s(8), probes(tau_s, n=8, noise=1e-3))
    last = 0.2 * np.exp(-7 * INTERVAL_S / tau_s)
    assert share == pytest.approx(-last, abs=4 * u)
    assert u < 0.1 * 0.2


def test_two_probes_that_agree_do_not_mean_that_a_slow_sample_is_at_rest() -> None:
    slow = probes(2400.0, n=12, noise=1e-4, shift=0.08)
    change = slow[-1].resistance_ohm / slow[-2].resistance_ohm - 1.0
    share, u = remainder(times_s(12), slow)
    assert abs(change) < 0.005
    assert abs(share) - u > 0.02


@pytest.mark.parametrize(("ea_ev", "to_k"), [(0.38, 308.15), (0.78, 308.15), (0.78, 348.15)])
def test_what_is_still_to_come_after_a_step_of_10_k_is_foreseen_without_bias(
    ea_ev: float, to_k: float
) -> None:
    """The temperature relaxes exponentially, R goes with it as sigma T does."""
    tau_s, n = 1800.0, 26
    temperatures_k = to_k - 10.0 * np.exp(-np.array(times_s(n)) / tau_s)
    ohm = temperatures_k * np.exp(ea_ev / (BOLTZMANN_EV_PER_K * temperatures_k))
    at_rest_ohm = to_k * np.exp(ea_ev / (BOLTZMANN_EV_PER_K * to_k))
    share, _ = remainder(times_s(n), [Probe(float(each), 1e-4 * each) for each in ohm])
    assert share == pytest.approx(np.log(at_rest_ohm / ohm[-1]), rel=0.1)


def test_a_sample_at_rest_has_nothing_to_come() -> None:
    share, u = remainder(times_s(6), probes(60.0, n=6, noise=1e-3, shift=0.0))
    assert abs(share) < 2 * u < 0.01


@pytest.mark.parametrize("tau_s", [200.0, 600.0, 1200.0])
def test_its_uncertainty_is_honest(tau_s: float) -> None:
    off = []
    for seed in range(100):
        share, u = remainder(times_s(8), probes(tau_s, n=8, noise=2e-3, seed=seed))
        last = 0.2 * np.exp(-7 * INTERVAL_S / tau_s)
        off.append((share + last) / u)
    assert np.mean(np.abs(off) < 2.0) > 0.85
