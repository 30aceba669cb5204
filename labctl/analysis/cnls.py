"""Complex non-linear least squares of one circuit on one spectrum."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import leastsq

from labctl.analysis.circuits import Axis, Circuit, ComplexArray, FloatArray

_ARC_N = (0.5, 1.0)
_ELECTRODE_N = (0.3, 1.0)
_LOG_INDUCTANCE = (-27.0, -7.0)  # ln H: 2 pH to 1 mH
_ENOUGH, _SAME = 2, 1 + 1e-4  # how many starts must lead to how nearly the same sum of squares
_BIC_FLOOR = 1e-10  # the square of a noise below which no instrument measures, and no model matters
_INSIDE = 0.98  # how near a bound a search may begin: at one, an angle's slope vanishes
_FAR = 12.0  # how far, in ln, resistances and time constants may leave the measured window
_LONG_STEP_N = 0.1  # a change of an exponent that matters as much as a factor of e elsewhere
# How far a first step may go, as a share of the distance from the origin; scipy's stub says int.
_FIRST_REACH: Any = 0.1
_EVALUATIONS = 60
_INDEPENDENT = 1e-7  # singular value below which two coordinates do the same, columns normalised


@dataclass(frozen=True)
class Spectrum:
    """One spectrum as a fit needs it.

    Attributes:
        z_ohm: shape (n_points,).
        u_z_ohm: standard uncertainties, up to a common factor, shape (n_points,).
        largest_ohm: the largest |Z| that was measured, also at frequencies that are not fitted.
    """

    axis: Axis
    z_ohm: ComplexArray
    u_z_ohm: FloatArray
    largest_ohm: float


@dataclass(frozen=True)
class Fit:
    """The best fit of one circuit.

    Attributes:
        theta: the circuit's coordinates, shape (circuit.size,).
        slopes: derivatives of the stacked weighted residuals, shape (2 n_points, circuit.size).
        weighted_squares: sum of the squared residuals, each divided by its uncertainty.
        on_bound: which coordinates ended on a limit of their range, shape (circuit.size,).
    """

    circuit: Circuit
    spectrum: Spectrum
    theta: FloatArray
    slopes: FloatArray
    weighted_squares: float
    on_bound: NDArray[np.bool_]

    @cached_property
    def bic(self) -> float:
        """The Bayesian information criterion with the size of the noise unknown."""
        count = 2 * self.spectrum.z_ohm.size
        return float(
            count * np.log(self.weighted_squares / count + _BIC_FLOOR)
            + self.circuit.size * np.log(count)
        )

    @cached_property
    def z_ohm(self) -> ComplexArray:
        """The circuit's impedance at the spectrum's frequencies, shape (n_points,)."""
        return self.circuit.impedance(self.theta, self.spectrum.axis)

    @cached_property
    def residual_scale(self) -> float:
        """Standard deviation of one weighted residual, degrees of freedom counted."""
        freedom = 2 * self.spectrum.z_ohm.size - self.circuit.size
        return float(np.sqrt(self.weighted_squares / freedom))

    @cached_property
    def relative_residuals(self) -> ComplexArray:
        """(Z_fit - Z) / |Z|, shape (n_points,)."""
        measured = self.spectrum.z_ohm
        return (self.z_ohm - measured) / np.abs(measured)

    @cached_property
    def trend(self) -> float:
        """Correlation of neighbouring residuals: near 0 if noise, near 1 if the model misfits."""
        weighted = (self.z_ohm - self.spectrum.z_ohm) / self.spectrum.u_z_ohm
        products = weighted[1:] * np.conj(weighted[:-1])
        return float(products.real.sum() / (np.abs(weighted) ** 2).sum())

    @property
    def has_trend(self) -> bool:
        """Whether the residuals are more alike than noise lets them be (3 sigma)."""
        return self.trend > 3 / np.sqrt(2 * self.spectrum.z_ohm.size)

    @cached_property
    def is_well_posed(self) -> bool:
        """Whether no two combinations of coordinates do the same to the impedance."""
        size = np.linalg.norm(self.slopes, axis=0)
        if not np.all(size > 0):
            return False
        return bool(np.linalg.svd(self.slopes / size, compute_uv=False)[-1] > _INDEPENDENT)

    @cached_property
    def covariance(self) -> FloatArray:
        """Covariance of the coordinates; the noise is what the residuals show.

        Where the residuals have a trend there are fewer independent points than points: the
        covariance grows by (1 + r) / (1 - r), r their correlation (first-order autoregression).
        """
        # A direction in which nothing changes is not known at all; a pseudo-inverse would say that
        # it is known exactly.
        size = np.maximum(np.linalg.norm(self.slopes, axis=0), 1e-300)
        _, values, directions = np.linalg.svd(self.slopes / size, full_matrices=False)
        spread = directions.T / np.maximum(values, _INDEPENDENT)
        inverse = (spread @ spread.T) / np.outer(size, size)
        scale = self.residual_scale**2
        if self.has_trend:
            scale *= (1 + self.trend) / (1 - min(self.trend, 0.95))
        return np.asarray(inverse * scale, dtype=np.float64)

    def promise(self, column: ComplexArray) -> tuple[float, float]:
        """Return what one more element would bring: by how much the BIC falls, and its amplitude.

        To first order, with all coordinates readjusted; a negative amplitude promises nothing.

        Args:
            column: derivative of the impedance by the element's amplitude, shape (n_points,).
        """
        basis = np.linalg.qr(self.slopes)[0]
        extra = _stacked(column / self.spectrum.u_z_ohm)
        extra -= basis @ (basis.T @ extra)
        residuals = _stacked((self.spectrum.z_ohm - self.z_ohm) / self.spectrum.u_z_ohm)
        amplitude = float(extra @ residuals / (extra @ extra))
        left = max(self.weighted_squares - amplitude**2 * float(extra @ extra), 0.0)
        count = residuals.size
        shrinks = np.log((self.weighted_squares / count + _BIC_FLOOR) / (left / count + _BIC_FLOOR))
        gain = float(count * shrinks - np.log(count))
        return (gain, amplitude) if amplitude > 0 else (-np.inf, amplitude)

    @cached_property
    def u_theta(self) -> FloatArray:
        """Standard uncertainties of the coordinates."""
        return np.sqrt(np.diag(self.covariance))


def fit_circuit(
    circuit: Circuit,
    spectrum: Spectrum,
    starts: Iterable[FloatArray],
    *,
    bic_to_beat: float = np.inf,
) -> Fit:
    """Return the best of the fits from the starting points.

    It stops as soon as two of them have led to the same best fit, or when two have not beaten a
    simpler circuit: then the data hold nothing for this one to find.
    """
    problem = _Problem(circuit, spectrum)
    fits: list[Fit] = []
    for start in starts:
        fits.append(problem.solve(start))
        best = min(fits, key=lambda fit: fit.weighted_squares)
        agreeing = sum(fit.weighted_squares < _SAME * best.weighted_squares for fit in fits)
        if agreeing == _ENOUGH or (len(fits) >= _ENOUGH and best.bic > bic_to_beat):
            break
    return min(fits, key=lambda fit: fit.weighted_squares)


def polished(fit: Fit) -> Fit:
    """Return a fit carried on to the last digit."""
    return _Problem(fit.circuit, fit.spectrum).solve(fit.theta, tolerance=1e-11, evaluations=200)


class _Problem:
    """Residuals, derivatives and bounds of one circuit on one spectrum.

    MINPACK's Levenberg-Marquardt, called directly, is several times faster than `least_squares` on
    problems of this size, and knows no bounds: it searches over angles whose sines run from bound
    to bound. The steps are measured in fixed units. Those that MINPACK takes from the derivatives
    only ever shrink its steps, and it creeps along the valleys that overlapping arcs make: it found
    the two arcs of LiCl from one start in three, and with fixed units it finds them from each.
    """

    def __init__(self, circuit: Circuit, spectrum: Spectrum) -> None:
        self._circuit = circuit
        self._spectrum = spectrum
        low, high = self._bounds = _bounds(circuit, spectrum)
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        is_exponent = [name.startswith("n_") for name, _ in circuit.parameters]
        self._units = self._half / np.where(is_exponent, _LONG_STEP_N, 1.0)
        self._at: bytes = b""
        self._slopes: ComplexArray = np.empty(0, dtype=np.complex128)

    def solve(
        self, start: FloatArray, *, tolerance: float = 1e-6, evaluations: int = _EVALUATIONS
    ) -> Fit:
        """Return the fit that one starting point leads to."""
        low, high = self._bounds
        inside = np.clip((start - self._middle) / self._half, -_INSIDE, _INSIDE)
        solution: Any = leastsq(  # typed as if full_output were False
            self._wound_residuals,
            np.arcsin(inside),
            Dfun=self._wound_jacobian,
            full_output=True,
            ftol=tolerance,
            xtol=tolerance,
            gtol=tolerance * 1e-3,
            maxfev=evaluations,
            diag=self._units,
            factor=_FIRST_REACH,
        )
        angles, about = solution[0], solution[2]
        theta = self._unwound(angles)
        margin = 1e-4 * (high - low)
        return Fit(
            circuit=self._circuit,
            spectrum=self._spectrum,
            theta=theta,
            slopes=self._jacobian(theta),
            weighted_squares=float(about["fvec"] @ about["fvec"]),
            on_bound=(theta - low < margin) | (high - theta < margin),
        )

    def _unwound(self, angles: FloatArray) -> FloatArray:
        """Return the coordinates that unbounded angles stand for."""
        return self._middle + self._half * np.sin(angles)

    def _wound_residuals(self, angles: FloatArray) -> FloatArray:
        return self._residuals(self._unwound(angles))

    def _wound_jacobian(self, angles: FloatArray) -> FloatArray:
        return self._jacobian(self._unwound(angles)) * (self._half * np.cos(angles))

    def _residuals(self, theta: FloatArray) -> FloatArray:
        z, slopes = self._circuit.linearised(theta, self._spectrum.axis)
        self._at, self._slopes = theta.tobytes(), slopes
        return _stacked((z - self._spectrum.z_ohm) / self._spectrum.u_z_ohm)

    def _jacobian(self, theta: FloatArray) -> FloatArray:
        if theta.tobytes() != self._at:
            self._residuals(theta)
        return _stacked(self._slopes / self._spectrum.u_z_ohm[:, None])


def _bounds(circuit: Circuit, spectrum: Spectrum) -> tuple[FloatArray, FloatArray]:
    """Return the lowest and highest value of every coordinate."""
    size = np.log(np.abs(spectrum.z_ohm))
    log_w = spectrum.axis.log_jw.real
    ohm = (float(size.min()) - _FAR, float(size.max()) + _FAR)
    tau = (-float(log_w.max()) - _FAR, -float(log_w.min()) + _FAR)
    limits = [_LOG_INDUCTANCE] * circuit.has_inductance + [ohm] * circuit.has_series
    limits += [ohm, tau, _ARC_N] * circuit.arcs
    limits += [ohm, _ELECTRODE_N] * circuit.has_electrode + [ohm] * circuit.has_leakage
    low, high = zip(*limits, strict=True)
    return np.array(low), np.array(high)


def _stacked(values: ComplexArray) -> FloatArray:
    """Return real parts above imaginary parts."""
    return np.concatenate([values.real, values.imag])
