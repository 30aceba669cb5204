"""Conductivity of a disc-shaped pellet from its resistance and size, with its uncertainty."""

import math

from pydantic import BaseModel, ConfigDict

from labctl.errors import AnalysisError


class Conductivity(BaseModel):
    """The conductivity of a pellet and its standard uncertainties.

    Attributes:
        sigma_s_per_m: the conductivity.
        u_sigma_s_per_m: its combined standard uncertainty.
        sigma_s_per_cm: the same in the unit that people read.
        u_ln_r: relative standard uncertainty from the resistance alone: what scatters from one
            spectrum to the next.
        u_ln_geometry: relative standard uncertainty from thickness and diameter: common to all
            measurements of one pellet, so no number of them makes it smaller.
    """

    model_config = ConfigDict(frozen=True)

    sigma_s_per_m: float
    u_sigma_s_per_m: float
    sigma_s_per_cm: float
    u_sigma_s_per_cm: float
    u_ln_r: float
    u_ln_geometry: float


def conductivity(
    *,
    r_ohm: float,
    u_r_ohm: float,
    thickness_m: float,
    diameter_m: float,
    u_thickness_m: float = 0.0,
    u_diameter_m: float = 0.0,
) -> Conductivity:
    """Return sigma = L / (R A) of a disc: u^2 = u_R^2 + u_L^2 + (2 u_d)^2, all relative.

    Raises:
        AnalysisError: a resistance, thickness or diameter that is not positive.
    """
    sizes = {"resistance": r_ohm, "thickness": thickness_m, "diameter": diameter_m}
    for name, value in sizes.items():
        if not 0 < value < math.inf:
            raise AnalysisError(f"the {name} must be positive, not {value:g}")
    sigma = thickness_m / (r_ohm * math.pi * diameter_m**2 / 4)
    u_ln_r = u_r_ohm / r_ohm
    u_ln_geometry = math.hypot(u_thickness_m / thickness_m, 2 * u_diameter_m / diameter_m)
    u_sigma = sigma * math.hypot(u_ln_r, u_ln_geometry)
    return Conductivity(
        sigma_s_per_m=sigma,
        u_sigma_s_per_m=u_sigma,
        sigma_s_per_cm=sigma / 100,
        u_sigma_s_per_cm=u_sigma / 100,
        u_ln_r=u_ln_r,
        u_ln_geometry=u_ln_geometry,
    )


class Pellet(BaseModel):
    """The geometry of a disc-shaped pellet, in m."""

    model_config = ConfigDict(frozen=True)

    thickness_m: float
    diameter_m: float
    u_thickness_m: float = 0.0
    u_diameter_m: float = 0.0

    def sigma_s_per_cm(self, resistance_ohm: float, u_resistance_ohm: float) -> tuple[float, float]:
        """Return the conductivity that a resistance means, and its standard uncertainty."""
        sigma = conductivity(r_ohm=resistance_ohm, u_r_ohm=u_resistance_ohm, **self.model_dump())
        return sigma.sigma_s_per_cm, sigma.u_sigma_s_per_cm
