"""Currents as people choose them: in A, per area of the electrode, or per capacity.

A protocol that drives a current inherits `CurrentParameters`; its plan and its script then use
`parameters.current_a(sample)`.
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
            BadInputError: it is given per area or capacity, and the sample file lacks that.
        """
        if self.current_density is not None:
            if sample.diameter is None:
                raise _lacking(sample, "diameter", "current_density")
            return self.current_density * math.pi * sample.diameter**2 / 4.0
        if self.c_rate is not None:
            if sample.nominal_capacity is None:
                raise _lacking(sample, "nominal_capacity", "c_rate")
            return self.c_rate * sample.nominal_capacity / _S_PER_H
        assert self.current is not None  # noqa: S101 - one of the three is given
        return self.current


def _lacking(sample: SampleConfig, key: str, parameter: str) -> BadInputError:
    message = f"sample {sample.name!r}: {key}: missing; the parameter {parameter} needs it"
    return BadInputError(message)
