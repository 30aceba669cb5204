"""Spectra against the first one, and the trend of what they say."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.analysis.stability import spectrum_change, trend
from labctl.errors import AnalysisError

F = np.geomspace(1e5, 1.0, 26)
Z = 100 + 50 / (1 + 1j * F / 1e3)


def test_a_change_is_found_where_it_is() -> None:
    other = Z.copy()
    other[7] *= 1.1
    change = spectrum_change(F, Z, other)
    assert change.largest_relative_change == pytest.approx(0.1)
    assert change.frequency_hz == F[7]
    assert change.rms_relative_change == pytest.approx(0.1 / np.sqrt(F.size))


def test_other_frequencies_cannot_be_compared() -> None:
    with pytest.raises(AnalysisError, match="different frequencies"):
        spectrum_change(F, Z, Z, other_frequency_hz=F * 1.01)
    with pytest.raises(AnalysisError, match="different length"):
        spectrum_change(F, Z, Z[:-1], other_frequency_hz=F[:-1])


def test_a_trend_is_told_from_scatter() -> None:
    times_s = np.arange(18) * 3600.0
    scatter = 0.1 * np.random.default_rng(2).standard_normal(18)
    grows = trend(times_s.tolist(), (100 * (1 + 1e-3 * np.arange(18)) + scatter).tolist())
    assert grows.is_significant
    assert grows.relative_rate_per_h == pytest.approx(1e-3, rel=0.1)
    assert not trend(times_s.tolist(), (100 + scatter).tolist()).is_significant


def test_two_values_make_no_trend() -> None:
    with pytest.raises(AnalysisError, match="2 values"):
        trend([0.0, 1.0], [1.0, 2.0])
