"""The benchmark of settling: its minimum is one, and its errors are those of a known physics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import settling
from benchmarks.settling import MATERIALS, minimum_waits_s, shortest_dwell
from benchmarks.settling_campaign import (
    Campaign,
    left_ln_r,
    run_campaign,
    settle_ea_error_ev,
)

BLOCK_K = np.array([298.15, 308.15, 318.15, 328.15])
NOTHING = Campaign(
    duration_s=0.0,
    eis_s=0.0,
    temperatures_k=(),
    ea_error_ev=0.0,
    u_ea_ev=0.0,
    left_ln_r=(0.0,),
    settle_ea_error_ev=0.0,
    ended_by=(),
)


def behind_k(ramp_s: float, wait_s: float, lag_s: float) -> float:
    """Follow a stage second by second: a ramp of 2 K/min from rest, then a wait."""
    stage_k, sample_k = 0.0, 0.0
    for second in range(round(ramp_s + wait_s)):
        stage_k += settling.RAMP_K_PER_MIN / 60.0 if second < ramp_s else 0.0
        sample_k += (stage_k - sample_k) * -math.expm1(-1.0 / lag_s)
    return stage_k - sample_k


@pytest.mark.parametrize("lag_s", [300.0, 1800.0])
def test_after_the_shortest_wait_the_sample_is_as_far_behind_as_allowed(lag_s: float) -> None:
    took_s = minimum_waits_s([300.0], [0.1], lag_s=lag_s, eis_s=0.0)
    assert behind_k(300.0, took_s - 300.0, lag_s) == pytest.approx(0.1, rel=0.02)


def test_what_one_temperature_left_is_carried_to_the_next() -> None:
    one = minimum_waits_s([300.0], [1.0], lag_s=1800.0, eis_s=0.0)
    two = minimum_waits_s([300.0, 300.0], [1.0, 1.0], lag_s=1800.0, eis_s=0.0)
    assert two > 2.0 * one


def test_a_sample_at_rest_has_no_error() -> None:
    assert left_ln_r(0.38, BLOCK_K, BLOCK_K) == (0.0,) * 4
    assert settle_ea_error_ev(0.38, BLOCK_K, BLOCK_K) == pytest.approx(0.0, abs=1e-12)


def test_a_lag_that_grows_by_2_k_over_the_way_makes_the_energy_too_small() -> None:
    block_k = np.linspace(298.15, 348.15, 6)
    error_ev = settle_ea_error_ev(0.38, block_k, block_k - np.linspace(0.0, 2.0, 6))
    assert error_ev == pytest.approx(-0.012, abs=0.002)


@pytest.mark.parametrize("needed", [0, 1, 37, 240])
def test_the_shortest_dwell_is_found_to_the_minute(needed: int) -> None:
    def campaign(minutes: int) -> Campaign:
        error_ev = 1e-3 if minutes >= needed else -2e-3
        return replace(NOTHING, duration_s=60.0 * minutes, settle_ea_error_ev=error_ev)

    assert shortest_dwell(campaign, 1.0) == (needed, campaign(needed))


def test_where_no_dwell_is_enough_that_is_said() -> None:
    never = replace(NOTHING, settle_ea_error_ev=1.0)
    assert shortest_dwell(lambda _: never, 1.0) == (None, never)


@pytest.fixture(scope="module")
def campaigns() -> dict[str, Campaign]:
    """Three temperatures on a pellet that lags its stage by 15 min, waited for in two ways."""
    ways = {"adaptive": {}, "fixed": {"equilibration": "fixed", "dwell": "0 s"}}
    return {
        way: run_campaign(
            MATERIALS[1], lag_s=900.0, celsius=(25.0, 35.0, 45.0), settling=how, seed=1
        )
        for way, how in ways.items()
    }


def test_probes_leave_no_more_than_their_tolerance(campaigns) -> None:
    assert campaigns["adaptive"].ended_by == ("probe",) * 3
    assert campaigns["adaptive"].worst_ln_r < 0.006
    assert campaigns["fixed"].ended_by == ("stage",) * 3
    assert campaigns["fixed"].worst_ln_r > 0.05


def test_a_line_of_probed_temperatures_is_as_good_as_it_says(campaigns) -> None:
    probed = campaigns["adaptive"]
    assert abs(probed.ea_error_ev) < 2 * probed.u_ea_ev
    assert abs(campaigns["fixed"].ea_error_ev) > 3 * abs(probed.ea_error_ev)
