"""The steady part of a current after a voltage step: I(t) = I_inf + a t^-n, and its drift.

Electrodes that block the ions take up charge as a constant phase element does, with a current that
falls as t^-n; what stays is the electrons'. Its value is known long before the sum is steady.

They remember: every earlier step goes on decaying beneath the present one. After an hour at 1 V and
half an hour at 0 V as much as a tenth of the current at 0.2 V is left of that, so the earlier steps
belong into the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import minimize_scalar

from labctl.errors import AnalysisError

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = NDArray[np.float64]

STEADY_DRIFT_PER_HOUR = 0.05
_HOUR_S = 3600.0
_EXPONENTS = (0.2, 0.99)
_FEWEST = 12
# The first moments hold what is no t^-n: the pellet's own relaxation, ranges that are changed.
_FIRST_SHARES = (0.02, 0.1, 0.3)
_WHITE = 1.3  # times the noise that residuals may scatter and still be noise
_LATE = 2 / 3  # the drift is that of the last third
_EVIDENCE = 3.0  # one more than the two parameters ask for: a decay by chance has no certain n
_COVERAGE = 2.0  # standard uncertainties


@dataclass(frozen=True)
class PotentialStep:
    """A step of the potential: how high, and how long before the hold that is looked at."""

    step_v: float
    before_s: float = 0.0


UNIT_STEP = (PotentialStep(1.0),)


class Drift(BaseModel):
    """How a current still moves at the end of a hold, from a straight line through its last third.

    Attributes:
        mean_a, u_mean_a: mean current there and its standard uncertainty.
        slope_a_per_h, u_slope_a_per_h: its slope.
    """

    model_config = ConfigDict(frozen=True)

    mean_a: float
    u_mean_a: float
    slope_a_per_h: float
    u_slope_a_per_h: float

    @property
    def per_hour(self) -> float:
        """Return the slope as a share of the mean per hour; negative if the current falls."""
        return self.slope_a_per_h / self.mean_a if self.mean_a else math.inf

    @property
    def u_per_hour(self) -> float:
        """Return the standard uncertainty of `per_hour`."""
        return self.u_slope_a_per_h / abs(self.mean_a) if self.mean_a else math.inf

    def objection(self, limit_per_hour: float) -> str:
        """Return why a current does not count as steady, in words; "" if it does."""
        share, u_share = abs(self.per_hour), self.u_per_hour
        if share <= limit_per_hour and u_share <= limit_per_hour:
            return ""
        shown = f"it drifts by {100 * self.per_hour:+.2g} +/- {100 * u_share:.1g} %/h"
        if share - _COVERAGE * u_share > limit_per_hour:
            return f"the current is not steady: {shown}, steady is {100 * limit_per_hour:g} %/h"
        return f"noise hides whether the current is steady: {shown}"


class SteadyCurrent(BaseModel):
    """The current that stays after a voltage step.

    Attributes:
        potential_v: the mean measured potential.
        current_a, u_current_a: I_inf and its standard uncertainty, which holds that of the decay.
        decay_a_per_v, exponent: a (the decaying current 1 s after a step of 1 V) and n; None where
            the data show no decay and I_inf is a mean.
        noise_a: standard deviation of one point.
        drift: how the current still moves at the end.
        duration_s: how long it was held.
    """

    model_config = ConfigDict(frozen=True)

    potential_v: float
    current_a: float
    u_current_a: Annotated[float, Field(ge=0)]
    decay_a_per_v: float | None
    exponent: float | None
    noise_a: float
    drift: Drift
    duration_s: float
    warnings: tuple[str, ...] = ()


def drift_of(
    elapsed_s: ArrayLike, current_a: ArrayLike, u_current_a: ArrayLike | None = None
) -> Drift:
    """Return mean and slope of the last third of a current.

    Args:
        elapsed_s: since the step, rising, shape (n_points,).
        current_a: shape (n_points,).
        u_current_a: noise of each point up to a common factor, shape (n_points,); 1 if left out.

    Raises:
        AnalysisError: fewer than four points there.
    """
    points = _Points.of(elapsed_s, current_a, u_current_a).after(_LATE)
    if points.size < 4:
        raise AnalysisError(f"{points.size} points in the last third: a drift needs four")
    middle_s = float(points.t_s.mean())
    line = _linear(points, np.vander(points.t_s - middle_s, 2, increasing=True))
    return Drift(
        mean_a=line.values[0],
        u_mean_a=line.u(0),
        slope_a_per_h=line.values[1] * _HOUR_S,
        u_slope_a_per_h=line.u(1) * _HOUR_S,
    )


def fit_steady_current(
    elapsed_s: ArrayLike,
    potential_v: ArrayLike,
    current_a: ArrayLike,
    *,
    u_current_a: ArrayLike | None = None,
    steps: Sequence[PotentialStep] = UNIT_STEP,
) -> SteadyCurrent:
    """Return the current that stays, from I_inf + a sum over steps of step (t + before)^-n, n < 1.

    The fit begins after the first 2 % of the hold, or later if what comes first is no t^-n; where
    the data show no decay I_inf is the mean of the last third.

    Args:
        elapsed_s: since the step, rising, shape (n_points,).
        potential_v: measured, shape (n_points,).
        current_a: measured, shape (n_points,).
        u_current_a: noise of each point up to a common factor, shape (n_points,), such as its
            current range; the factor is taken from the scatter.
        steps: this hold's own step, and the earlier ones that still decay beneath it.

    Raises:
        AnalysisError: fewer than 12 points, times that do not rise, or an uncertainty that is not
            positive.
    """
    points = _Points.of(elapsed_s, current_a, u_current_a)
    if points.size < _FEWEST:
        raise AnalysisError(f"{points.size} points: a decay needs {_FEWEST}")
    drift = drift_of(elapsed_s, current_a, u_current_a)
    moving = tuple(step for step in steps if step.step_v) or UNIT_STEP
    decay, used, is_white = _begun_late_enough(points, moving)
    warnings = () if is_white else ("the decay is no power of time: u(I_inf) is a lower bound",)
    has_decay = decay.is_better_than(_constant(used))
    potential = np.asarray(potential_v, dtype=np.float64)
    return SteadyCurrent(
        potential_v=float(potential[points.t_s >= _LATE * points.t_s[-1]].mean()),
        current_a=decay.i_inf_a if has_decay else drift.mean_a,
        # A mean says nothing of a decay that hides in the noise: so much it may still come to.
        u_current_a=decay.u_i_inf_a
        if has_decay
        else math.hypot(drift.u_mean_a, drift.u_slope_a_per_h / _HOUR_S * points.t_s[-1] / 6),
        decay_a_per_v=decay.amplitude_a if has_decay else None,
        exponent=decay.exponent if has_decay else None,
        noise_a=used.noise_a(),
        drift=drift,
        duration_s=float(points.t_s[-1]),
        warnings=warnings,
    )


@dataclass(frozen=True)
class _Points:
    """Times, currents and the relative noise of each."""

    t_s: FloatArray
    i_a: FloatArray
    u: FloatArray

    @classmethod
    def of(cls, elapsed_s: ArrayLike, current_a: ArrayLike, u: ArrayLike | None) -> _Points:
        """Return checked points; those at t = 0 are left out, where no power of time exists."""
        t, i = (np.asarray(each, dtype=np.float64) for each in (elapsed_s, current_a))
        noise = np.ones_like(i) if u is None else np.asarray(u, dtype=np.float64)
        if not t.shape == i.shape == noise.shape or np.any(np.diff(t) <= 0):
            raise AnalysisError("every current needs one time and one uncertainty, in rising order")
        if not np.all(np.isfinite(i) & np.isfinite(noise) & (noise > 0)):
            raise AnalysisError("every current must be finite, its uncertainty positive")
        later = t > 0
        return cls(t[later], i[later], noise[later])

    @property
    def size(self) -> int:
        """The number of points."""
        return self.t_s.size

    def after(self, share: float) -> _Points:
        """Return the points after a share of the whole time."""
        late = self.t_s >= share * self.t_s[-1] if self.size else np.zeros(0, dtype=bool)
        return _Points(self.t_s[late], self.i_a[late], self.u[late])

    def scale(self) -> float:
        """Return the noise of a point of u = 1, from neighbours, which share what is no noise."""
        second = self.i_a[2:] - 2 * self.i_a[1:-1] + self.i_a[:-2]
        u2 = self.u[2:] ** 2 + 4 * self.u[1:-1] ** 2 + self.u[:-2] ** 2
        return float(np.sqrt(np.mean(second**2 / u2)))

    def noise_a(self) -> float:
        """Return the noise of one of the last points."""
        return self.scale() * float(np.median(self.u[-self.size // 3 :]))


@dataclass(frozen=True)
class _Line:
    """A weighted linear fit; the covariance is scaled with the scatter about it."""

    values: FloatArray
    covariance: FloatArray
    chi2: float

    def u(self, index: int) -> float:
        """Return the standard uncertainty of a value."""
        return float(np.sqrt(self.covariance[index, index]))


def _linear(points: _Points, design: FloatArray) -> _Line:
    weighted, y = design / points.u[:, None], points.i_a / points.u
    size = np.linalg.norm(weighted, axis=0)
    values = np.linalg.lstsq(weighted / size, y, rcond=None)[0] / size
    chi2 = float(((y - weighted @ values) ** 2).sum())
    inverse = np.linalg.pinv((weighted / size).T @ (weighted / size)) / np.outer(size, size)
    freedom = points.size - design.shape[1]
    return _Line(values, inverse * chi2 / max(freedom, 1), chi2)


def _constant(points: _Points) -> _Line:
    return _linear(points, np.ones((points.size, 1)))


@dataclass(frozen=True)
class _Decay:
    """I_inf + a t^-n fitted to points."""

    i_inf_a: float
    u_i_inf_a: float
    amplitude_a: float
    exponent: float
    chi2: float
    n_points: int

    @property
    def spread(self) -> float:
        """The scatter about the fit, in units of the points' u."""
        return math.sqrt(self.chi2 / (self.n_points - 3))

    def is_better_than(self, constant: _Line) -> bool:
        """Return whether the decay is worth its parameters (Bayesian information; in doubt not)."""
        gain = self.n_points * math.log(constant.chi2 / self.chi2) if self.chi2 > 0 else math.inf
        return gain > _EVIDENCE * math.log(self.n_points)


def _begun_late_enough(
    points: _Points, steps: tuple[PotentialStep, ...]
) -> tuple[_Decay, _Points, bool]:
    """Return the fit, the points that it is of, and whether it leaves nothing but noise."""
    best: tuple[_Decay, _Points, bool] | None = None
    for share in _FIRST_SHARES:
        used = points.after(share)
        if used.size < _FEWEST:
            break
        decay = _fit_decay(used, steps)
        best = decay, used, decay.spread <= _WHITE * used.scale()
        if best[2]:
            return best
    if best is None:
        return _fit_decay(points, steps), points, False
    return best


def _fit_decay(points: _Points, steps: tuple[PotentialStep, ...]) -> _Decay:
    """Return the least-squares decay: for each exponent the rest is linear."""
    # In units of the last time: powers near 1, whatever the time.
    last_s = float(points.t_s[-1])
    ages = [((points.t_s + step.before_s) / last_s, step.step_v) for step in steps]

    def shape(exponent: float) -> FloatArray:
        return sum((step_v * age**-exponent for age, step_v in ages), np.zeros(points.size))

    def line(exponent: float) -> _Line:
        return _linear(points, np.column_stack((np.ones(points.size), shape(exponent))))

    def chi2(exponent: float) -> float:
        return line(exponent).chi2

    grid = np.linspace(*_EXPONENTS, 12)
    start = int(np.argmin([chi2(n) for n in grid]))
    bounds = grid[max(0, start - 1)], grid[min(grid.size - 1, start + 1)]
    found: Any = minimize_scalar(chi2, bounds=bounds, method="bounded")
    exponent = float(found.x)
    best = line(exponent)
    i_inf, scaled = best.values
    turned = sum(
        (-scaled * step_v * age**-exponent * np.log(age) for age, step_v in ages),
        np.zeros(points.size),
    )
    design = np.column_stack((np.ones(points.size), shape(exponent), turned))
    left_a = points.i_a - scaled * shape(exponent)
    tangent = _linear(_Points(points.t_s, left_a, points.u), design)
    return _Decay(
        i_inf_a=float(i_inf),
        u_i_inf_a=tangent.u(0),
        amplitude_a=float(scaled * last_s**exponent),
        exponent=exponent,
        chi2=best.chi2,
        n_points=points.size,
    )
