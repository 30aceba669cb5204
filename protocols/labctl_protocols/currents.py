"""Currents as people choose them: in A, per area of the electrode, or per capacity.

A protocol that drives a current inherits `CurrentParameters`; its plan and its script then use
`parameters.current_a(sample)`. The sample gives the area (its diameter) and the nominal capacity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from labctl.errors import BadInputError
from labctl.quantities import CurrentA, CurrentDensityAPerM2
from labctl.run.protocol import Parameters

if TYPE_CHECKING:
    from labctl.config import SampleConfig

_S_PER_H = 3600.0
_WAYS = ("current", "current_density", "c_rate")


class CurrentParameters(Parameters):
    """The size of a current; its direction is the protocol's affair.

    Attributes:
        current: as such.
        current_density: per area of a disc of the sample's diameter.
        c_rate: in 1/h, of the sample's nominal capacity: 0.1 charges it in ten hours.
    """

    current: Annotated[CurrentA, Field(gt=0)] | None = None
    current_density: Annotated[CurrentDensityAPerM2, Field(gt=0)] | None = None
    c_rate: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_current(self) -> Self:
        given = [name for name in _WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected one of {', '.join(_WAYS)}, found {found}")
        return self

    def current_a(self, sample: SampleConfig) -> float:
        """Return the current in A, a positive number.

        Raises:
            BadInputError: the sample file lacks what it needs.
        """
        if self.current_density is not None:
            diameter_m = _given(sample.diameter, "diameter", "a current_density")
            return self.current_density * math.pi * diameter_m**2 / 4.0
        if self.c_rate is not None:
            return (
                self.c_rate
                * _given(sample.nominal_capacity, "nominal_capacity", "a c_rate")
                / _S_PER_H
            )
        return _given(self.current, "current", "a current")


def _given(value: float | None, key: str, what_for: str) -> float:
    if value is None:
        raise BadInputError(f"sample: {key}: missing; {what_for} needs it")
    return value
