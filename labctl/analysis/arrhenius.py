"""Activation energies from conductivities at several temperatures.

Two conventions are in use and differ by k<T>: ln(sigma T) against 1/T, which follows from the
Nernst-Einstein relation and is the primary one here, and ln(sigma) against 1/T. Both are given.
Heating and cooling are fitted together and apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtr

from labctl.analysis.circuits import FloatArray
from labctl.errors import AnalysisError
from labctl.quantities import BOLTZMANN_EV_PER_K, kelvin

Convention = Literal["ln(sigma T)", "ln(sigma)"]

ROOM_K = kelvin(25.0)
_SIGNIFICANT = 0.01  # two-sided probability below which curvature or a branch difference is real
_SAME_K = 0.5  # temperatures closer than this are one temperature
_HYSTERESIS = 0.01  # relative difference between branches worth a word


class ArrheniusLine(BaseModel):
    """One straight line through conductivities in Arrhenius coordinates.

    y = ln(sigma T / (S/m K)) or ln(sigma / (S/m)); y = intercept - ea / (k T).

    Attributes:
        u_ea_ev: standard uncertainty; enlarged where the points scatter more than they should.
        ln_prefactor: the intercept, ln of S K/m or S/m.
        sigma_25_s_per_m: the line at 25 degC.
        u_sigma_25_s_per_m: from the line, the geometry of the pellet and the sensor.
        reduced_chi2: squared scatter in units of the points' uncertainties; None if the
            line passes through all points because it must.
        centre_k_inverse: where intercept and slope are uncorrelated, in 1/K.
        u_centre: standard uncertainty of y there, geometry and sensor left out.
        u_slope_k: standard uncertainty of the slope dy/d(1/T) in K.
    """

    model_config = ConfigDict(frozen=True)

    convention: Convention
    n_points: int
    ea_ev: float
    u_ea_ev: float
    ln_prefactor: float
    u_ln_prefactor: float
    sigma_25_s_per_m: float
    u_sigma_25_s_per_m: float
    sigma_25_s_per_cm: float
    u_sigma_25_s_per_cm: float
    reduced_chi2: float | None
    centre_k_inverse: float
    u_centre: float
    u_slope_k: float

    def ln_sigma(self, temperature_k: ArrayLike) -> FloatArray:
        """Return ln(sigma / (S/m)) on the line, same shape as the temperatures."""
        temperature = np.asarray(temperature_k, dtype=np.float64)
        y = self.ln_prefactor - self.ea_ev / (BOLTZMANN_EV_PER_K * temperature)
        return y - np.log(temperature) if self.convention == "ln(sigma T)" else y

    def u_ln_sigma(self, temperature_k: ArrayLike) -> FloatArray:
        """Return the standard uncertainty of `ln_sigma`, geometry left out: the fit's band."""
        away = 1 / np.asarray(temperature_k, dtype=np.float64) - self.centre_k_inverse
        return np.hypot(self.u_centre, self.u_slope_k * away)


class ArrheniusFit(BaseModel):
    """The temperature dependence of one sample's conductivity.

    Attributes:
        primary: ln(sigma T) against 1/T, all points.
        secondary: ln(sigma) against 1/T, all points; its activation energy is lower by k<T>.
        branches: the primary line of each branch ("heating", "cooling") with enough temperatures.
        curvature_ev_k: second derivative of y by 1/T, as k d2y/d(1/T)2; 0 for a single process.
        is_curved: whether it differs from 0 beyond chance (1 %).
    """

    model_config = ConfigDict(frozen=True)

    primary: ArrheniusLine
    secondary: ArrheniusLine
    branches: dict[str, ArrheniusLine]
    curvature_ev_k: float | None
    u_curvature_ev_k: float | None
    is_curved: bool
    warnings: tuple[str, ...] = ()


def fit_arrhenius(
    temperature_k: ArrayLike,
    sigma_s_per_m: ArrayLike,
    *,
    u_ln_r: ArrayLike | None = None,
    u_ln_settling: ArrayLike | None = None,
    u_ln_geometry: float = 0.0,
    u_temperature_k: float = 0.0,
    branch: Sequence[str] | None = None,
) -> ArrheniusFit:
    """Return activation energies and the conductivity at 25 degC.

    Args:
        temperature_k: of the sample, shape (n_points,).
        sigma_s_per_m: shape (n_points,).
        u_ln_r: relative standard uncertainty of each conductivity from its resistance alone, shape
            (n_points,); these are the weights. Without them all points weigh the same.
        u_ln_settling: relative standard uncertainty of each conductivity from what its sample had
            still to relax, shape (n_points,). It is no scatter that the points would show: it
            neither weighs them nor excuses a curve, but it adds to what the line's values may be
            off by.
        u_ln_geometry: relative standard uncertainty common to all points. It moves the whole line:
            it is added to the conductivity at 25 degC and not to the activation energy.
        u_temperature_k: standard uncertainty of the sensor, common to all points.
        branch: what each point belongs to, such as "heating" and "cooling".

    Raises:
        AnalysisError: a value that is not positive, fewer than two temperatures, or just two points
            without uncertainties: a line through them would have none either.
    """
    points = _Points.of(temperature_k, sigma_s_per_m, u_ln_r, u_ln_settling)
    common = _Common(u_ln_geometry, u_temperature_k)
    if points.n_temperatures < 2 or (points.size == 2 and u_ln_r is None):
        raise AnalysisError(
            "an activation energy needs three temperatures, or two whose uncertainties are known"
        )
    primary = points.line("ln(sigma T)", common)
    branches = {} if branch is None else _branch_lines(points, branch, common)
    curvature, u_curvature, is_curved = points.curvature()
    return ArrheniusFit(
        primary=primary,
        secondary=points.line("ln(sigma)", common),
        branches=branches,
        curvature_ev_k=curvature,
        u_curvature_ev_k=u_curvature,
        is_curved=is_curved,
        warnings=(*points.warnings(primary, is_curved=is_curved), *_between(branches)),
    )


def _branch_lines(
    points: "_Points", branch: Sequence[str], common: "_Common"
) -> dict[str, ArrheniusLine]:
    """Return the line of each branch with three temperatures, if there is more than one branch."""
    labels = np.array(branch)
    if labels.size != points.size:
        raise AnalysisError(f"{labels.size} branch labels for {points.size} points")
    parts = {str(name): points.part(labels == name) for name in np.unique(labels)}
    return {
        name: part.line("ln(sigma T)", common)
        for name, part in parts.items()
        if part.n_temperatures >= 3 and part.size < points.size
    }


@dataclass(frozen=True)
class _Common:
    """What all points of a line share an error of."""

    u_ln_geometry: float
    u_temperature_k: float

    def u_ea_ev(self, ea_ev: float, temperature_k: float) -> float:
        """Return what the sensor adds to the activation energy: 1/T is stretched by 2 dT/T."""
        return abs(ea_ev) * 2 * self.u_temperature_k / temperature_k

    def u_ln_25(self, ea_ev: float) -> float:
        """Return what geometry and sensor add to ln sigma at 25 degC."""
        per_k = ea_ev / (BOLTZMANN_EV_PER_K * ROOM_K**2) - 1 / ROOM_K
        return float(np.hypot(self.u_ln_geometry, per_k * self.u_temperature_k))


class _Points:
    """Conductivities ready to be fitted."""

    def __init__(
        self,
        temperature_k: FloatArray,
        ln_sigma: FloatArray,
        u: FloatArray | None,
        u_settling: FloatArray,
    ) -> None:
        self.temperature_k = temperature_k
        self._x = 1 / temperature_k
        self._ln_sigma = ln_sigma
        self._u = u
        self._u_settling = u_settling

    @classmethod
    def of(
        cls,
        temperature_k: ArrayLike,
        sigma_s_per_m: ArrayLike,
        u_ln_r: ArrayLike | None,
        u_ln_settling: ArrayLike | None,
    ) -> "_Points":
        """Return checked points."""
        temperature = np.asarray(temperature_k, dtype=np.float64)
        sigma = np.asarray(sigma_s_per_m, dtype=np.float64)
        u = None if u_ln_r is None else np.asarray(u_ln_r, dtype=np.float64)
        settling = np.asarray(0.0 if u_ln_settling is None else u_ln_settling, dtype=np.float64)
        named = [("temperature", temperature), ("conductivity", sigma)]
        for name, values in named + ([] if u is None else [("uncertainty", u)]):
            if values.shape != temperature.shape or not np.all(np.isfinite(values) & (values > 0)):
                raise AnalysisError(f"every point needs one {name}, finite and positive")
        return cls(temperature, np.log(sigma), u, np.broadcast_to(settling, temperature.shape))

    @property
    def size(self) -> int:
        """The number of points."""
        return self.temperature_k.size

    @property
    def n_temperatures(self) -> int:
        """The number of temperatures that differ by more than a stage's settling."""
        ordered = np.sort(self.temperature_k)
        return int(ordered.size > 0) + int((np.diff(ordered) > _SAME_K).sum())

    def part(self, wanted: NDArray[np.bool_]) -> "_Points":
        """Return some of the points."""
        u = None if self._u is None else self._u[wanted]
        parts = self.temperature_k[wanted], self._ln_sigma[wanted], u, self._u_settling[wanted]
        return _Points(*parts)

    def line(self, convention: Convention, common: _Common) -> ArrheniusLine:
        """Return the weighted straight line."""
        y = self._y(convention)
        weight = self._weight
        centre = float((weight * self._x).sum() / weight.sum())
        fitted = _weighted_polynomial(self._x - centre, y, weight, degree=1)
        (at_centre, slope), covariance, chi2 = fitted
        covariance = covariance * self._inflation(chi2) + self._settling_covariance(centre)
        u_centre, u_slope = np.sqrt(np.diag(covariance))
        ea_ev = float(-slope * BOLTZMANN_EV_PER_K)
        u_ea_ev = float(u_slope * BOLTZMANN_EV_PER_K)
        to_25 = np.array([1.0, 1 / ROOM_K - centre])
        ln_25 = np.array([at_centre, slope]) @ to_25
        sigma_25 = float(np.exp(ln_25 - (np.log(ROOM_K) if convention == "ln(sigma T)" else 0.0)))
        u_25 = sigma_25 * float(
            np.hypot(np.sqrt(to_25 @ covariance @ to_25), common.u_ln_25(ea_ev))
        )
        to_prefactor = np.array([1.0, -centre])
        u_prefactor = np.sqrt(to_prefactor @ covariance @ to_prefactor)
        return ArrheniusLine(
            convention=convention,
            n_points=self.size,
            ea_ev=ea_ev,
            u_ea_ev=float(np.hypot(u_ea_ev, common.u_ea_ev(ea_ev, 1 / centre))),
            ln_prefactor=float(at_centre - slope * centre),
            u_ln_prefactor=float(np.hypot(u_prefactor, common.u_ln_geometry)),
            sigma_25_s_per_m=sigma_25,
            u_sigma_25_s_per_m=u_25,
            sigma_25_s_per_cm=sigma_25 / 100,
            u_sigma_25_s_per_cm=u_25 / 100,
            reduced_chi2=chi2,
            centre_k_inverse=centre,
            u_centre=float(u_centre),
            u_slope_k=float(u_slope),
        )

    def _settling_covariance(self, centre: float) -> FloatArray:
        """Return what unfinished relaxation adds to the covariance of value and slope."""
        root = np.sqrt(self._weight)[:, None]
        design = np.vander(self._x - centre, 2, increasing=True) * root
        size = np.linalg.norm(design, axis=0)
        spread = np.linalg.pinv(design / size) / size[:, None] * root.T * self._u_settling
        return spread @ spread.T

    def curvature(self) -> tuple[float | None, float | None, bool]:
        """Return k d2y/d(1/T)2, its uncertainty, and whether it differs from 0 beyond chance."""
        freedom = self.size - 3
        if freedom < 1 or self.n_temperatures < 4:
            return None, None, False
        scale = float(np.ptp(self._x))
        x = (self._x - self._x.mean()) / scale
        values, covariance, chi2 = _weighted_polynomial(
            x, self._y("ln(sigma T)"), self._weight, degree=2
        )
        # Without trust in the stated uncertainties (chi2 > 1) the scatter takes their place.
        u = float(np.sqrt(covariance[2, 2] * self._inflation(chi2)))
        probability = 2 * float(stdtr(freedom, -abs(values[2]) / u)) if u > 0 else 1.0
        unit = 2 * BOLTZMANN_EV_PER_K / scale**2
        return float(values[2] * unit), u * unit, probability < _SIGNIFICANT

    def warnings(self, line: ArrheniusLine, *, is_curved: bool) -> list[str]:
        """Return what a reader of the line should know."""
        said: list[str] = []
        if self.n_temperatures < 3:
            said.append("two temperatures only: nothing shows whether the points lie on a line")
        if is_curved:
            said.append("the Arrhenius plot is curved: one activation energy does not describe it")
        times = self._excess_scatter(line)
        if times > 2:
            said.append(f"the points scatter {times:.2g} times more than their uncertainties")
        low, high = self.temperature_k.min(), self.temperature_k.max()
        if not low - _SAME_K <= ROOM_K <= high + _SAME_K:
            said.append("25 degC is outside the measured temperatures: extrapolated")
        return said

    def _excess_scatter(self, line: ArrheniusLine) -> float:
        """Return the scatter about the line in units of what resistance and settling explain."""
        if self._u is None or self.size < 3:
            return 0.0
        off = self._ln_sigma - line.ln_sigma(self.temperature_k)
        explained = self._u**2 + self._u_settling**2
        return float(np.sqrt((off**2 / explained).sum() / (self.size - 2)))

    def _y(self, convention: Convention) -> FloatArray:
        is_primary = convention == "ln(sigma T)"
        return self._ln_sigma + np.log(self.temperature_k) if is_primary else self._ln_sigma

    @property
    def _weight(self) -> FloatArray:
        return np.ones_like(self._x) if self._u is None else self._u**-2

    def _inflation(self, chi2: float | None) -> float:
        """Return what the covariance is multiplied by: never less than the uncertainties say."""
        if chi2 is None:
            return 1.0
        return chi2 if self._u is None else max(chi2, 1.0)


def _weighted_polynomial(
    x: FloatArray, y: FloatArray, weight: FloatArray, *, degree: int
) -> tuple[FloatArray, FloatArray, float | None]:
    """Return coefficients from degree 0 on, their covariance for weights 1/u^2, reduced chi2."""
    design = np.vander(x, degree + 1, increasing=True) * np.sqrt(weight)[:, None]
    # Columns of equal size: 1/T spans some 1e-4 per kelvin, and the normal equations square that.
    size = np.linalg.norm(design, axis=0)
    covariance = np.linalg.inv((design / size).T @ (design / size)) / np.outer(size, size)
    values = covariance @ (design.T @ (np.sqrt(weight) * y))
    freedom = x.size - degree - 1
    off = float((weight * (y - np.vander(x, degree + 1, increasing=True) @ values) ** 2).sum())
    return values, covariance, off / freedom if freedom > 0 else None


def _between(branches: dict[str, ArrheniusLine]) -> list[str]:
    """Return a warning if two branches disagree by more than three standard uncertainties."""
    said: list[str] = []
    lines = sorted(branches.items())
    for (name, line), (other_name, other) in pairwise(lines):
        middle = (line.centre_k_inverse + other.centre_k_inverse) / 2
        offset = float(line.ln_sigma(1 / middle) - other.ln_sigma(1 / middle))
        u_offset = float(np.hypot(line.u_ln_sigma(1 / middle), other.u_ln_sigma(1 / middle)))
        if abs(offset) > 3 * u_offset and abs(offset) > _HYSTERESIS:
            change = np.expm1(offset)
            said.append(f"conductivity on {name} differs by {change:+.1%} from {other_name}")
    return said
