"""The potentials that a cell is cycled between, on the scale that a person thinks in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from labctl.errors import BadInputError
from labctl.quantities import VoltageV
from labctl.run.protocol import Parameters

if TYPE_CHECKING:
    from labctl.config import SampleConfig

Scale = Literal["reference", "Li+/Li"]


class PotentialWindow(Parameters):
    """Where a charge and a discharge end.

    Attributes:
        upper_potential: where a charge ends.
        lower_potential: where a discharge ends.
        potential_scale: what they are given against: the cell's own reference electrode, or
            "Li+/Li"; then the sample's reference_potential tells the shift.
    """

    upper_potential: VoltageV
    lower_potential: VoltageV
    potential_scale: Scale = "reference"

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if not self.lower_potential < self.upper_potential:
            raise ValueError("lower_potential: expected less than upper_potential")
        return self

    def window_v(self, sample: SampleConfig) -> tuple[float, float]:
        """Return lower and upper potential against the cell's reference electrode, in V.

        Raises:
            BadInputError: the scale is Li+/Li and the sample does not tell where its own one is.
        """
        shift_v = 0.0 if self.potential_scale == "reference" else reference_shift_v(sample)
        return self.lower_potential - shift_v, self.upper_potential - shift_v


def reference_shift_v(sample: SampleConfig) -> float:
    """Return the potential of the sample's reference electrode against Li+/Li, in V.

    Raises:
        BadInputError: the sample file does not say.
    """
    if sample.reference_potential is None:
        raise BadInputError(
            'sample: reference_potential: missing; potential_scale = "Li+/Li" needs it (Li-In: '
            '"0.62 V", Li: "0 V")'
        )
    return sample.reference_potential
