"""The fault campaign's quick sample: every fault once, its random moments from a seed."""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from benchmarks.faults.brokers import MissingProgramError
from benchmarks.faults.campaign import QUICK_POINTS, Result, inflict

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = "LABCTL_FAULTS_SEED"

_log = logging.getLogger(__name__)


@pytest.fixture
def survive() -> Callable[[str], Result]:
    """Inflicts a fault; fails if a point was lost, doubled, altered or out of order."""
    seed = int(os.environ.get(SEED) or secrets.randbelow(1_000_000))

    def survived(name: str) -> Result:
        _log.warning("%s=%d", SEED, seed)  # pytest shows it with a failure
        try:
            result = inflict(name, n_points=QUICK_POINTS, seed=seed, is_quick=True)
        except MissingProgramError as error:
            pytest.skip(str(error))
        assert result.verdict.n_stored > 0
        assert result.verdict.is_good, f"{SEED}={seed}: {result}"
        return result

    return survived
