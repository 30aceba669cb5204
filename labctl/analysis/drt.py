"""Distribution of relaxation times: which processes a spectrum is made of, and how large they are.

    Z = R0 + jwL + 1/(jwC) + A / sqrt(jw) + integral of gamma(ln tau) / (1 + jw tau) d ln tau

Tikhonov regularisation of the second derivative, non-negative, with the modulus as weight and ten
relaxation times to the decade (Wan et al., Electrochim. Acta 2015, 184, 483, on the method).
Generalised cross-validation picks lambda; the distribution at ten times and at a tenth of it comes
with it, since a process that another lambda does not show is none to believe in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.linalg import eigh
from scipy.optimize import nnls

from labctl.analysis.drt_peaks import Peak, find_peaks, with_spread
from labctl.errors import AnalysisError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Reals = NDArray[np.float64]

Tail = Literal["none", "capacitance", "diffusion"]

_PER_DECADE = 10
_BEYOND_DECADES = 0.5  # of the window at either end: a process at its rim has its place
_FEWEST_POINTS = 10
# Below, noise of 0.1 % becomes peaks and small processes lose a fifth to them (which no residual
# shows, so that cross-validation goes there); above, processes a decade apart become one.
_LAMBDAS = np.geomspace(3e-5, 1e-1, 29)
_STEP = 10.0
_RIDGE = 1e-12  # of the trace: makes the decomposition possible


class Distribution(BaseModel):
    """One distribution and what stands beside it.

    Attributes:
        lambda_: the regularisation it was made with.
        gamma_ohm: gamma(ln tau) at each of the relaxation times, shape (n_tau,).
        r0_ohm: resistance of everything faster than the window.
        inductance_h: series inductance.
        capacitance_f: series capacitance; infinite without a capacitive tail.
        warburg_ohm_per_sqrt_s: A, the size of the diffusion; 0 without one.
        residual: root mean square of the relative residuals.
    """

    model_config = ConfigDict(frozen=True)

    lambda_: float
    gamma_ohm: tuple[float, ...]
    r0_ohm: float
    inductance_h: float
    capacitance_f: float
    warburg_ohm_per_sqrt_s: float
    residual: float


class DrtResult(BaseModel):
    """The distribution of relaxation times of a spectrum.

    Attributes:
        tau_s: relaxation times, shape (n_tau,), rising, equally spaced in the logarithm.
        best: the distribution at the lambda of least cross-validation error.
        smoother: at ten times that lambda.
        rougher: at a tenth of it.
        r_polarization_ohm: the sum of all processes.
        peaks: processes inside the window with more than 3 % of that, fastest first.
        tau_window_s: the relaxation times that the frequencies reach, (shortest, longest).
        warnings: what to know before believing it, in words.
    """

    model_config = ConfigDict(frozen=True)

    tau_s: tuple[float, ...]
    best: Distribution
    smoother: Distribution
    rougher: Distribution
    r_polarization_ohm: float
    peaks: tuple[Peak, ...]
    tau_window_s: tuple[float, float]
    warnings: tuple[str, ...]


def distribution_of_relaxation_times(
    frequency_hz: Reals, z_ohm: NDArray[np.complex128], *, tail: Tail = "none"
) -> DrtResult:
    """Return the distribution of relaxation times of a spectrum.

    Args:
        frequency_hz: shape (n_points,), in any order.
        z_ohm: complex impedance, shape (n_points,), imaginary part < 0 if capacitive.
        tail: what stands in series and is no process: "capacitance" of a cell that blocks direct
            current, "diffusion" into an electrode that also stores the charge, or "none".

    Raises:
        AnalysisError: too few points, or a point that is no number.
    """
    frequency, z = _checked(frequency_hz, z_ohm)
    problem = _Problem.of(frequency, z, tail=tail)
    lambda_ = problem.cross_validated()
    best, smoother, rougher = (
        problem.solve(each) for each in (lambda_, lambda_ * _STEP, lambda_ / _STEP)
    )
    window_s = _window_s(frequency)
    found = [find_peaks(problem.tau_s, np.array(d.gamma_ohm)) for d in (best, smoother, rougher)]
    peaks = [[peak for peak in each if _is_inside(peak, window_s)] for each in found]
    return DrtResult(
        tau_s=tuple(problem.tau_s),
        best=best,
        smoother=smoother,
        rougher=rougher,
        r_polarization_ohm=float(np.sum(best.gamma_ohm) * problem.d_ln_tau),
        peaks=tuple(with_spread(peak, peaks[1:]) for peak in peaks[0]),
        tau_window_s=window_s,
        warnings=_warnings(peaks, found[0], window_s),
    )


def _checked(
    frequency_hz: Reals, z_ohm: NDArray[np.complex128]
) -> tuple[Reals, NDArray[np.complex128]]:
    frequency, z = np.asarray(frequency_hz, float), np.asarray(z_ohm, complex)
    if frequency.size < _FEWEST_POINTS or frequency.shape != z.shape:
        raise AnalysisError(f"{frequency.size} points: a DRT needs {_FEWEST_POINTS} at least")
    if not (np.isfinite(z).all() and np.isfinite(frequency).all() and (frequency > 0).all()):
        raise AnalysisError("a frequency or impedance is no number: leave such points out")
    return frequency, z


def _window_s(frequency_hz: Reals) -> tuple[float, float]:
    """Return the shortest and the longest relaxation time whose arc peaks inside the window."""
    return (
        float(1 / (2 * np.pi * frequency_hz.max())),
        float(1 / (2 * np.pi * frequency_hz.min())),
    )


@dataclass(frozen=True)
class _Problem:
    """The linear problem: rows are weighted points, columns gamma by tau, then R0, L, 1/C, A."""

    tau_s: Reals
    d_ln_tau: float
    matrix: Reals
    data: Reals
    roughness: Reals
    unit_ohm: float
    inductance_unit_h: float
    elastance_unit_per_f: float
    warburg_unit_ohm_per_sqrt_s: float

    @classmethod
    def of(cls, frequency_hz: Reals, z_ohm: NDArray[np.complex128], *, tail: Tail) -> _Problem:
        """Return the problem of a spectrum, in units that make its unknowns numbers around 1."""
        tau_s = _relaxation_times(frequency_hz)
        d_ln_tau = float(np.log(tau_s[1] / tau_s[0]))
        omega = 2 * np.pi * frequency_hz
        unit_ohm = float(np.ptp(z_ohm.real)) or float(np.abs(z_ohm).max())
        columns = np.column_stack(
            [
                d_ln_tau / (1 + 1j * omega[:, None] * tau_s),
                np.ones_like(omega),
                1j * omega / omega.max(),
                (-1j * omega.min() / omega) * (tail != "none"),
                np.sqrt(omega.min() / (1j * omega)) * (tail == "diffusion"),
            ]
        )
        weight = unit_ohm / np.abs(z_ohm)
        matrix = columns * weight[:, None]
        data = z_ohm / np.abs(z_ohm)
        return cls(
            tau_s=tau_s,
            d_ln_tau=d_ln_tau,
            matrix=_real(matrix),
            data=_real(data),
            roughness=_second_derivative(tau_s.size, d_ln_tau, beside=4),
            unit_ohm=unit_ohm,
            inductance_unit_h=unit_ohm / float(omega.max()),
            elastance_unit_per_f=unit_ohm * float(omega.min()),
            warburg_unit_ohm_per_sqrt_s=unit_ohm * float(omega.min()) ** 0.5,
        )

    def solve(self, lambda_: float) -> Distribution:
        """Return the non-negative distribution at one lambda."""
        stacked = np.vstack([self.matrix, np.sqrt(lambda_) * self.roughness])
        padded = np.concatenate([self.data, np.zeros(len(self.roughness))])
        solution, _ = nnls(stacked, padded)
        residual = self.matrix @ solution - self.data
        gamma, (r0, inductance, elastance, warburg) = solution[:-4], solution[-4:]
        capacitance_f = 1 / (elastance * self.elastance_unit_per_f) if elastance else np.inf
        return Distribution(
            lambda_=lambda_,
            gamma_ohm=tuple(gamma * self.unit_ohm),
            r0_ohm=float(r0 * self.unit_ohm),
            inductance_h=float(inductance * self.inductance_unit_h),
            capacitance_f=float(capacitance_f),
            warburg_ohm_per_sqrt_s=float(warburg * self.warburg_unit_ohm_per_sqrt_s),
            residual=float(np.sqrt(np.mean(residual**2))),
        )

    def cross_validated(self) -> float:
        """Return the lambda of least generalised cross-validation error.

        That of the problem without signs, whose influence matrix is known in closed form.
        """
        gram, penalty = self.matrix.T @ self.matrix, self.roughness.T @ self.roughness
        ridge = _RIDGE * np.trace(gram) * np.eye(len(gram))
        # One decomposition serves every lambda: (G + lambda P)^-1 = V / (1 + lambda mu) V^T.
        mu, vectors = eigh(penalty, gram + ridge)
        seen = self.matrix @ vectors
        lengths, projected = (seen**2).sum(axis=0), seen.T @ self.data
        scores = []
        for lambda_ in _LAMBDAS:
            kept = 1 / (1 + lambda_ * np.maximum(mu, 0.0))
            residual = self.data - seen @ (kept * projected)
            freedom = self.data.size - float(kept @ lengths)
            scores.append(float(residual @ residual) / freedom**2)
        return float(_LAMBDAS[int(np.argmin(scores))])


def _real(values: NDArray[Any]) -> Reals:
    """Return real parts above imaginary parts."""
    return np.concatenate([np.real(values), np.imag(values)]).astype(np.float64)


def _relaxation_times(frequency_hz: Reals) -> Reals:
    shortest_s, longest_s = _window_s(frequency_hz)
    low = np.log10(shortest_s) - _BEYOND_DECADES
    high = np.log10(longest_s) + _BEYOND_DECADES
    return np.logspace(low, high, round((high - low) * _PER_DECADE) + 1)


def _second_derivative(n_tau: int, d_ln_tau: float, *, beside: int) -> Reals:
    """Return the operator, with columns of zero for what stands beside gamma.

    gamma counts as zero outside: else the ends could rise without a price.
    """
    operator = -2 * np.eye(n_tau) + np.eye(n_tau, k=1) + np.eye(n_tau, k=-1)
    scaled = operator / d_ln_tau**2 * np.sqrt(d_ln_tau)
    return np.hstack([scaled, np.zeros((n_tau, beside))])


def _is_inside(peak: Peak, window_s: tuple[float, float]) -> bool:
    return window_s[0] <= peak.tau_s <= window_s[1]


def _warnings(
    peaks: list[list[Peak]], found: list[Peak], window_s: tuple[float, float]
) -> tuple[str, ...]:
    """Return what to know before believing the peaks."""
    best, smoother, rougher = (len(each) for each in peaks)
    outside = f"processes faster than {window_s[0]:.1e} s lie outside the window of frequencies"
    said = [f"{outside}: they are part of R0"]
    if not best == smoother == rougher:
        said.append(
            f"the number of processes depends on lambda: {best} at the chosen one, {smoother} at "
            f"ten times it, {rougher} at a tenth"
        )
    said += [
        f"no process: what the window shows of one beyond it, near {peak.tau_s:.1e} s"
        for peak in found
        if not _is_inside(peak, window_s)
    ]
    return tuple(said)
