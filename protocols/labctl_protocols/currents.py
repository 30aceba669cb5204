"""Currents as people choose them: in A, per area of the electrode, or per capacity.

A protocol that drives a current inherits `CurrentParameters`; its plan and its script then use
`parameters.current_a(sample)`. The sample gives the area (its diameter) and the nominal capacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from labctl.errors import BadInputError
from labctl.instruments.dc_techniques import Cp, Stop
from labctl.quantities import CurrentA, CurrentDensityAPerM2
from labctl.run.protocol import Parameters
from labctl_protocols.geometry import electrode_area_m2

if TYPE_CHECKING:
    from labctl.config import SampleConfig

Direction = Literal["charge", "discharge"]
SIGN = {"charge": 1.0, "discharge": -1.0}
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
            area_m2 = _given(electrode_area_m2(sample), "diameter", "a current_density")
            return self.current_density * area_m2
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


def driven(
    direction: Direction,
    current_a: float,
    *,
    window_v: tuple[float, float],
    duration_s: float,
    interval_s: float,
) -> Cp:
    """Return a constant current in one direction, up to the end of a window of potentials."""
    low_v, high_v = window_v
    is_charge = direction == "charge"
    return Cp(
        current_a=SIGN[direction] * current_a,
        duration_s=duration_s,
        interval_s=interval_s,
        stop=Stop(potential_above_v=high_v) if is_charge else Stop(potential_below_v=low_v),
        largest_current_a=current_a,
    )
