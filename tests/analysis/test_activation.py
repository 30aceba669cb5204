"""Activation energies of what follows exp(-Ea/kT) itself."""

import numpy as np
import pytest

from labctl.analysis.activation import fit_activation
from labctl.errors import AnalysisError

BOLTZMANN_EV_PER_K = 8.617333262e-5
KELVIN = np.array([283.15, 298.15, 313.15, 328.15])


def test_a_diffusion_coefficient_has_the_activation_energy_it_was_made_with():
    d = 3e-15 * np.exp(-0.45 / BOLTZMANN_EV_PER_K * (1 / KELVIN - 1 / 298.15))
    found = fit_activation(list(KELVIN), list(d), list(0.02 * d))
    assert found.ea_ev == pytest.approx(0.45, rel=1e-6)
    assert found.value_25 == pytest.approx(3e-15, rel=1e-6)
    assert found.u_ea_ev > 0


def test_one_temperature_gives_none():
    with pytest.raises(AnalysisError, match="three temperatures"):
        fit_activation([298.15, 298.15], [1e-15, 1.1e-15], [1e-17, 1e-17])
