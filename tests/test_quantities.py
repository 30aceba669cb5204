"""Quantities with units, as people write and read them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from labctl.quantities import (
    WRITTEN,
    ShareOfOne,
    TemperatureDifferenceK,
    TemperatureK,
    format_duration,
    format_si,
    parse_quantity,
    si_with_uncertainty,
    with_uncertainty,
)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("25 degC", "K", 298.15),
        ("25°C", "K", 298.15),
        ("298.15 K", "K", 298.15),
        ("-25 degC", "K", 248.15),
        ("0.1 K", "delta_K", 0.1),
        ("2 degC", "delta_K", 2.0),
        ("2 K/min", "K/min", 2.0),
        ("10 min", "s", 600.0),
        ("1.5 hour", "s", 5400.0),
        ("10 mV", "V", 0.01),
        ("1e-3 V", "V", 0.001),
        ("200 kHz", "Hz", 200e3),
        ("1.0 mm", "m", 1e-3),
        ("50 MPa", "Pa", 50e6),
        ("0.5 %", "%", 0.005),
    ],
)
def test_a_quantity_is_read_in_si(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "unit", "complaint"),
    [
        ("25 V", "K", 'a temperature, such as "25 degC"'),
        ("25", "K", "a temperature with its unit"),
        (25, "K", "a temperature with its unit in quotes"),
        ("warm", "K", "a temperature with its unit"),
        ("5 !!", "V", 'a voltage, such as "10 mV"'),
        ("10 min", "Hz", 'a frequency, such as "200 kHz"'),
        ("1 __import__('os')", "V", "a voltage"),
        (True, "s", "a time"),
    ],
)
def test_a_wrong_quantity_says_what_was_expected(value: object, unit: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_quantity(value, unit)
    assert complaint in str(caught.value)


def test_models_read_quantities_and_keep_numbers_made_in_python() -> None:
    class Model(BaseModel):
        at: TemperatureK = 300.0
        band: TemperatureDifferenceK = 0.1
        tolerance: ShareOfOne = 0.005

    assert Model.model_validate({"at": "25 degC", "band": "1 degC"}).at == pytest.approx(298.15)
    assert Model(at=310.0).at == 310.0
    with pytest.raises(ValidationError, match="expected a temperature"):
        Model.model_validate({"at": 25})
    with pytest.raises(ValidationError, match="expected a temperature"):
        Model.model_validate({"at": 25.0}, context=WRITTEN)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "12 s"), (150, "2 min"), (3900, "1 h 05 min"), (7199, "2 h 00 min"), (2e5, "2 d 7 h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.7e6, "12.7 MV"), (1000.0, "1 kV"), (0.0123, "12.3 mV"), (0.0, "0 V"), (-2e-9, "-2 nV")],
)
def test_si_prefixes_read_well(value: float, text: str) -> None:
    assert format_si(value, "V") == text


@pytest.mark.parametrize(
    ("value", "u_value", "text"),
    [
        (0.380178, 0.00062, "0.38018(62)"),
        (9.928e-9, 7.9e-11, "9.928(79)e-09"),
        (1441.5, 5.3, "1441.5(53)"),
        (210592.0, 12049.0, "2.11(12)e+05"),
        (0.38, 0.5, "0.38(50)"),
        (1.234, 0.0996, "1.23(10)"),
        (24.0, 0.0048, "24.0000(48)"),
        (0.38, float("nan"), "0.38"),
    ],
)
def test_an_uncertainty_shows_its_two_leading_digits(
    value: float, u_value: float, text: str
) -> None:
    assert with_uncertainty(value, u_value) == text


@pytest.mark.parametrize(
    ("value", "u_value", "text"),
    [
        (24.0, 0.012, "24.000(12) ohm"),
        (12.7412e6, 3.2e4, "12.741(32) Mohm"),
        (0.01457, 6.1e-4, "14.57(61) mohm"),
        (1e16, 1e14, "1.000(10)e+04 Tohm"),
        (0.0, 1.0, "0 ohm"),
    ],
)
def test_an_uncertain_value_keeps_its_zeros_and_its_prefix(
    value: float, u_value: float, text: str
) -> None:
    assert si_with_uncertainty(value, u_value, "ohm") == text
