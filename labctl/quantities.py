"""Quantities with units: what people write ("25 degC", "0.1 mV/s") to SI numbers and back.

pint reads the units; it is imported on the first quantity, since it takes a quarter of a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pint import UnitRegistry

ZERO_CELSIUS_K = 273.15
WRITTEN = "written"
"""The validation context of what a person wrote: there a quantity needs its unit."""

BOLTZMANN_EV_PER_K = 8.617333262e-5

_NUMBER_AND_UNIT = re.compile(
    r"^\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>\D.*?)?\s*$"
)
# What each dimension is called when a person has to be told, with an example to copy.
_EXAMPLES = {
    "K": ("a temperature", "25 degC"),
    "delta_K": ("a temperature difference", "0.1 K"),
    "K/min": ("a temperature rate", "2 K/min"),
    "s": ("a time", "10 min"),
    "V": ("a voltage", "10 mV"),
    "A": ("a current", "1 mA"),
    "A/m^2": ("a current density", "0.09 mA/cm^2"),
    "C": ("a charge", "1.5 mA h"),
    "V/s": ("a scan rate", "0.1 mV/s"),
    "Hz": ("a frequency", "200 kHz"),
    "m": ("a length", "1.0 mm"),
    "kg": ("a mass", "100 mg"),
    "Pa": ("a pressure", "50 MPa"),
    "%": ("a share", "0.5 %"),
    "byte": ("a size", "2 GB"),
}


def kelvin(celsius: float) -> float:
    """Return a temperature given in degrees Celsius in K."""
    return celsius + ZERO_CELSIUS_K


def celsius(kelvin: float) -> float:
    """Return a temperature given in K in degrees Celsius."""
    return kelvin - ZERO_CELSIUS_K


@cache
def _registry() -> UnitRegistry[float]:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=False)


def parse_quantity(value: object, unit: str) -> float:
    """Return what a person wrote as a number in `unit`.

    Args:
        value: text such as "25 degC"; a bare number is refused, since its unit is a guess.
        unit: the SI unit wanted, a key of the table of examples ("K", "V", "K/min", ...).

    Raises:
        ValueError: not a number with a unit, or a unit of another kind.
    """
    kind, example = _EXAMPLES[unit]
    if not isinstance(value, str):
        raise ValueError(f'expected {kind} with its unit in quotes, such as "{example}"')  # noqa: TRY004
    match = _NUMBER_AND_UNIT.match(value)
    if match is None or match["unit"] is None:
        raise ValueError(f'expected {kind} with its unit, such as "{example}"')
    try:
        return _convert(float(match["number"]), match["unit"], unit)
    except (ValueError, LookupError) as error:
        raise ValueError(f'expected {kind}, such as "{example}"') from error


def _convert(number: float, written: str, wanted: str) -> float:
    """Return `number` of the unit as written in the unit wanted; ValueError if it cannot be."""
    import pint

    registry = _registry()
    if wanted == "delta_K":  # a difference: 1 degC is 1 K, not 274.15 K
        wanted, written = "K", re.sub(r"^(?:degC|°C|celsius)$", "delta_degC", written)
    if wanted == "%":
        wanted = "dimensionless"
    try:
        return float(registry.Quantity(number, written.replace("°C", "degC")).to(wanted).magnitude)
    except pint.PintError as error:
        raise ValueError(str(error)) from error
    except (AttributeError, TypeError, AssertionError) as error:  # pint's parser on text like "!!"
        raise ValueError(f"no unit {written!r}") from error


@dataclass(frozen=True)
class Unit:
    """The unit of a field's number, among the field's metadata."""

    name: str


def _in(unit: str) -> tuple[BeforeValidator, WithJsonSchema, Unit]:
    """Return what makes a pydantic field read a quantity into `unit`."""

    def read(value: object, info: ValidationInfo) -> Any:
        # A number in Python is SI; in what a person wrote its unit would be a guess.
        is_written = info.context == WRITTEN
        return value if isinstance(value, float) and not is_written else parse_quantity(value, unit)

    kind, example = _EXAMPLES[unit]
    schema = {"type": "string", "description": f"{kind}, such as {example!r}"}
    return BeforeValidator(read), WithJsonSchema(schema), Unit(unit)


TemperatureK = Annotated[float, *_in("K")]
TemperatureDifferenceK = Annotated[float, *_in("delta_K")]
TemperatureRateKPerMin = Annotated[float, *_in("K/min")]
DurationS = Annotated[float, *_in("s")]
VoltageV = Annotated[float, *_in("V")]
CurrentA = Annotated[float, *_in("A")]
CurrentDensityAPerM2 = Annotated[float, *_in("A/m^2")]
ChargeC = Annotated[float, *_in("C")]
ScanRateVPerS = Annotated[float, *_in("V/s")]
FrequencyHz = Annotated[float, *_in("Hz")]
LengthM = Annotated[float, *_in("m")]
MassKg = Annotated[float, *_in("kg")]
PressurePa = Annotated[float, *_in("Pa")]
SizeBytes = Annotated[float, *_in("byte")]
ShareOfOne = Annotated[float, *_in("%")]


def written(value: Any, metadata: Iterable[object] = ()) -> str:
    """Return a field's value as a person writes it in a file: 600.0 s is "10 min".

    Args:
        value: in the unit of the field.
        metadata: of the field; its `Unit`, if it has one, tells what the value is.
    """
    unit = next((each.name for each in metadata if isinstance(each, Unit)), None)
    if isinstance(value, bool) or unit is None:
        return str(value).lower() if isinstance(value, bool) else str(value)
    match unit:
        case "K":
            return f"{celsius(value):g} degC"
        case "delta_K":
            return f"{value:g} K"
        case "%":
            return f"{100 * value:g} %"
        case "s":
            return _written_duration(value)
        case "K/min":
            return f"{value:g} K/min"
        case _:
            return format_si(value, unit)


def _written_duration(seconds: float) -> str:
    for size_s, name in ((3600.0, "h"), (60.0, "min")):
        if seconds and seconds % size_s == 0:
            return f"{seconds / size_s:g} {name}"
    return f"{seconds:g} s"


def format_duration(seconds: float) -> str:
    """Return a duration as a person says it: "45 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    minutes = round(total / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def format_si(value: float, unit: str, digits: int = 4) -> str:
    """Return a value with an SI prefix: 0.0123 and "V" give "12.3 mV"."""
    if value == 0 or value != value:
        return f"{value:g} {unit}"
    for exponent, prefix in zip(range(12, -16, -3), "TGMk mµnpf", strict=False):
        if abs(value) >= 0.99999 * 10.0**exponent:
            return f"{value / 10.0**exponent:.{digits}g} {prefix.strip()}{unit}"
    return f"{value:.{digits}g} {unit}"


def with_uncertainty(value: float, u_value: float) -> str:
    """Return a value and two digits of its standard uncertainty: 0.3802(11), 9.95(12)e-09."""
    if not (isfinite(value) and isfinite(u_value)) or value == 0 or u_value <= 0:
        return f"{value:.4g}"
    exponent = floor(log10(abs(value)))
    shown = 0 if -2 <= exponent <= 5 and u_value < 99.5 else exponent
    # 0.0996 to two digits is 0.10: rounding may need one digit less.
    digits = max(0, shown - floor(log10(float(f"{u_value:.1e}"))) + 1)
    mantissa, u_last = value / 10.0**shown, round(u_value / 10.0 ** (shown - digits))
    power = "" if shown == 0 else f"e{shown:+03d}"
    return f"{mantissa:.{digits}f}({u_last}){power}"


def si_with_uncertainty(value: float, u_value: float, unit: str) -> str:
    """Return a value with an SI prefix and its standard uncertainty: "12.741(32) Mohm"."""
    if not isfinite(value) or value == 0:
        return f"{value:g} {unit}"
    power = max(-5, min(4, floor(log10(1.00001 * abs(value)) / 3)))
    scale, prefix = 10.0 ** (3 * power), "fpnµm kMGT"[power + 5].strip()
    return f"{with_uncertainty(value / scale, u_value / scale)} {prefix}{unit}"
