"""Conductivity of a disc and the uncertainty of its size."""

import math

import pytest

from labctl.analysis.conductivity import conductivity
from labctl.errors import AnalysisError


def test_a_known_disc_has_its_known_conductivity():
    found = conductivity(r_ohm=100.0, u_r_ohm=0.0, thickness_m=1e-3, diameter_m=1e-2)

    assert found.sigma_s_per_m == pytest.approx(1e-3 / (100 * math.pi * 25e-6))
    assert found.sigma_s_per_cm == pytest.approx(found.sigma_s_per_m / 100)
    assert found.u_sigma_s_per_m == 0


def test_the_diameter_counts_twice():
    found = conductivity(
        r_ohm=100.0,
        u_r_ohm=0.5,
        thickness_m=1e-3,
        diameter_m=1e-2,
        u_thickness_m=1e-5,
        u_diameter_m=1e-4,
    )

    assert found.u_ln_r == pytest.approx(0.005)
    assert found.u_ln_geometry == pytest.approx(math.hypot(0.01, 0.02))
    relative = found.u_sigma_s_per_cm / found.sigma_s_per_cm
    assert relative == pytest.approx(math.hypot(0.005, 0.01, 0.02))


@pytest.mark.parametrize("size", [0.0, -1e-3, math.nan, math.inf])
def test_a_pellet_without_thickness_is_refused(size):
    with pytest.raises(AnalysisError, match="thickness must be positive"):
        conductivity(r_ohm=100.0, u_r_ohm=1.0, thickness_m=size, diameter_m=1e-2)
