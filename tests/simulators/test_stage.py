"""The simulated stage: passive cooling, lag, power limit, and the same ticks whoever asks."""

import math
import random
from dataclasses import replace

import pytest

from labctl_simulators.stage import Stage, StageProperties

BASE_K = 278.15
WARM = StageProperties(
    base_temperature_c=5.0,
    initial_temperature_c=75.0,
    heat_capacity_j_per_k=900.0,
    loss_w_per_k=0.25,
    heater_max_w=50.0,
    sensor_lag_s=15.0,
    sensor_offset_k=0.0,
    sensor_noise_k=0.0,
    sample_lag_s=180.0,
)
COLD = replace(WARM, initial_temperature_c=5.0)


class ConstantShare:
    """A controller that always asks for the same share of the power."""

    def __init__(self, share: float) -> None:
        self.share = share

    def heater_share(self, sensor_temperature_k: float, now_s: float) -> float:
        return self.share


class Thermostat:
    """A controller that depends on what it reads, so that any difference between runs grows."""

    def __init__(self) -> None:
        self.asked_at_s: list[float] = []

    def heater_share(self, sensor_temperature_k: float, now_s: float) -> float:
        self.asked_at_s.append(now_s)
        return min(max(0.7 * (310.0 - sensor_temperature_k), 0.0), 1.0)


def heated(properties: StageProperties, share: float) -> Stage:
    stage = Stage(properties, noise_seed=1)
    stage.attach(ConstantShare(share))
    return stage


def test_a_stage_without_a_controller_cools_with_its_time_constant() -> None:
    stage = Stage(WARM, noise_seed=1)
    time_constant_s = 900.0 / 0.25
    left_k = stage.state(time_constant_s).block_k - BASE_K
    assert left_k == pytest.approx(70.0 / math.e, rel=1e-9)


def test_a_stage_never_gets_colder_than_its_base() -> None:
    state = Stage(WARM, noise_seed=1).state(1e6)
    assert state.block_k >= BASE_K
    assert state.block_k == pytest.approx(BASE_K, abs=1e-6)


def test_a_stage_on_its_base_stays_there() -> None:
    state = Stage(COLD, noise_seed=1).state(5000.0)
    assert (state.block_k, state.sensor_k, state.sample_k) == (BASE_K, BASE_K, BASE_K)


def test_full_power_heats_as_fast_as_the_heat_capacity_allows() -> None:
    stage = heated(COLD, 1.0)
    risen_k = stage.state(60.0).block_k - BASE_K
    assert risen_k == pytest.approx(60.0 * 50.0 / 900.0, rel=0.01)


def test_full_power_ends_where_losses_balance_it() -> None:
    assert heated(COLD, 1.0).state(2e5).block_k == pytest.approx(BASE_K + 50.0 / 0.25)


def test_heater_power_is_the_share_the_controller_asks_for() -> None:
    assert heated(COLD, 0.5).heater_power_w(10.0) == 25.0


def test_sensor_lags_the_block_on_a_ramp_by_its_time_constant() -> None:
    slow_losses = replace(COLD, loss_w_per_k=1e-6)
    state = heated(slow_losses, 0.5).state(3000.0)
    rate_k_per_s = 25.0 / 900.0
    assert state.block_k - state.sensor_k == pytest.approx(15.0 * rate_k_per_s, rel=1e-3)


def test_sample_lags_the_block_on_a_ramp_by_its_time_constant() -> None:
    slow_losses = replace(COLD, loss_w_per_k=1e-6)
    state = heated(slow_losses, 0.5).state(3000.0)
    rate_k_per_s = 25.0 / 900.0
    assert state.block_k - state.sample_k == pytest.approx(180.0 * rate_k_per_s, rel=1e-3)


def test_one_long_step_is_bit_for_bit_a_thousand_random_ones() -> None:
    at_once, in_steps = Stage(COLD, noise_seed=1), Stage(COLD, noise_seed=1)
    at_once.attach(Thermostat())
    in_steps.attach(Thermostat())
    chance = random.Random(7)
    for now_s in sorted(chance.uniform(0.0, 3000.0) for _ in range(1000)):
        in_steps.state(now_s)
    assert in_steps.state(3000.4) == at_once.state(3000.4)
    assert in_steps.sensor_reading_k(3000.4) == at_once.sensor_reading_k(3000.4)


def test_the_controller_is_asked_once_a_tick_on_the_grid() -> None:
    stage, controller = Stage(COLD, noise_seed=1), Thermostat()
    stage.attach(controller)
    for now_s in (0.0, 0.5, 0.5, 2.9, 3.0, 3.0):
        stage.advance(now_s)
    assert controller.asked_at_s == [0.0, 1.0, 2.0, 3.0]


def test_what_a_controller_is_told_between_ticks_acts_at_the_next_tick() -> None:
    stage = Stage(COLD, noise_seed=1)
    controller = ConstantShare(0.0)
    stage.attach(controller)
    stage.advance(10.2)
    controller.share = 1.0
    assert stage.heater_power_w(10.9) == 0.0
    assert stage.heater_power_w(11.0) == 50.0


def test_temperatures_move_smoothly_between_ticks() -> None:
    stage = Stage(WARM, noise_seed=1)
    start, middle, end = (stage.state(now_s).block_k for now_s in (10.0, 10.5, 11.0))
    assert middle == pytest.approx((start + end) / 2.0, abs=1e-10)
    assert start > middle > end


def test_sensor_shows_its_offset() -> None:
    stage = Stage(replace(COLD, sensor_offset_k=0.05), noise_seed=1)
    assert stage.sensor_reading_k(5.0) == pytest.approx(BASE_K + 0.05)


def test_sensor_noise_has_the_size_given() -> None:
    stage = Stage(replace(COLD, sensor_noise_k=0.01), noise_seed=1)
    readings = [stage.sensor_reading_k(0.1 * n) - BASE_K for n in range(2000)]
    spread_k = math.sqrt(sum(reading**2 for reading in readings) / len(readings))
    assert spread_k == pytest.approx(0.01, rel=0.05)
    assert sum(readings) / len(readings) == pytest.approx(0.0, abs=0.001)


def test_sensor_noise_belongs_to_the_instant_and_not_to_how_often_it_is_read() -> None:
    noisy = replace(COLD, sensor_noise_k=0.01)
    often, once = Stage(noisy, noise_seed=1), Stage(noisy, noise_seed=1)
    readings = [often.sensor_reading_k(0.1 * n) for n in range(100)]
    assert once.sensor_reading_k(0.1 * 99) == readings[-1]
    assert len(set(readings)) > 90


def test_stages_with_other_seeds_have_other_noise() -> None:
    noisy = replace(COLD, sensor_noise_k=0.01)
    first, second = Stage(noisy, noise_seed=1), Stage(noisy, noise_seed=2)
    assert first.sensor_reading_k(5.0) != second.sensor_reading_k(5.0)
