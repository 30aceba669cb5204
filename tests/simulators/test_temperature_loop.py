"""The setpoint that ramps and the PID loop behind a simulated temperature controller."""

import pytest

from labctl_simulators.temperature_loop import PidLoop, Setpoint


@pytest.fixture
def setpoint() -> Setpoint:
    made = Setpoint()
    made.set_target(300.0, 0.0)
    return made


def test_without_a_ramp_the_setpoint_jumps(setpoint: Setpoint) -> None:
    setpoint.set_target(350.0, 10.0)
    assert setpoint.at(10.0) == 350.0
    assert not setpoint.is_ramping(10.0)


def test_a_ramp_starts_at_the_present_setpoint_and_ends_on_target(setpoint: Setpoint) -> None:
    setpoint.set_ramp(is_on=True, rate_k_per_min=6.0, now_s=0.0)
    setpoint.set_target(310.0, 100.0)
    assert setpoint.at(100.0) == 300.0
    assert setpoint.at(150.0) == pytest.approx(305.0)
    assert setpoint.is_ramping(199.0)
    assert setpoint.at(200.0) == 310.0
    assert not setpoint.is_ramping(200.1)
    assert setpoint.at(1e6) == 310.0


def test_a_ramp_goes_down_as_well(setpoint: Setpoint) -> None:
    setpoint.set_ramp(is_on=True, rate_k_per_min=6.0, now_s=0.0)
    setpoint.set_target(290.0, 0.0)
    assert setpoint.at(50.0) == pytest.approx(295.0)
    assert setpoint.at(101.0) == 290.0


def test_a_new_target_under_way_is_ramped_to_from_where_the_setpoint_is(setpoint: Setpoint) -> None:
    setpoint.set_ramp(is_on=True, rate_k_per_min=6.0, now_s=0.0)
    setpoint.set_target(310.0, 0.0)
    setpoint.set_target(300.0, 50.0)
    assert setpoint.at(50.0) == pytest.approx(305.0)
    assert setpoint.at(75.0) == pytest.approx(302.5)


def test_a_new_rate_under_way_acts_from_then_on(setpoint: Setpoint) -> None:
    setpoint.set_ramp(is_on=True, rate_k_per_min=6.0, now_s=0.0)
    setpoint.set_target(310.0, 0.0)
    setpoint.set_ramp(is_on=True, rate_k_per_min=60.0, now_s=50.0)
    assert setpoint.at(52.0) == pytest.approx(307.0)


def test_switching_the_ramp_off_under_way_leaves_the_setpoint_there(setpoint: Setpoint) -> None:
    setpoint.set_ramp(is_on=True, rate_k_per_min=6.0, now_s=0.0)
    setpoint.set_target(310.0, 0.0)
    setpoint.set_ramp(is_on=False, rate_k_per_min=6.0, now_s=50.0)
    assert setpoint.at(500.0) == pytest.approx(305.0)
    assert not setpoint.is_ramping(500.0)


def test_a_rate_of_zero_is_infinitely_fast(setpoint: Setpoint) -> None:
    setpoint.set_ramp(is_on=True, rate_k_per_min=0.0, now_s=0.0)
    setpoint.set_target(310.0, 1.0)
    assert setpoint.at(1.0) == 310.0


def test_proportional_output_is_p_percent_per_kelvin() -> None:
    loop = PidLoop()
    loop.p, loop.i = 30.0, 0.0
    assert loop.step(2.0, 1.0) == pytest.approx(60.0)


def test_output_stays_between_nothing_and_everything() -> None:
    loop = PidLoop()
    assert loop.step(50.0, 1.0) == 100.0
    assert loop.step(-50.0, 1.0) == 0.0


def test_the_integral_repeats_the_proportional_part_in_its_time() -> None:
    loop = PidLoop()
    loop.p, loop.i = 10.0, 20.0  # 1000 / 20: 50 s
    outputs = [loop.step(1.0, 1.0) for _ in range(50)]
    assert outputs[-1] == pytest.approx(20.0)


def test_the_integral_does_not_wind_up_at_full_output() -> None:
    loop = PidLoop()
    for _ in range(1000):
        loop.step(10.0, 1.0)
    assert loop.step(0.0, 1.0) == 0.0


def test_the_integral_does_not_wind_down_at_no_output() -> None:
    loop = PidLoop()
    for _ in range(1000):
        loop.step(-10.0, 1.0)
    assert loop.step(1.0, 1.0) == pytest.approx(51.0)


def test_the_derivative_acts_on_a_quarter_of_the_integral_time() -> None:
    loop = PidLoop()
    loop.p, loop.i, loop.d = 1.0, 20.0, 100.0
    loop.step(1.0, 1.0)
    integral_k = 0.02 + 2.0 * 0.02
    assert loop.step(2.0, 1.0) == pytest.approx(2.0 + integral_k + 12.5)


def test_a_loop_that_was_reset_forgets_its_past() -> None:
    loop, fresh = PidLoop(), PidLoop()
    loop.step(0.5, 1.0)
    loop.reset()
    assert loop.output_percent == 0.0
    assert loop.step(0.3, 1.0) == fresh.step(0.3, 1.0)
