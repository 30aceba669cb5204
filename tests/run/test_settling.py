"""Settling: when a temperature counts as reached, and what happens when it is not in time."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labctl.documents import Reason
from labctl.instruments.techniques import StageReading
from labctl.quantities import BOLTZMANN_EV_PER_K
from labctl.run.settle import (
    Probe,
    Rest,
    SettleCriterion,
    allowed_change,
    energy_between_ev,
    probe_from,
    ramp_duration_s,
    stage_is_settled,
)
from labctl.run.settling import _State
from labctl.run.telemetry import TimedReading

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

CRITERION = SettleCriterion(band_k=0.1, slope_k_per_min=0.01, window_s=600.0)
SETPOINT_K = 300.0


def readings(temperature_k: Any, *, until_s: float = 900.0) -> list[TimedReading]:
    """Return a reading every 10 s of a stage whose temperature is a function of time."""
    times_s = np.arange(0.0, until_s + 1.0, 10.0)
    return [TimedReading(t, StageReading(temperature_k(t), SETPOINT_K, 20.0)) for t in times_s]


def test_a_stage_that_stands_at_its_setpoint_is_settled() -> None:
    assert stage_is_settled(readings(lambda _: 300.02), SETPOINT_K, CRITERION)


def test_a_stage_is_not_settled_before_its_window_is_over() -> None:
    almost = readings(lambda _: 300.0, until_s=590.0)
    assert not stage_is_settled(almost, SETPOINT_K, CRITERION)


def test_a_stage_beside_its_band_is_not_settled() -> None:
    assert not stage_is_settled(readings(lambda _: 300.11), SETPOINT_K, CRITERION)


def test_one_reading_outside_the_band_within_the_window_counts() -> None:
    spike = readings(lambda t: 300.2 if t == 700.0 else 300.0)
    assert not stage_is_settled(spike, SETPOINT_K, CRITERION)


def test_what_was_before_the_window_does_not_count() -> None:
    late = readings(lambda t: 295.0 if t < 290.0 else 300.0)
    assert stage_is_settled(late, SETPOINT_K, CRITERION)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_stage_that_creeps_within_its_band_is_not_settled(sign: float) -> None:
    creeping = readings(lambda t: 300.0 + sign * 0.015 / 60.0 * (t - 600.0))
    assert max(abs(each.reading.temperature_k - 300.0) for each in creeping[30:]) < 0.1
    assert not stage_is_settled(creeping, SETPOINT_K, CRITERION)


def test_a_probe_is_the_mean_of_its_repeats_and_their_scatter() -> None:
    probe = probe_from([99.0, 100.0, 101.0])
    assert probe.resistance_ohm == 100.0
    assert probe.u_resistance_ohm == pytest.approx(1.0 / np.sqrt(3.0))


def test_a_steep_sample_may_change_more_between_two_probes() -> None:
    quiet = Probe(100.0, 0.0)
    assert allowed_change(CRITERION, quiet, quiet, None) == pytest.approx(0.005)
    assert allowed_change(CRITERION, quiet, quiet, 0.76) == pytest.approx(0.010)


@pytest.mark.parametrize(("energy_ev", "limit_ev"), [(-0.2, 0.1), (0.004, 0.1), (5.0, 1.5)])
def test_an_absurd_early_slope_does_not_decide(energy_ev: float, limit_ev: float) -> None:
    quiet = Probe(100.0, 0.0)
    allowed = allowed_change(CRITERION, quiet, quiet, energy_ev)
    assert allowed == allowed_change(CRITERION, quiet, quiet, limit_ev)


def resting(temperature_k: float, ea_ev: float) -> Rest:
    """Return a sample of this activation energy at rest, sigma T in a straight line."""
    ohm = temperature_k * math.exp(ea_ev / (BOLTZMANN_EV_PER_K * temperature_k))
    return Rest(temperature_k, ohm)


@pytest.mark.parametrize("to_k", [303.0, 338.0, 280.0])
def test_two_temperatures_tell_how_steep_a_sample_is(to_k: float) -> None:
    energy_ev = energy_between_ev(resting(300.0, 0.78), resting(to_k, 0.78))
    assert energy_ev == pytest.approx(0.78)


def test_temperatures_close_by_tell_nothing() -> None:
    assert energy_between_ev(resting(300.0, 0.78), resting(301.0, 0.78)) is None


def test_the_tolerance_is_the_sample_s_own_from_the_second_temperature_on(
    make_bench, quick
) -> None:
    """What a steep sample has still to relax at the end is more than an unknown one may have."""
    world = {"sample_lag_s": "900.0", "activation_energy_ev": "0.76"}
    asked = {
        **quick,
        "temperatures": ["26 degC", "36 degC"],
        "probe_tolerance": "1 %",
        "settle_window": "10 min",
    }
    result = make_bench(world=world).run(asked)
    (_, second) = settles(result)
    assert 0.012 < abs(second["probe_remainder"]) < 0.02


def test_a_noisy_probe_is_not_asked_for_more_than_it_can_tell() -> None:
    noisy = Probe(100.0, 1.0)
    allowed = allowed_change(CRITERION, noisy, noisy, None)
    assert allowed == pytest.approx(3.0 * np.sqrt(2.0) * 0.01)
    quiet = Probe(100.0, 0.0)
    assert allowed_change(CRITERION, noisy, quiet, None) == pytest.approx(3.0 * 0.01)


def test_a_ramp_takes_its_span_over_its_rate() -> None:
    assert ramp_duration_s(350.0, 300.0, 2.0) == 1500.0


def settles(result) -> list[dict[str, Any]]:
    steps = [each for each in result.told.events("step") if each["kind"] == "settle"]
    return [each["result"] for each in steps if each["phase"] == "end"]


def test_a_settle_tells_how_the_temperature_was_reached(undisturbed) -> None:
    for result, setpoint_k in zip(settles(undisturbed), (299.15, 301.15), strict=True):
        assert result["is_settled"]
        assert result["temperature_k"] == pytest.approx(setpoint_k, abs=0.5)
        assert result["duration_s"] > 60.0
        assert abs(result["probe_change"]) < 0.02
        assert result["probe_resistance_ohm"] == pytest.approx(120.0, rel=0.1)
        assert 100.0 <= result["probe_frequency_hz"] <= 200e3


@pytest.mark.parametrize(
    ("tolerance", "least_shift", "largest_shift"),
    [("0.5 %", -0.005, 0.02), ("50 %", 0.1, 1.0)],
    ids=["with a strict probe", "with a probe that lets all pass"],
)
def test_a_sample_that_lags_its_stage_is_waited_for(
    make_bench, quick, tolerance: str, least_shift: float, largest_shift: float
) -> None:
    asked = {
        **quick,
        "temperatures": ["40 degC"],
        "probe_tolerance": tolerance,
        "probe_interval": "3 min",
    }
    slow, fast = (
        make_bench(world={"sample_lag_s": lag}).run(asked).told.events("fit")[0]
        for lag in ("600.0", "5.0")
    )
    shift = slow["r_total_ohm"] / fast["r_total_ohm"] - 1.0
    assert least_shift < shift < largest_shift


def test_a_settle_says_what_has_ended_it(undisturbed, make_bench, quick) -> None:
    assert [result["ended_by"] for result in settles(undisturbed)] == ["probe", "probe"]
    fixed = {**quick, "temperatures": ["26 degC"], "equilibration": "fixed"}
    for dwell, ended_by in (("10 min", "dwell"), ("0 s", "stage")):
        (result,) = settles(make_bench().run({**fixed, "dwell": dwell}))
        assert (result["ended_by"], result["is_settled"]) == (ended_by, True)


def test_a_fixed_dwell_begins_once_the_stage_stands_and_takes_no_probe(make_bench, quick) -> None:
    fixed = {**quick, "temperatures": ["26 degC"], "equilibration": "fixed"}
    at_once, later = (make_bench().run({**fixed, "dwell": dwell}) for dwell in ("0 s", "30 min"))
    assert "probe" not in later.told.points()
    (short,), (long,) = settles(at_once), settles(later)
    assert long["duration_s"] - short["duration_s"] == pytest.approx(1800.0, abs=1.0)
    assert long["probe_resistance_ohm"] is None
    (fit,) = later.told.events("fit")
    assert (fit["is_settled"], fit["settle_ended_by"]) == (True, "dwell")


def test_a_dwell_begins_anew_if_the_stage_leaves_its_band(make_bench, quick) -> None:
    """A setpoint changed at the front panel and back takes the sample along."""
    bench = make_bench()
    fixed = {**quick, "temperatures": ["26 degC"], "equilibration": "fixed", "dwell": "20 min"}
    (calm,) = settles(make_bench().run(fixed))

    def turned_to(setpoint_k: float) -> Callable[[asyncio.Task[Any]], None]:
        message = f"SETP 1,{setpoint_k}\n".encode()
        return lambda task: bench.stage.receive(message, task.get_loop().time())

    disturbance = {600.0: turned_to(304.15), 720.0: turned_to(299.15)}
    (disturbed,) = settles(bench.run(fixed, at=disturbance))
    assert disturbed["is_settled"]
    assert disturbed["duration_s"] > calm["duration_s"] + 600.0


IMPATIENT = {
    "temperatures": ["26 degC", "70 degC", "27 degC"],
    "settle_timeout": "5 min",
}


def test_a_temperature_not_reached_in_time_is_measured_and_flagged(bench, quick) -> None:
    result = bench.run({**quick, **IMPATIENT, "on_settle_timeout": "measure"})
    assert result.ending.reason is Reason.COMPLETED
    assert [fit["is_settled"] for fit in result.told.events("fit")] == [True, False, False]
    late = settles(result)[1]
    assert "not settled within 300 s" in late["reason"]
    assert late["duration_s"] == pytest.approx(300.0, abs=1.0)


def test_a_temperature_not_reached_in_time_is_skipped_and_named(bench, quick) -> None:
    result = bench.run({**quick, **IMPATIENT, "on_settle_timeout": "skip"})
    assert result.ending.reason is Reason.COMPLETED
    assert len(result.told.events("fit")) == 1
    assert result.told.points()["eis"] == 15
    assert result.told.stop["expected_points"] == {"eis": 45}
    assert result.told.stop["forgone_points"] == {"eis": 30}
    message = result.told.stop["message"]
    assert "02-heating-70.0C/eis" in message
    assert "03-cooling-27.0C/eis" in message


def test_a_temperature_not_reached_in_time_fails_the_run(bench, quick) -> None:
    result = bench.run({**quick, **IMPATIENT, "on_settle_timeout": "fail"})
    assert result.ending.reason is Reason.FAILED
    assert "02-heating-70.0C/settle: not settled within 300 s" in result.told.stop["message"]
    assert "K from setpoint" in result.told.stop["message"]
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)


def test_a_sample_that_keeps_drifting_is_told_apart_from_a_stage_that_does(
    make_bench, quick
) -> None:
    bench = make_bench(world={"sample_lag_s": "3000.0"})
    hurried = {
        **quick,
        "temperatures": ["45 degC"],
        "probe_tolerance": "0.1 %",
        "settle_timeout": "15 min",
    }
    (late,) = settles(bench.run(hurried))
    assert not late["is_settled"]
    assert "sample still drifts" in late["reason"]
    assert late["probe_change"] < -0.001


def test_time_left_falls_from_the_plan_s_whole_to_nothing(undisturbed) -> None:
    left_s = [each.time_left_s for each in undisturbed.progress]
    at_steps = [
        after.time_left_s
        for before, after in pairwise(undisturbed.progress)
        if after.steps_done > before.steps_done
    ]
    assert len(at_steps) == 4
    assert left_s[0] > at_steps[0] > at_steps[1] > at_steps[2] > at_steps[3] == 0.0


def test_time_left_falls_with_the_clock_within_a_step(undisturbed) -> None:
    settling = [each for each in undisturbed.progress if each.note.endswith("K from setpoint")]
    for before, after in pairwise(settling):
        if before.step == after.step and after.time_left_s > 0.0:
            gone_s = before.time_left_s - after.time_left_s
            assert gone_s == pytest.approx(after.elapsed_s - before.elapsed_s, abs=1e-6)


def test_progress_shows_step_temperature_and_last_point(undisturbed) -> None:
    last = undisturbed.progress[-1]
    assert (last.steps_done, last.steps_total) == (4, 4)
    assert last.setpoint_k == pytest.approx(301.15)
    assert last.temperature_k == pytest.approx(301.15, abs=0.5)
    assert last.last_point["is_repeat"] == 1.0


@pytest.mark.parametrize("useless_ohm", [math.nan, math.inf, 0.0, -3.0])
def test_a_probe_that_is_no_resistance_decides_nothing(useless_ohm: float) -> None:
    state = _State()
    for number, resistance_ohm in enumerate([useless_ohm, 1.2, 1.17, 1.145, 1.125]):
        state.add(180.0 * number, Probe(resistance_ohm, 1e-3))
    assert len(state.probes) == 4
    assert math.isfinite(state.remainder)
    assert abs(state.remainder) > 0.02
