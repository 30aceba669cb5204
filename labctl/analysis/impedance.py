"""Impedance spectra of solid electrolytes between blocking electrodes: resistance with uncertainty.

Complex non-linear least squares in logarithmic parameters with weights by modulus, from several
starting points, for a family of circuits; the evidence chooses the circuit. Where the bulk's arc
lies above the frequency window only the total resistance is reported: it is what the data hold.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.analysis.circuits import Axis, ComplexArray, FloatArray
from labctl.analysis.cnls import Fit, Spectrum
from labctl.analysis.drift import DriftCheck, drift_between
from labctl.analysis.impedance_fit import Arc, Candidate, ImpedanceFit, Parameter
from labctl.analysis.interpretation import Interpretation
from labctl.analysis.reactance import minimum_reactance
from labctl.analysis.selection import CLEAR_WIN, Verdict, tried_circuits
from labctl.errors import AnalysisError
from labctl.quantities import format_si

__all__ = [
    "Arc",
    "Candidate",
    "DriftCheck",
    "ImpedanceFit",
    "Parameter",
    "drift_between",
    "fit_impedance",
    "minimum_reactance",
]

_FEWEST_POINTS = 6
_NARROWEST = 9.5  # highest over lowest frequency; a decade, rounded by an instrument
_ABSURD_OHM = 1e18  # beyond every insulator
_FEWEST_POINTS_OF_A_CUT = 15
_TAIL_DECADES = 2.5
_NOTABLE_DOUBT = 3.0  # standard uncertainties
_MUCH_BETTER = 0.7  # by how much the residuals must shrink to leave points out
_PASSIVE = -0.1  # Re Z / |Z| below which a point is an artefact: a cell is no source


def fit_impedance(
    frequency_hz: ArrayLike,
    z_ohm: ArrayLike,
    *,
    u_z_ohm: ArrayLike | None = None,
    is_usable: ArrayLike | None = None,
    seed: int = 0,
) -> ImpedanceFit:
    """Return the circuit that a spectrum supports, with its resistances and uncertainties.

    Args:
        frequency_hz: shape (n_points,), in any order.
        z_ohm: complex impedance, imaginary part negative when capacitive, shape (n_points,).
        u_z_ohm: standard uncertainty of each point up to a common factor, shape (n_points,);
            without it all points have the same relative uncertainty (weights by modulus).
        is_usable: which points may be fitted, shape (n_points,); default: all that make sense.
        seed: of the random starting points.

    Raises:
        AnalysisError: too few points or frequencies, or data that hold no resistance.
    """
    measured = _Measured.of(frequency_hz, z_ohm, u_z_ohm, is_usable)
    measured.demand_spectrum()
    is_used = measured.is_usable
    verdicts = tried_circuits(measured.spectrum(is_used), seed=seed)
    shorter = measured.without_tail(verdicts[0].fit)
    if shorter is not None:
        retried = tried_circuits(measured.spectrum(shorter), seed=seed)
        if retried[0].fit.residual_scale < _MUCH_BETTER * verdicts[0].fit.residual_scale:
            verdicts, is_used = retried, shorter
    meaning = Interpretation(verdicts[0].fit, may_be_two=_may_be_two(verdicts))
    meaning.demand_resistance()
    doubt_ohm = _doubt_ohm(meaning, verdicts)
    warnings = [*measured.warnings(is_used), *_about_choice(verdicts[0], meaning, doubt_ohm)]
    warnings += meaning.warnings()
    return _result(measured, is_used, verdicts, meaning, doubt_ohm, warnings)


@dataclass(frozen=True)
class _Measured:
    """One spectrum as it was given, and which points may be fitted; shapes (n_points,)."""

    frequency_hz: FloatArray
    z_ohm: ComplexArray
    u_z_ohm: FloatArray
    makes_sense: NDArray[np.bool_]
    is_usable: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        frequency_hz: ArrayLike,
        z_ohm: ArrayLike,
        u_z_ohm: ArrayLike | None,
        is_usable: ArrayLike | None,
    ) -> "_Measured":
        """Return the spectrum with the points found that could be a passive cell's."""
        frequency = np.asarray(frequency_hz, dtype=np.float64)
        z = np.asarray(z_ohm, dtype=np.complex128)
        if frequency.shape != z.shape or frequency.ndim != 1:
            raise AnalysisError(f"{frequency.shape} frequencies for {z.shape} impedances")
        makes_sense = _makes_sense(frequency, z)
        wanted = np.full(z.shape, True) if is_usable is None else np.asarray(is_usable, dtype=bool)
        u_z = np.abs(z) if u_z_ohm is None else np.asarray(u_z_ohm, dtype=np.float64)
        return cls(frequency, z, u_z, makes_sense, makes_sense & wanted)

    def demand_spectrum(self) -> None:
        """Check that these are enough points, at enough frequencies, to fit a circuit.

        Raises:
            AnalysisError: they are not.
        """
        usable = self.is_usable
        if usable.sum() < _FEWEST_POINTS:
            raise AnalysisError(
                f"{int(usable.sum())} usable points of {usable.size}: a fit needs {_FEWEST_POINTS}"
                + _reasons(self.frequency_hz, self.z_ohm)
            )
        distinct = np.unique(self.frequency_hz[usable])
        if distinct.size < _FEWEST_POINTS or distinct[-1] < _NARROWEST * distinct[0]:
            low, high = (format_si(float(each), "Hz", 3) for each in distinct[[0, -1]])
            raise AnalysisError(
                f"{distinct.size} frequencies from {low} to {high}: a fit needs "
                f"{_FEWEST_POINTS} over at least a decade"
            )

    def spectrum(self, part: NDArray[np.bool_]) -> Spectrum:
        """Return some of the points for a fit."""
        return Spectrum(
            axis=Axis.of(self.frequency_hz[part]),
            z_ohm=self.z_ohm[part],
            u_z_ohm=self.u_z_ohm[part],
            largest_ohm=float(np.abs(self.z_ohm[self.is_usable]).max()),
        )

    def without_tail(self, fit: Fit) -> NDArray[np.bool_] | None:
        """Return the points without the electrode's far tail if that may be what does not fit.

        Real electrodes are no constant phase element over many decades, and where their tail pulls
        at the fit it moves the ions' resistance, of which it knows nothing: on a real argyrodite
        pellet by 2 %. The 2.5 decades below the arc's foot hold all that is needed.
        """
        if not (fit.has_trend and fit.circuit.has_electrode):
            return None
        usable = self.is_usable
        foot_hz = minimum_reactance(self.frequency_hz[usable], self.z_ohm[usable])
        kept = usable & (self.frequency_hz > foot_hz / 10**_TAIL_DECADES)
        return kept if _FEWEST_POINTS_OF_A_CUT <= kept.sum() < usable.sum() else None

    def warnings(self, is_used: NDArray[np.bool_]) -> list[str]:
        """Return which points this analysis, not its caller, left out."""
        said: list[str] = []
        if not self.makes_sense.all():
            dropped = int((~self.makes_sense).sum())
            said.append(f"{dropped} points cannot be a passive cell's and were left out")
        if is_used is not self.is_usable:
            lowest = format_si(float(self.frequency_hz[is_used].min()), "Hz", 3)
            said.append(f"points below {lowest} fit no constant phase element: left out")
        return said


def _result(
    measured: _Measured,
    is_used: NDArray[np.bool_],
    verdicts: list[Verdict],
    meaning: Interpretation,
    doubt_ohm: float,
    warnings: list[str],
) -> ImpedanceFit:
    """Return everything in the form that is kept."""
    fit = verdicts[0].fit
    residuals = _residuals(fit, measured.frequency_hz, measured.z_ohm)
    bulk = meaning.bulk
    return ImpedanceFit(
        circuit=fit.circuit,
        r_total_ohm=meaning.r_total_ohm,
        u_r_total_ohm=math.hypot(meaning.u_r_total_ohm, doubt_ohm),
        r_bulk_ohm=bulk.r_ohm if bulk else None,
        u_r_bulk_ohm=math.hypot(bulk.u_r_ohm, doubt_ohm) if bulk else None,
        is_arc_closed=meaning.is_arc_closed,
        arcs=meaning.arcs,
        parameters=meaning.parameters,
        covariance=tuple(tuple(row) for row in meaning.covariance.tolist()),
        noise=_noise(residuals[is_used], fit),
        frequency_hz=tuple(measured.frequency_hz.tolist()),
        is_used=tuple(is_used.tolist()),
        residual_real=_listed(residuals.real),
        residual_imag=_listed(residuals.imag),
        candidates=tuple(_candidate(each) for each in verdicts),
        warnings=tuple(warnings),
    )


def _makes_sense(frequency_hz: FloatArray, z_ohm: ComplexArray) -> NDArray[np.bool_]:
    """Return which points could be a passive cell's, shape (n_points,)."""
    finite = np.isfinite(frequency_hz) & np.isfinite(z_ohm)
    return (
        finite
        & (frequency_hz > 0)
        & (np.abs(z_ohm) > 0)
        & (np.abs(z_ohm) < _ABSURD_OHM)
        & (z_ohm.real > _PASSIVE * np.abs(z_ohm))
    )


def _reasons(frequency_hz: FloatArray, z_ohm: ComplexArray) -> str:
    """Return why points cannot be a passive cell's, in brackets; "" if all could."""
    size = np.abs(z_ohm)
    found = {
        "not a number": ~(np.isfinite(frequency_hz) & np.isfinite(z_ohm)),
        "a frequency that is not positive": frequency_hz <= 0,
        "an impedance of zero": size == 0,
        f"an impedance above {_ABSURD_OHM:g} ohm": np.isfinite(size) & (size >= _ABSURD_OHM),
        "a negative resistance": (size > 0) & (z_ohm.real <= _PASSIVE * size),
    }
    said = [f"{int(where.sum())} with {what}" for what, where in found.items() if where.any()]
    return f" ({', '.join(said)})" if said else ""


def _residuals(fit: Fit, frequency_hz: FloatArray, z_ohm: ComplexArray) -> ComplexArray:
    """Return (Z_fit - Z) / |Z| at all points, also those not fitted; nan where there is no Z."""
    residuals = np.full(z_ohm.shape, np.nan + 0j)
    known = (
        np.isfinite(frequency_hz) & (frequency_hz > 0) & np.isfinite(z_ohm) & (np.abs(z_ohm) > 0)
    )
    axis = replace(fit.spectrum.axis, log_jw=Axis.of(frequency_hz[known]).log_jw)
    fitted = fit.circuit.impedance(fit.theta, axis)
    residuals[known] = (fitted - z_ohm[known]) / np.abs(z_ohm[known])
    return residuals


def _listed(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values.tolist())


def _noise(residuals: ComplexArray, fit: Fit) -> float:
    """Return the standard deviation of one relative residual, degrees of freedom counted."""
    freedom = 2 * residuals.size - fit.circuit.size
    return float(np.sqrt((np.abs(residuals) ** 2).sum() / freedom))


def _candidate(verdict: Verdict) -> Candidate:
    return Candidate(
        circuit=verdict.fit.circuit.name,
        n_parameters=verdict.fit.circuit.size,
        bic=verdict.fit.bic,
        objection=verdict.objection,
    )


def _may_be_two(verdicts: list[Verdict]) -> bool:
    """Return whether two arcs would fit as well as the one that was chosen, objections or not.

    That the data do not determine each of two arcs does not make them one; nor does a window that
    ends within the first.
    """
    chosen = verdicts[0].fit
    if chosen.circuit.arcs == 1 and not Interpretation(chosen).is_arc_closed:
        return True
    two = [each.fit.bic for each in verdicts[1:] if each.fit.circuit.arcs == 2]
    return chosen.circuit.arcs == 1 and min(two, default=np.inf) < chosen.bic + CLEAR_WIN


def _doubt_ohm(meaning: Interpretation, verdicts: list[Verdict]) -> float:
    """Return how far the resistance would move with a circuit that fits better, if not clearly.

    Without it the simpler of two circuits that the data can hardly tell apart would claim the
    uncertainty of a circuit known to be true.
    """
    rivals = [each for each in verdicts[1:] if not each.objection]
    better = [each for each in rivals if each.fit.bic < meaning.fit.bic]
    moves = (Interpretation(each.fit).r_total_ohm - meaning.r_total_ohm for each in better)
    return max((abs(move) for move in moves), default=0.0)


def _about_choice(chosen: Verdict, meaning: Interpretation, doubt_ohm: float) -> list[str]:
    """Return what is doubtful about the circuit itself."""
    said = [f"no circuit is beyond doubt: {chosen.objection}"] if chosen.objection else []
    if doubt_ohm > _NOTABLE_DOUBT * meaning.u_r_total_ohm:
        share = doubt_ohm / meaning.r_total_ohm
        said.append(f"a circuit that fits hardly better moves the resistance by {share:.1%}")
    return said
