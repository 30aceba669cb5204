"""Temperatures to visit: how they are written, in which order, and how each is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.config import validate
from labctl.errors import BadInputError
from labctl.quantities import kelvin
from labctl_protocols.temperatures import (
    ProbedTemperatureParameters,
    TemperatureParameters,
    settle_step,
)


def parameters_of(**given: Any) -> ProbedTemperatureParameters:
    asked = {"temperatures": ["25 degC"], **given}
    return validate(ProbedTemperatureParameters, asked, source="p.toml")


def celsius_of(parameters: TemperatureParameters) -> list[float]:
    return [round(each.temperature_k - kelvin(0.0), 6) for each in parameters.setpoints()]


def branches_of(*celsius: float, **given: Any) -> list[str]:
    parameters = parameters_of(temperatures=[f"{each} degC" for each in celsius], **given)
    return [each.branch for each in parameters.setpoints()]


def test_temperatures_are_a_list_in_the_order_to_visit() -> None:
    parameters = parameters_of(temperatures=["60 degC", "25 degC", "303.15 K"])
    assert celsius_of(parameters) == [60.0, 25.0, 30.0]


@pytest.mark.parametrize(
    ("start", "stop", "step", "visited"),
    [
        (25, 75, 10, [25, 35, 45, 55, 65, 75]),
        (75, 25, 25, [75, 50, 25]),
        (25, 25, 10, [25]),
        (20.1, 20.4, 0.1, [20.1, 20.2, 20.3, 20.4]),
    ],
)
def test_a_range_holds_both_its_ends_where_the_step_fits(start, stop, step, visited) -> None:
    ends = {"start": f"{start} degC", "stop": f"{stop} degC"}
    parameters = parameters_of(temperatures={**ends, "step": f"{step} K"})
    assert celsius_of(parameters) == visited


def test_a_range_that_misses_its_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="stop is not reached"):
        parameters_of(temperatures={"start": "25 degC", "stop": "74 degC", "step": "25 K"})


def test_a_temperature_belongs_to_the_branch_that_leads_to_it() -> None:
    down_and_up = branches_of(75, 50, 25, cooling_branch=True)
    assert down_and_up == ["heating", "cooling", "cooling", "heating", "heating"]
    assert branches_of(-20, 0, 20) == ["cooling", "heating", "heating"]


@pytest.mark.parametrize("room", [20, 25, 30])
def test_a_first_temperature_as_the_laboratory_s_belongs_to_the_branch_it_begins(room) -> None:
    assert branches_of(room, 75) == ["heating", "heating"]
    assert branches_of(room, 0) == ["cooling", "cooling"]
    assert branches_of(room) == ["heating"]


def test_a_cooling_branch_comes_back_without_the_turning_point_twice() -> None:
    parameters = parameters_of(temperatures=["25 degC", "50 degC", "75 degC"], cooling_branch=True)
    assert celsius_of(parameters) == [25.0, 50.0, 75.0, 50.0, 25.0]


def test_keys_are_unique_even_if_a_temperature_comes_twice() -> None:
    parameters = parameters_of(temperatures=["25 degC", "50 degC", "25 degC"], cooling_branch=True)
    keys = [each.key(step) for each in parameters.setpoints() for step in ("settle", "eis")]
    assert len(set(keys)) == len(keys) == 10
    assert keys[:2] == ["01-heating-25.0C/settle", "01-heating-25.0C/eis"]


def test_a_settle_is_planned_from_where_the_stage_stands() -> None:
    parameters = parameters_of(
        temperatures=["25 degC", "75 degC"], equilibration="fixed", dwell="30 min"
    )
    first, second = (settle_step(parameters, each) for each in parameters.setpoints())
    assert second.key == "02-heating-75.0C/settle"
    assert second.expected_duration_s - first.expected_duration_s == pytest.approx(25 * 60.0)
    assert first.expected_duration_s == pytest.approx((15 + 30) * 60.0)


def test_a_fixed_dwell_needs_no_cell_that_can_be_probed() -> None:
    written = {"temperatures": ["25 degC"]}
    parameters = validate(TemperatureParameters, written, source="p.toml")
    assert parameters.criterion().dwell_s == 3600.0


def test_equilibration_decides_between_probes_and_a_dwell() -> None:
    assert parameters_of().criterion().dwell_s is None
    assert parameters_of(equilibration="fixed").criterion().dwell_s == 3600.0
    dwelling = parameters_of(equilibration="fixed", dwell="0 s").criterion()
    assert dwelling.dwell_s == 0.0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            {"temperatures": ["25 degC", "50 degC", "323.15 K"]},
            "temperatures: 50 degC twice in a row: expected to go somewhere else in between",
        ),
        ({"dwell": "30 min"}, 'dwell: expected only with equilibration = "fixed"'),
        (
            {"equilibration": "fixed", "settle_timeout": "1 hour"},
            "settle_window + dwell: expected less than settle_timeout",
        ),
        ({"settle_window": "3 hours"}, "settle_window: expected less than settle_timeout"),
        ({"equilibration": "slow"}, "equilibration = 'slow': Input should be 'adaptive' or"),
        ({"equilibration": "fixed", "dwell": "-1 s"}, "dwell = '-1 s': Input should be greater"),
    ],
)
def test_a_bad_temperature_parameter_is_one_line(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parameters_of(**given)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
