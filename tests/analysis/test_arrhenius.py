"""Activation energies from conductivities that were made with a known one."""

import numpy as np
import pytest

from labctl.analysis.arrhenius import ArrheniusFit, fit_arrhenius
from labctl.errors import AnalysisError

K_EV = 8.617333262e-5
ROOM_K = 298.15
UP = ROOM_K + np.arange(0.0, 51.0, 10.0)


def sigma_s_per_m(temperature_k, ea_ev=0.38, sigma_25=0.102):
    """The law that ln(sigma T) follows, through a known value at 25 degC."""
    away = 1 / temperature_k - 1 / ROOM_K
    return sigma_25 * ROOM_K / temperature_k * np.exp(-ea_ev / K_EV * away)


def with_noise(sigma, relative, seed=0):
    return sigma * np.exp(relative * np.random.default_rng(seed).normal(size=sigma.size))


def test_activation_energy_and_conductivity_come_back():
    line = fit_arrhenius(UP, sigma_s_per_m(UP)).primary

    assert line.ea_ev == pytest.approx(0.38, rel=1e-9)
    assert line.sigma_25_s_per_m == pytest.approx(0.102, rel=1e-9)
    assert line.sigma_25_s_per_cm == pytest.approx(1.02e-3, rel=1e-9)
    assert np.exp(line.ln_prefactor) == pytest.approx(0.102 * ROOM_K * np.exp(0.38 / K_EV / ROOM_K))


def test_the_other_convention_gives_k_t_less():
    fit = fit_arrhenius(UP, sigma_s_per_m(UP))

    assert fit.primary.convention == "ln(sigma T)"
    assert fit.secondary.convention == "ln(sigma)"
    assert fit.primary.ea_ev - fit.secondary.ea_ev == pytest.approx(K_EV * 322, rel=0.01)


def test_stated_uncertainties_are_the_real_scatter():
    u = np.full(UP.size, 0.003)
    lines = [
        fit_arrhenius(UP, with_noise(sigma_s_per_m(UP), 0.003, seed), u_ln_r=u).primary
        for seed in range(300)
    ]

    z_ea = np.array([(line.ea_ev - 0.38) / line.u_ea_ev for line in lines])
    z_25 = np.array([(line.sigma_25_s_per_m - 0.102) / line.u_sigma_25_s_per_m for line in lines])

    # a chi2 above 1 enlarges the uncertainty, so that the spread is a little below 1
    assert 0.75 < z_ea.std() < 1.05
    assert 0.75 < z_25.std() < 1.05
    assert abs(z_ea.mean()) < 0.2


def test_scatter_beyond_the_stated_uncertainty_enlarges_it():
    sigma = with_noise(sigma_s_per_m(UP), 0.02)

    trusting = fit_arrhenius(UP, sigma, u_ln_r=np.full(UP.size, 0.02))
    deceived = fit_arrhenius(UP, sigma, u_ln_r=np.full(UP.size, 0.0002))

    assert deceived.primary.u_ea_ev > 0.3 * trusting.primary.u_ea_ev
    assert any("scatter" in said for said in deceived.warnings)


def test_precise_points_weigh_more():
    sigma = sigma_s_per_m(UP)
    sigma[0] *= 1.2
    u = np.array([0.2, *[0.001] * 5])

    assert fit_arrhenius(UP, sigma, u_ln_r=u).primary.ea_ev == pytest.approx(0.38, abs=1e-4)


def test_geometry_moves_the_conductivity_and_not_the_activation_energy():
    u = np.full(UP.size, 0.001)
    sigma = with_noise(sigma_s_per_m(UP), 0.001)

    known = fit_arrhenius(UP, sigma, u_ln_r=u).primary
    rough = fit_arrhenius(UP, sigma, u_ln_r=u, u_ln_geometry=0.05).primary

    assert rough.u_ea_ev == known.u_ea_ev
    assert rough.u_sigma_25_s_per_m == pytest.approx(0.05 * rough.sigma_25_s_per_m, rel=0.01)


def test_many_points_do_not_shrink_the_uncertainty_of_geometry():
    often = np.tile(UP, 50)

    line = fit_arrhenius(often, with_noise(sigma_s_per_m(often), 0.01), u_ln_geometry=0.05).primary

    assert line.u_sigma_25_s_per_m >= 0.05 * line.sigma_25_s_per_m


def test_two_processes_are_seen_as_curvature():
    wide = ROOM_K + np.arange(-20.0, 101.0, 10.0)
    sigma = 1 / (1 / sigma_s_per_m(wide, 0.2) + 1 / sigma_s_per_m(wide, 0.6))

    fit = fit_arrhenius(wide, with_noise(sigma, 0.005), u_ln_r=np.full(wide.size, 0.005))

    assert fit.is_curved
    assert any("curved" in said for said in fit.warnings)


def test_one_process_is_seldom_called_curved():
    u = np.full(UP.size, 0.003)
    sigma = sigma_s_per_m(UP)

    curved = [
        fit_arrhenius(UP, with_noise(sigma, 0.003, seed), u_ln_r=u).is_curved for seed in range(200)
    ]

    assert sum(curved) <= 8


def test_heating_and_cooling_are_fitted_apart_and_together():
    temperature = np.concatenate([UP, UP[::-1]])
    sigma = sigma_s_per_m(temperature) * np.repeat([1.0, 1.1], UP.size)
    branch = ["heating"] * UP.size + ["cooling"] * UP.size

    fit = fit_arrhenius(temperature, sigma, u_ln_r=np.full(12, 0.002), branch=branch)

    assert set(fit.branches) == {"heating", "cooling"}
    assert fit.branches["heating"].sigma_25_s_per_m == pytest.approx(0.102)
    assert fit.branches["cooling"].sigma_25_s_per_m == pytest.approx(0.1122)
    assert fit.primary.n_points == 12
    assert "conductivity on cooling differs by +10.0% from heating" in fit.warnings


def test_two_temperatures_need_uncertainties_and_leave_a_warning():
    fit = fit_arrhenius(UP[:2], sigma_s_per_m(UP[:2]), u_ln_r=[0.01, 0.01])

    assert fit.primary.ea_ev == pytest.approx(0.38)
    assert fit.primary.reduced_chi2 is None
    assert any("two temperatures only" in said for said in fit.warnings)
    with pytest.raises(AnalysisError, match="three temperatures"):
        fit_arrhenius(UP[:2], sigma_s_per_m(UP[:2]))


def test_repeats_at_one_temperature_are_one_temperature():
    with pytest.raises(AnalysisError, match="three temperatures"):
        fit_arrhenius([298.1, 298.2, 298.3], [0.1, 0.1, 0.1])


def test_a_temperature_that_is_none_is_refused():
    with pytest.raises(AnalysisError, match="conductivity"):
        fit_arrhenius(UP, [0.1, 0.2, -0.3, 0.4, 0.5, 0.6])


def test_room_temperature_far_from_the_points_is_said_to_be_extrapolated():
    cold = UP - 100

    fit = fit_arrhenius(cold, sigma_s_per_m(cold))

    assert any("extrapolated" in said for said in fit.warnings)


def test_the_band_is_narrowest_amid_the_points():
    u = np.full(UP.size, 0.003)
    line = fit_arrhenius(UP, with_noise(sigma_s_per_m(UP), 0.003), u_ln_r=u).primary
    middle_k = 1 / line.centre_k_inverse

    band = line.u_ln_sigma([UP[0] - 50, UP[0], middle_k, UP[-1], UP[-1] + 50])

    assert band.argmin() == 2
    assert band[0] > band[1] > band[2] < band[3] < band[4]
    assert line.ln_sigma(ROOM_K) == pytest.approx(np.log(line.sigma_25_s_per_m))


def test_a_fit_survives_json():
    fit = fit_arrhenius(UP, with_noise(sigma_s_per_m(UP), 0.003))

    assert ArrheniusFit.model_validate_json(fit.model_dump_json()) == fit
