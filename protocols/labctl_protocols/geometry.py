"""What a sample's size means: area of its electrode, conductivity of its pellet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from labctl.analysis.conductivity import Conductivity, Pellet, conductivity

if TYPE_CHECKING:
    from labctl.config import SampleConfig


def electrode_area_m2(sample: SampleConfig) -> float | None:
    """Return the area of the electrode, or None where it is not known."""
    return None if sample.diameter is None else math.pi * sample.diameter**2 / 4


def pellet_of(sample: SampleConfig) -> Pellet | None:
    """Return the sample's geometry, or None where it is not known."""
    if sample.thickness is None or sample.diameter is None:
        return None
    return Pellet(
        thickness_m=sample.thickness,
        diameter_m=sample.diameter,
        u_thickness_m=sample.thickness_uncertainty,
        u_diameter_m=sample.diameter_uncertainty,
    )


def conductivity_of(sample: SampleConfig, r_ohm: float, u_r_ohm: float) -> Conductivity | None:
    """Return the conductivity that a resistance means, or None without the geometry."""
    pellet = pellet_of(sample)
    if pellet is None:
        return None
    return conductivity(r_ohm=r_ohm, u_r_ohm=u_r_ohm, **pellet.model_dump())
