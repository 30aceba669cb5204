import math

import numpy as np
import pytest

from labctl_simulators.methodscript_packet import (
    MANTISSA_LIMIT,
    OFFSET,
    PREFIXES,
    Value,
    encode_number,
    encode_packet,
    encode_variable,
)

EXPONENTS = dict(PREFIXES)


def decode(field: str) -> float:
    mantissa = int(field[:7], 16) - OFFSET
    exponent = EXPONENTS[field[7]]
    return mantissa * 10.0**exponent if exponent >= 0 else mantissa / 10.0**-exponent


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value(0.099994392, "da"), "daDF5CB18n"),
        (Value(23.699316e-6, "ba", 4, 0x18), "ba9699F74p,14,218"),
        (Value(-0.999943, "da"), "da7F0BDF9u"),
        (Value(22.481974, "eb"), "eb9570C36u"),
        (Value(50e3, "dc"), "dcAFAF080m"),
        (Value(330.174, "cc"), "cc80509BEm"),
        (Value(-51.32114, "cd"), "cd4F0E6CCu"),
        (Value(200e3, "dc"), "dc8030D40 "),
        (Value(1, "ja"), "ja8000001i"),
        (Value(0.0, "da", 0, 2), "da8000000 ,10,202"),
        (Value(math.nan, "ba", 2), "ba     nan,12"),
        (Value(-3, "ee"), "ee7FFFFFDi"),
    ],
)
def test_variables_are_written_as_recorded_ones(value: Value, expected: str) -> None:
    assert encode_variable(value) == expected


def test_packet_joins_its_variables_with_semicolons() -> None:
    packet = encode_packet([Value(50e3, "dc"), Value(1, "ja")])
    assert packet == "PdcAFAF080m;ja8000001i"


def test_empty_packet_is_a_bare_p() -> None:
    assert encode_packet([]) == "P"


def test_prefix_is_the_finest_that_keeps_the_mantissa_below_1e8() -> None:
    rng = np.random.default_rng(7)
    magnitudes = 10.0 ** rng.uniform(-11, 25.9, size=2000) * rng.choice([-1, 1], size=2000)
    for number in magnitudes.tolist():
        field = encode_number(number)
        mantissa = abs(int(field[:7], 16) - OFFSET)
        assert len(field) == 8
        assert mantissa < MANTISSA_LIMIT
        # one prefix finer the mantissa would have been too large: three more digits
        assert mantissa * 1000 >= MANTISSA_LIMIT - 1000
        assert decode(field) == pytest.approx(number, rel=1e-5)


def test_mantissa_that_rounds_up_to_1e8_takes_the_coarser_prefix() -> None:
    assert encode_number(99.9999999) == encode_number(100.0) == "80186A0m"


def test_number_below_the_finest_prefix_loses_its_digits_and_keeps_the_prefix() -> None:
    assert encode_number(2e-18) == "8000002a"


@pytest.mark.parametrize(("number", "mantissa"), [(1e30, 99_999_999), (-1e30, -99_999_999)])
def test_number_beyond_the_format_is_clipped(number: float, mantissa: int) -> None:
    field = encode_number(number)
    assert (int(field[:7], 16) - OFFSET, field[7]) == (mantissa, "E")


def test_changed_variable_forgets_what_was_measured_with_it() -> None:
    assert Value(1.0, "ba", 2, 24).with_number(2.0) == Value(2.0, "ba")
