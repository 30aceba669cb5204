"""The line through onsets at several temperatures."""

import numpy as np
import pytest

from labctl.analysis.onset_temperature import onset_trend
from labctl.errors import AnalysisError


def test_a_line_is_found_with_the_uncertainty_that_it_has() -> None:
    temperature_k = np.array([298.15, 313.15, 328.15, 343.15])
    off = []
    for seed in range(200):
        noise_v = 0.002 * np.random.default_rng(seed).normal(size=4)
        found = onset_trend(
            temperature_k, 4.3 - 1e-3 * (temperature_k - 298.15) + noise_v, [0.002] * 4
        )
        off.append((found.slope_v_per_k + 1e-3) / found.u_slope_v_per_k)
        assert found.onset_25c_v == pytest.approx(4.3, abs=0.01)
    assert 0.6 < np.std(off) < 1.1


def test_two_temperatures_have_a_line_and_nothing_to_judge_it_by() -> None:
    found = onset_trend([298.15, 318.15], [4.3, 4.28], [0.001, 0.001])
    assert found.slope_v_per_k == pytest.approx(-1e-3)
    assert found.reduced_chi2 is None
    assert found.u_slope_v_per_k == pytest.approx(0.001 * np.sqrt(2) / 20)


def test_one_temperature_has_no_trend() -> None:
    with pytest.raises(AnalysisError, match="two temperatures"):
        onset_trend([298.15, 298.2], [4.3, 4.3], [0.001, 0.001])
