"""How far a sample still is from its resistance at rest, from probes of it on the way there.

Two probes that agree say little: with a lag of 20 min and 3 min between them, 0.5 % of change means
that 3 % are still to come. So a relaxation ln R = a + b exp(-t / tau) is fitted to all probes and
carried on to its end. ln R goes with the temperature almost in a straight line, R itself does not:
fitted to R, a fifth more was left than foreseen after steps of 10 K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from labctl.run.settle import Probe

# Time constants looked at, and what is believed of them before the probes say more: a pellet in its
# holder lags its stage by some ten minutes, give or take a factor of three.
_TAUS_S = np.geomspace(20.0, 20_000.0, 300)
_USUAL_TAU_S = 600.0
_SPREAD = 1.1  # in ln(tau)
_SURPRISE = (np.log(_TAUS_S / _USUAL_TAU_S) / _SPREAD) ** 2
_SMALLEST_U = 2e-4  # a relaxation is no pure exponential: ln R goes with 1 / T, not with T


def remainder(times_s: Sequence[float], probes: Sequence[Probe]) -> tuple[float, float]:
    """Return how much of R is still to come, as a share of R, and the standard uncertainty of that.

    Args:
        times_s: when each probe was taken, in order; two at least, better three.
        probes: the probes, resistances > 0.
    """
    times = np.asarray(times_s, dtype=float) - times_s[0]
    values = np.log([probe.resistance_ohm for probe in probes])
    # Three repeats tell their own scatter badly; those of all probes together tell it well.
    scatter = np.array([probe.u_resistance_ohm / probe.resistance_ohm for probe in probes])
    u = max(float(np.sqrt(np.mean(scatter**2))), _SMALLEST_U)
    to_come, variance, chi2 = _to_come(times, values, u)
    weight = np.exp(-0.5 * (chi2 - chi2.min() + _SURPRISE))
    weight /= weight.sum()
    mean = float(weight @ to_come)
    return mean, float(np.sqrt(weight @ (variance + (to_come - mean) ** 2)))


def _to_come(
    times_s: NDArray[np.float64], values: NDArray[np.float64], u: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each time constant, what is still to come, its variance, and the fit's chi2.

    The fit is a straight line of the values against the decay exp(-t / tau).
    """
    decay = np.exp(-times_s / _TAUS_S[:, None])
    away = decay - decay.mean(axis=1, keepdims=True)
    spread = (away**2).sum(axis=1)
    slope = away @ values / spread
    chi2 = (((values - values.mean()) - slope[:, None] * away) ** 2).sum(axis=1) / u**2
    return -slope * decay[:, -1], u**2 * decay[:, -1] ** 2 / spread, chi2
