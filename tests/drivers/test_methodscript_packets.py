import math
import random
from fractions import Fraction

import pytest

from labctl.instruments.techniques import PointStatus
from labctl_drivers.methodscript_packets import (
    EMSTAT4_HR_CURRENT_RANGES_A,
    Variable,
    parse_packet,
)

EXPONENTS = {
    "a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "m": -3, " ": 0, "k": 3, "M": 6, "G": 9,
    "T": 12, "P": 15, "E": 18, "i": 0,
}  # fmt: skip


def only_variable(text: str) -> Variable:
    (variable,) = parse_packet(f"P{text}").variables
    return variable


# The worked examples of the communication protocol manual and of recordings.
@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("da8000800u", 2.048e-3, "V"),
        ("ba8000800u,10,20B", 2.048e-3, "A"),
        ("daDF5CB18n", 0.099994392, "V"),
        ("ba9699F74p,14,218,40", 23.699316e-6, "A"),
        ("ja8000001i", 1.0, "1"),
        ("da7F0BDF9u", -0.999943, "V"),
        ("eb9570C36u", 22.481974, "s"),
        ("dcAFAF080m", 50e3, "Hz"),
        ("cc80509BEm", 330.174, "ohm"),
        ("cd4F0E6CCu", -51.32114, "ohm"),
        ("dc8030D40 ", 200e3, "Hz"),
        ("da8000000 ", 0.0, "V"),
    ],
)
def test_worked_examples_give_their_values_to_the_last_digit(
    text: str, value: float, unit: str
) -> None:
    variable = only_variable(text)
    assert variable.value == value
    assert variable.unit == unit


def test_metadata_tell_status_range_and_noise() -> None:
    variable = only_variable("ba9699F74p,14,218,40")
    assert variable == Variable("ba", 23.699316e-6, PointStatus.UNDERLOAD, 0x18, 0)


def test_a_variable_without_metadata_has_none() -> None:
    variable = only_variable("da8000800u")
    assert (variable.status_bits, variable.range_index, variable.noise) == (None, None, None)


def test_metadata_of_an_unknown_kind_are_skipped() -> None:
    assert only_variable("ba8000001u,9whatever,12,7,218") == Variable(
        "ba", 1e-6, PointStatus.OVERLOAD, 0x18
    )


def test_nan_is_a_value_with_its_status() -> None:
    variable = only_variable("cc     nan,12,218")
    assert math.isnan(variable.value)
    assert variable.status_bits == PointStatus.OVERLOAD


def test_a_packet_keeps_the_order_of_its_variables() -> None:
    packet = parse_packet("Pdc8030D40 ;cc80509BEm,10,288;cd4F0E6CCu,14,288")
    assert [item.type for item in packet.variables] == ["dc", "cc", "cd"]


def test_the_status_of_a_packet_is_that_of_all_its_variables_together() -> None:
    assert parse_packet("Pdc8030D40 ;cc80509BEm,12;cd4F0E6CCu,14").status_bits == 6
    assert parse_packet("Pdc8030D40 ").status_bits == 0


def test_the_range_of_a_packet_is_the_first_that_is_one_of_the_asked_kind() -> None:
    packet = parse_packet("Pcc80509BEm,10,202;cd4F0E6CCu,10,215")
    assert packet.range_in(EMSTAT4_HR_CURRENT_RANGES_A) == 1e-3


def test_a_packet_without_a_range_has_a_range_of_nan() -> None:
    assert math.isnan(
        parse_packet("Pcc80509BEm,10;cd4F0E6CCu").range_in(EMSTAT4_HR_CURRENT_RANGES_A)
    )


@pytest.mark.parametrize("index", ["202", "203", "204", "205", "206"])
def test_a_range_of_the_potential_is_no_current_range(index: str) -> None:
    packet = parse_packet(f"Pcc80509BEm,10;cd4F0E6CCu,10,{index};ch8002710u,10,{index}")
    assert math.isnan(packet.range_in(EMSTAT4_HR_CURRENT_RANGES_A))


def test_every_mantissa_with_every_prefix_is_the_float_nearest_to_it() -> None:
    rng = random.Random(1)
    edges = [-(1 << 27), -1, 0, 1, (1 << 27) - 1]
    for mantissa in edges + [rng.randrange(-(1 << 27), 1 << 27) for _ in range(200)]:
        for prefix, exponent in EXPONENTS.items():
            exact = Fraction(mantissa) * Fraction(10) ** exponent
            text = f"ba{mantissa + (1 << 27):07X}{prefix}"
            assert only_variable(text).value == float(exact)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "da8000800u",
        "P",
        "Pda8000800",  # the trailing space was stripped
        "Pda800080u",
        "Pda8000800x",
        "Pda80g0800u",
        "Pda8000800u,1",
        "Pda8000800u,1G",
        "Pda8000800u,2FFF",
        "Pda8000800u,",
        "Pda8000800u14",
        "PDA8000800u",
        "Pda8000800u;",
        "Pda    nan ",
    ],
)
def test_what_is_no_packet_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse_packet(line)
