"""Techniques know their points, how long they take, what they ask for and what ended them."""

from __future__ import annotations

import pytest

from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv, Stop
from labctl.instruments.techniques import Eis, Geis, Ocp

POINT = {"elapsed_s": 10.0, "potential_v": 4.2, "current_a": -1e-3, "charge_c": -0.5}


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (Stop(potential_above_v=4.2), "potential above 4.2 V"),
        (Stop(potential_above_v=4.21), ""),
        (Stop(potential_below_v=4.2), "potential below 4.2 V"),
        (Stop(potential_below_v=2.6), ""),
        (Stop(current_above_a=5e-4), "current above 0.0005 A"),
        (Stop(current_below_a=2e-3), "current below 0.002 A"),
        (Stop(current_below_a=5e-4), ""),
        (Stop(charge_above_c=0.5), "charge above 0.5 C"),
        (Stop(), ""),
    ],
)
def test_a_stop_condition_says_what_it_saw(stop: Stop, reason: str) -> None:
    technique = Cp(current_a=-1e-3, duration_s=60.0, stop=stop)
    assert technique.ended_by(POINT) == reason


def test_a_rest_ends_early_only_if_it_was_told_to_and_a_window_has_passed() -> None:
    assert Ocp(duration_s=60.0).ended_by(POINT) == ""
    resting = Ocp(duration_s=60.0, stop_change_v=1e-3, stop_window_s=10.0)
    assert resting.ended_by(POINT) == "changed by less than 0.001 V in 10 s"
    assert resting.ended_by({**POINT, "elapsed_s": 9.0}) == ""


@pytest.mark.parametrize(
    ("technique", "n_points", "duration_s"),
    [
        (Ca(potential_v=0.5, duration_s=60.0, interval_s=0.1), 600, 61.0),
        (Cp(current_a=1e-3, duration_s=60.0, interval_s=7.0), 8, 61.0),
        (Lsv(begin_v=0.0, end_v=-1.0, step_v=0.01, rate_v_per_s=0.1), 101, 11.1),
        (
            Cv(begin_v=0.0, vertex_1_v=1.0, vertex_2_v=-1.0, step_v=0.01, rate_v_per_s=0.1),
            401,
            41.1,
        ),
    ],
)
def test_a_technique_knows_its_points_and_its_time(technique, n_points, duration_s) -> None:
    assert technique.expected_points == n_points
    assert technique.expected_duration_s() == pytest.approx(duration_s)


def asked(technique) -> dict[str, float]:
    return {each.parameter: each.value for each in technique.asked()}


def test_a_sine_asks_for_its_peaks_and_not_only_its_bias() -> None:
    sweep = {"frequency_start_hz": 1e3, "frequency_end_hz": 1.0, "n_points": 3}
    told = asked(Eis(**sweep, amplitude_v_rms=0.01, bias_v=2.0))
    assert told["bias_v plus the sine's peak"] == pytest.approx(2.0 + 0.01 * 2**0.5)
    assert told["bias_v less the sine's peak"] == pytest.approx(2.0 - 0.01 * 2**0.5)
    told = asked(Geis(**sweep, amplitude_a_rms=1e-3, bias_a=0.0))
    assert told["bias_a less the sine's peak"] == pytest.approx(-1e-3 * 2**0.5)


def test_a_held_current_asks_for_the_potentials_it_is_driven_to() -> None:
    told = asked(Cp(current_a=1e-3, duration_s=9.0, stop=Stop(potential_above_v=4.8)))
    assert told["stop.potential_above_v"] == 4.8
