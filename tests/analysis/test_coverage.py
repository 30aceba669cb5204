"""Whether the stated uncertainties hold, over many draws of noise on pellets of known truth."""

import numpy as np
import pytest

from labctl.analysis.impedance import fit_impedance

NOISES = (0.001, 0.003, 0.01)
TRUE_CIRCUIT = {"R||CPE-R||CPE-CPE", "L-R||CPE-R||CPE-CPE"}


def fits(pellet, celsius, noise, *, count, bottom_hz=None):
    """Return the fits of several draws of noise."""
    return [
        fit_impedance(*pellet.measured(celsius, noise=noise, seed=seed, bottom_hz=bottom_hz))
        for seed in range(count)
    ]


def errors_in_u(drawn, true_ohm):
    """Return the errors of the total in units of their uncertainties, shape (n_draws,)."""
    return np.array([(fit.r_total_ohm - true_ohm) / fit.u_r_total_ohm for fit in drawn])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("celsius", [25, 35, 45, 55, 65, 75])
def test_two_arcs_of_licl_are_found(licl, celsius, noise):
    drawn = fits(licl, celsius, noise, count=10)

    names = [fit.circuit.name for fit in drawn]
    assert sum(name in TRUE_CIRCUIT for name in names) >= 9 + (noise < 0.01), names
    assert max(abs(errors_in_u(drawn, licl.total_ohm(celsius)))) < 4
    assert max(abs(fit.r_total_ohm / licl.total_ohm(celsius) - 1) for fit in drawn) < 1.3 * noise


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("celsius", [25, 45, 75])
@pytest.mark.parametrize("name", ["licl", "lialcl4", "alocl"])
def test_stated_uncertainties_hold(request, name, celsius, noise):
    pellet = request.getfixturevalue(name)

    z = errors_in_u(fits(pellet, celsius, noise, count=30), pellet.total_ohm(celsius))

    # of 30 draws of a normal distribution one in a thousand has rms 1.4, or 6 beyond 2
    assert np.sqrt(np.mean(z**2)) < 1.45
    assert np.mean(abs(z) < 2) >= 0.8


def test_the_resistance_does_not_depend_on_the_random_starts(licl):
    f, z = licl.measured(45, noise=0.003, seed=2)

    found = [fit_impedance(f, z, seed=seed).r_total_ohm for seed in range(12)]

    assert found == pytest.approx([found[0]] * 12, rel=1e-5)


@pytest.mark.parametrize(("celsius", "noise"), [(75, 0.01), (45, 0.003), (45, 0.01), (25, 0.003)])
def test_a_bulk_that_is_reported_is_the_bulk(licl, celsius, noise):
    drawn = fits(licl, celsius, noise, count=30)

    reported = [fit for fit in drawn if fit.r_bulk_ohm is not None]
    z = [(fit.r_bulk_ohm - licl.bulk_ohm(celsius)) / fit.u_r_bulk_ohm for fit in reported]
    assert max(abs(each) for each in z) < 4
    assert np.sqrt(np.mean(np.square(z))) < 1.5


@pytest.mark.parametrize("bottom_hz", [3000.0, 1000.0, 300.0])
def test_an_open_arc_is_as_uncertain_as_it_is_wrong(licl, bottom_hz):
    drawn = fits(licl, 25, 0.003, count=15, bottom_hz=bottom_hz)

    assert not any(fit.is_arc_closed for fit in drawn)
    assert np.sqrt(np.mean(errors_in_u(drawn, licl.total_ohm(25)) ** 2)) < 2
    assert min(fit.u_r_total_ohm / fit.r_total_ohm for fit in drawn) > 0.03


def test_one_arc_that_may_be_two_is_the_total(licl):
    drawn = fits(licl, 25, 0.003, count=10, bottom_hz=1000.0)

    single = [fit for fit in drawn if len(fit.arcs) == 1]
    assert single
    for fit in single:
        assert fit.r_bulk_ohm is None
        assert fit.arcs[0].label == "total"
        assert any("the arc may be two" in said for said in fit.warnings)
