"""Where a short probe sees the ions' resistance."""

import numpy as np
import pytest

from labctl.analysis.impedance import drift_between, minimum_reactance


@pytest.mark.parametrize("seed", range(5))
def test_probe_of_licl_is_at_the_foot_of_its_arc(cells, seed):
    f, z = cells.measured("licl", seed=seed)

    probe_hz = minimum_reactance(f, z)

    assert 2 < probe_hz < 30
    assert np.interp(probe_hz, f[::-1], z.real[::-1]) == pytest.approx(12.7e6, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_probe_of_two_arcs_is_below_both(cells, seed):
    f, z = cells.measured("two_arcs", seed=seed)

    probe_hz = minimum_reactance(f, z)

    assert np.interp(probe_hz, f[::-1], z.real[::-1]) == pytest.approx(3e4, rel=0.05)


def test_probe_is_the_top_frequency_where_no_arc_is_visible(cells):
    f = np.geomspace(2e5, 1.0, 50)

    assert minimum_reactance(f, cells.with_noise(100 + cells.cpe(f, 2e-6, 0.9))) == f[0]


def test_probe_is_where_inductance_and_capacitance_cancel(cells):
    f = np.geomspace(1e6, 1.0, 60)
    z = cells.with_noise(cells.spike(f), noise=0.0005)

    probe_hz = minimum_reactance(f, z)

    assert 1e4 < probe_hz < 1e6
    assert abs(z[f == probe_hz][0].imag) < 2


def test_probe_of_an_open_arc_is_the_lowest_frequency(cells):
    f = np.geomspace(2e5, 10.0, 50)
    z = cells.with_noise(cells.arc(f, 3e9, 1e-11, 0.97))

    assert minimum_reactance(f, z) == f[-1]


def test_a_leaking_cell_is_probed_between_arc_and_electrode(cells):
    f = np.geomspace(2e5, 1e-3, 80)

    probe_hz = minimum_reactance(f, cells.with_noise(cells.leaking_licl(f)))

    assert 1 < probe_hz < 50


def test_drift_is_the_change_of_the_repeated_point():
    check = drift_between(100 - 10j, 97 - 10j)

    assert check.modulus_change == pytest.approx(-0.0297, abs=1e-4)
    assert check.relative_change == pytest.approx(0.03, abs=2e-4)
    assert check.warnings == ("the cell drifted by 3.0% during the sweep",)


def test_a_steady_cell_draws_no_remark():
    assert drift_between(100 - 10j, 100.2 - 10j).warnings == ()
