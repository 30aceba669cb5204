"""Data packets of MethodSCRIPT devices: text to numbers with units, status and range.

A packet is one line, `P` and variables between semicolons; a variable is a type of two letters,
eight characters of value and, after commas, metadata. A trailing space is data (the prefix of a
value without prefix), so nobody strips these lines. Source: PalmSens MethodSCRIPT manual,
"Measurement data package variables" and "Package format".
"""

from __future__ import annotations

import functools
import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OFFSET = 1 << 27
_EXPONENTS = dict(zip("afpnum kMGTPE", range(-18, 19, 3), strict=True))
_NAN = "     nan"
_VALUE = re.compile(r"(?P<mantissa>[0-9A-F]{7})(?P<prefix>[afpnum kMGTPEi])")
_METADATA = re.compile(r"1[0-9A-Fa-f]|2[0-9A-Fa-f]{2}|4[0-9A-Fa-f]|[^124].*")


def _in_unit(unit: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, unit)


# Unit of each variable type (MethodSCRIPT manual, table of variable types); "1" where it has none.
UNITS = (
    _in_unit("V", *(f"a{letter}" for letter in "abcdefghi"))
    | _in_unit("V", *(f"a{letter}" for letter in "stuvwxyz"))
    | _in_unit("A", "ba", "bb")
    | _in_unit("deg", "ca")
    | _in_unit("ohm", "cb", "cc", "cd", "cl", "cm", "cn", "co", "cp", "cq")
    | _in_unit("V", "ce", "ch", "ci", "cs", "ct", "cw", "cx", "cy", "cz")
    | _in_unit("A", "cf", "cj", "ck", "cr", "cu", "cv")
    | _in_unit("Hz", "cg", "dc")
    | _in_unit("V", "da", "dd")
    | _in_unit("A", "db")
    | _in_unit("s", "eb")
    | _in_unit("degC", "ed", "ef")
    | _in_unit("s/V", "eg")
    | _in_unit("1", "ea", "ec", "ee", "ja", "jb", "jc", "jd")
    | _in_unit("A", "ha", "hb", "hc", "hd")
    | _in_unit("V", "ia", "ib", "ic", "id")
)

# Nominal current range by index (MethodSCRIPT manual, range tables). Indices 2 to 6 are potential
# ranges; that 3 and 6 are current ranges too holds on the LR, not on the HR.
EMSTAT4_HR_CURRENT_RANGES_A = {
    9: 100e-9,
    12: 1e-6,
    15: 10e-6,
    18: 100e-6,
    21: 1e-3,
    24: 10e-3,
    27: 100e-3,
}


@dataclass(frozen=True)
class Variable:
    """One measured number of a packet.

    Attributes:
        type: two letters, a key of `UNITS` unless the firmware knows more than this module.
        value: in the unit of its type; NaN where the device says so.
        status_bits: 0 when all is well, else timing, overload, underload, overload warning; None
            if the firmware sent none.
        range_index: index of the range it was measured in; None if the firmware sent none.
        noise: the device's noise grade, 0 to 15; None if the firmware sent none.
    """

    type: str
    value: float
    status_bits: int | None = None
    range_index: int | None = None
    noise: int | None = None

    @property
    def unit(self) -> str:
        """Return the unit of the value; empty for a type that is not known."""
        return UNITS.get(self.type, "")


@dataclass(frozen=True)
class Packet:
    """The variables of one packet, in the order the script added them, and the line they came in.

    Attributes:
        line: as the device sent it.
        variables: at least one.
    """

    line: str
    variables: tuple[Variable, ...]

    @property
    def status_bits(self) -> int:
        """Return the status bits of all variables together; 0 where the firmware sends none."""
        return functools.reduce(operator.or_, (item.status_bits or 0 for item in self.variables))

    def range_in(self, ranges: Mapping[int, float]) -> float:
        """Return the nominal range of the first variable measured in one of `ranges`, else NaN."""
        found = (item.range_index for item in self.variables if item.range_index in ranges)
        index = next(found, None)
        return math.nan if index is None else ranges[index]


def parse_packet(line: str) -> Packet:
    """Return what one packet holds.

    Args:
        line: the line without its line feed, otherwise untouched.

    Raises:
        ValueError: not a packet; the message says which part of it is wrong.
    """
    if not line.startswith("P"):
        raise ValueError("a packet begins with P")
    return Packet(line, tuple(_variable(part) for part in line[1:].split(";")))


def _variable(text: str) -> Variable:
    name, field, rest = text[:2], text[2:10], text[10:]
    if not re.fullmatch("[a-z]{2}", name):
        raise ValueError(f"{text!r} begins with no variable type")
    if rest and not rest.startswith(","):
        raise ValueError(f"{text!r} goes on after its value")
    metadata = rest[1:].split(",") if rest else []
    for item in metadata:
        if not _METADATA.fullmatch(item):
            raise ValueError(f"{item!r} is no metadata")
    return Variable(
        name,
        _value(field),
        status_bits=_find(metadata, "1"),
        range_index=_find(metadata, "2"),
        noise=_find(metadata, "4"),
    )


def _value(field: str) -> float:
    if field == _NAN:
        return math.nan
    match = _VALUE.fullmatch(field)
    if match is None:
        raise ValueError(f"{field!r} is no value")
    mantissa = int(match["mantissa"], 16) - _OFFSET
    exponent = _EXPONENTS.get(match["prefix"], 0)  # "i" marks an integer
    # A division where the power is negative: it rounds once, so that 23 m is 0.023 to the last bit.
    return mantissa / 10**-exponent if exponent < 0 else float(mantissa * 10**exponent)


def _find(metadata: list[str], kind: str) -> int | None:
    """Return the number in the first metadata of a kind; kinds not known are left alone."""
    return next((int(item[1:], 16) for item in metadata if item.startswith(kind)), None)
