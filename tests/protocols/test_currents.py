"""Currents given in A, per area and per capacity."""

from __future__ import annotations

import math

import pytest

from labctl.config import SampleConfig, validate
from labctl.errors import BadInputError
from labctl_protocols.currents import CurrentParameters

SAMPLE = SampleConfig(name="cell", diameter=0.01, nominal_capacity=7.2)


@pytest.mark.parametrize(
    ("given", "current_a"),
    [
        ({"current": "0.1 mA"}, 1e-4),
        ({"current_density": "0.09 mA/cm^2"}, 0.09e-3 * math.pi * 0.25),
        ({"c_rate": 0.1}, 2e-4),
    ],
)
def test_a_current_is_the_same_however_it_is_given(given, current_a: float) -> None:
    parameters = validate(CurrentParameters, given, source="test")
    assert parameters.current_a(SAMPLE) == pytest.approx(current_a)


@pytest.mark.parametrize("given", [{}, {"current": "1 mA", "c_rate": 0.1}])
def test_one_way_is_expected(given) -> None:
    with pytest.raises(BadInputError, match="expected one of current, current_density, c_rate"):
        validate(CurrentParameters, given, source="test")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"current_density": "1 A/m^2"}, "diameter: missing; a current_density"),
        ({"c_rate": 1.0}, "nominal_capacity: missing; a c_rate"),
    ],
)
def test_what_the_sample_lacks_is_said(given, message: str) -> None:
    parameters = validate(CurrentParameters, given, source="test")
    with pytest.raises(BadInputError, match=message):
        parameters.current_a(SampleConfig(name="bare"))
