"""The distribution of relaxation times finds the processes that a spectrum was made of."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.drt import distribution_of_relaxation_times
from labctl.errors import AnalysisError

PROCESSES = {1e-7: (60.0, 0.97), 1e-4: (25.0, 0.85), 0.3: (50.0, 0.85), 4.0: (70.0, 0.9)}
R0_OHM = 20.0


def spectrum(*, highest_hz: float, noise: float = 0.0, seed: int = 3):
    """Return frequencies and the impedance of four arcs in series with R0."""
    decades = np.log10(highest_hz / 1e-2)
    f = np.geomspace(highest_hz, 1e-2, round(decades * 10) + 1)
    z = R0_OHM + sum(
        r_ohm / (1 + (2j * np.pi * f * tau_s) ** n) for tau_s, (r_ohm, n) in PROCESSES.items()
    )
    real, imag = np.random.default_rng(seed).standard_normal((2, f.size))
    return f, z * (1 + noise * (real + 1j * imag))


@pytest.mark.parametrize("noise", [0.0, 1e-3, 3e-3])
def test_four_processes_come_back_with_their_resistances(noise: float) -> None:
    result = distribution_of_relaxation_times(*spectrum(highest_hz=7e6, noise=noise))
    assert len(result.peaks) == len(PROCESSES)
    for peak, (tau_s, (r_ohm, _)) in zip(result.peaks, PROCESSES.items(), strict=True):
        assert np.log10(peak.tau_s) == pytest.approx(np.log10(tau_s), abs=0.25)
        assert peak.r_ohm == pytest.approx(r_ohm, rel=0.15)
    assert result.best.r0_ohm == pytest.approx(R0_OHM, rel=0.1)


def test_a_process_faster_than_the_window_is_part_of_r0_and_said_to_be() -> None:
    result = distribution_of_relaxation_times(*spectrum(highest_hz=2e5, noise=1e-3))
    assert [round(float(np.log10(peak.tau_s))) for peak in result.peaks] == [-4, 0, 1]
    assert result.warnings[0].startswith("processes faster than 8.0e-07 s lie outside the window")
    assert R0_OHM < result.best.r0_ohm < R0_OHM + 60.0


def test_the_order_of_the_points_does_not_matter() -> None:
    f, z = spectrum(highest_hz=7e6, noise=1e-3)
    there, back = (distribution_of_relaxation_times(*pair) for pair in ((f, z), (f[::-1], z[::-1])))
    assert back.best.r0_ohm == pytest.approx(there.best.r0_ohm, rel=1e-6)


def test_a_blocking_cell_s_tail_is_a_capacitance_and_no_process() -> None:
    f, z = spectrum(highest_hz=7e6)
    z = z + 1 / (2j * np.pi * f * 1e-3)
    result = distribution_of_relaxation_times(f, z, tail="capacitance")
    assert result.best.capacitance_f == pytest.approx(1e-3, rel=0.05)
    assert len(result.peaks) == len(PROCESSES)


def test_the_resistances_add_up_to_the_direct_current_s() -> None:
    result = distribution_of_relaxation_times(*spectrum(highest_hz=7e6))
    total_ohm = result.best.r0_ohm + result.r_polarization_ohm
    assert total_ohm == pytest.approx(R0_OHM + sum(r for r, _ in PROCESSES.values()), rel=0.01)


def test_what_cannot_be_analysed_is_refused() -> None:
    f, z = spectrum(highest_hz=7e6)
    with pytest.raises(AnalysisError, match="5 points: a DRT needs 10"):
        distribution_of_relaxation_times(f[:5], z[:5])
    with pytest.raises(AnalysisError, match="no number"):
        distribution_of_relaxation_times(f, np.where(f > 1e6, np.nan, z))


def test_diffusion_into_an_electrode_is_peeled_off() -> None:
    f, z = spectrum(highest_hz=7e6, noise=1e-3)
    z = z + 20 / np.sqrt(2j * np.pi * f) + 0.01 / (2j * np.pi * f)
    result = distribution_of_relaxation_times(f, z, tail="diffusion")
    assert result.best.warburg_ohm_per_sqrt_s == pytest.approx(20, rel=0.2)
    assert len(result.peaks) == len(PROCESSES)
    for peak, (r_ohm, _) in zip(result.peaks, PROCESSES.values(), strict=True):
        assert peak.r_ohm == pytest.approx(r_ohm, rel=0.15)
