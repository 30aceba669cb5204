"""Reads a table of numbers into a dataclass whose fields are its keys.

Every key is named after its unit, so that a world file needs no parser of units. What a number must
fulfil stands beside its field, and a wrong one is reported with its place, key and value.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import DataclassInstance

    Properties = TypeVar("Properties", bound=DataclassInstance)

_RULE = "rule"


@dataclass(frozen=True)
class Rule:
    """What a number must fulfil, and how a person is told."""

    holds: Callable[[float], bool]
    expected: str


_ANY = Rule(lambda number: True, "a number")


def above(low: float) -> dict[str, Rule]:
    """Return the metadata of a field that takes numbers > `low`."""
    return {_RULE: Rule(lambda number: number > low, f"a number above {low:g}")}


def at_least(low: float) -> dict[str, Rule]:
    """Return the metadata of a field that takes numbers >= `low`."""
    return {_RULE: Rule(lambda number: number >= low, f"a number of at least {low:g}")}


def between(low: float, high: float) -> dict[str, Rule]:
    """Return the metadata of a field that takes numbers strictly between two."""
    return {
        _RULE: Rule(
            lambda number: low < number < high, f"a number above {low:g} and below {high:g}"
        )
    }


def read_table(kind: type[Properties], table: Mapping[str, object], *, where: str) -> Properties:
    """Return the dataclass `kind` filled from `table`.

    Args:
        kind: a dataclass of numbers; a field without a default is a key that must be there.
        table: the keys and values as read from the file.
        where: what an error begins with: the file and the name of the table.

    Raises:
        ValueError: a key that is unknown or missing, or a value that is not what it should be.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            known = ", ".join(fields)
            raise ValueError(f"{where}.{key} = {value!r}: unknown key; expected one of {known}")
    for name, field in fields.items():
        if name not in table and field.default is dataclasses.MISSING:
            expected = _rule(field).expected
            raise ValueError(f"{where}.{name}: missing; expected {expected}")
    numbers = {
        key: _number(value, _rule(fields[key]), where=f"{where}.{key}")
        for key, value in table.items()
    }
    return kind(**numbers)


def _rule(field: dataclasses.Field[object]) -> Rule:
    return field.metadata.get(_RULE, _ANY)


def _number(value: object, rule: Rule, *, where: str) -> float:
    # To Python a boolean is a number; to whoever wrote `true` it is not.
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and rule.holds(number):
            return number
    raise ValueError(f"{where} = {value!r}: expected {rule.expected}")
