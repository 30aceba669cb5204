"""What the circuit of a spectrum means for the pellet: which resistance is whose."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labctl.analysis.capacitances import (
    BULK_CAPACITANCE_F,
    ELECTRODE_CAPACITANCE_F,
    ION_CAPACITANCE_F,
)
from labctl.analysis.circuits import FloatArray, brug_capacitance
from labctl.analysis.cnls import Fit
from labctl.analysis.impedance_fit import Arc, ArcLabel, Parameter
from labctl.errors import AnalysisError
from labctl.quantities import format_si

_WORST_BULK = 0.2  # relative standard uncertainty above which a bulk resistance is not reported
_WORST_TOTAL = 0.5  # and above which there is no resistance to speak of
_CLOSED = 0.9  # share of the ions' resistance that must be visible at the lowest frequency
_LEAST_SEEN = 0.15  # share below which it is the arc's assumed shape that speaks
_NOTHING_SEEN = 1e-3  # less of an arc than this is a capacitor
_OUTLIER = 7.0  # times the noise
_LEAST_NOISE = 1e-4  # of |Z|: below it, nothing is an outlier
_NEIGHBOURS = 5  # points over which a trend is averaged
_POOR_FIT = 0.1  # rms of the relative residuals above which the circuit describes little
_NO_FIT = 0.2  # their median, as a standard deviation, above which it describes nothing
_NO_RESISTANCE = "no resistance of ions in this spectrum: an electrode's or capacitive throughout"


@dataclass(frozen=True)
class Interpretation:
    """The meaning of one fit.

    Attributes:
        may_be_two: whether the one arc may be two that the data cannot tell apart.
    """

    fit: Fit
    may_be_two: bool = False

    @cached_property
    def covariance(self) -> FloatArray:
        """Covariance of the natural parameters."""
        _, slopes = self._natural
        return slopes @ self.fit.covariance @ slopes.T

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The natural parameters, in the order of the covariance."""
        values, _ = self._natural
        spread = np.sqrt(np.diag(self.covariance))
        return tuple(
            Parameter(name=name, unit=unit, value=float(value), u_value=float(u))
            for (name, unit), value, u in zip(
                self.fit.circuit.parameters, values, spread, strict=True
            )
        )

    @cached_property
    def arcs(self) -> tuple[Arc, ...]:
        """The arcs from high to low frequency."""
        found = [self._arc(at) for at in self.fit.circuit.arc_starts]
        return tuple(sorted(found, key=lambda arc: -arc.peak_hz))

    @cached_property
    def bulk(self) -> Arc | None:
        """The bulk's arc if it can be told from the rest."""
        for arc in self.arcs[:1] if not self.fit.circuit.has_series else ():
            if arc.label == "bulk" and arc.u_r_ohm <= _WORST_BULK * arc.r_ohm:
                return arc
        return None

    @cached_property
    def r_total_ohm(self) -> float:
        """The ions' resistance."""
        return float(self._ion_slopes.sum())

    @cached_property
    def u_r_total_ohm(self) -> float:
        """Its standard uncertainty, from the full covariance.

        What an open arc does not show is only as sure as the circuit's shape: it counts as
        unknown, anywhere between minus and plus itself.
        """
        fitted = float(np.sqrt(self._ion_slopes @ self.fit.covariance @ self._ion_slopes))
        unseen = 0.0 if self.is_arc_closed else (1 - self.closed_share) * self.r_total_ohm
        return float(np.hypot(fitted, unseen / np.sqrt(3)))

    @cached_property
    def closed_share(self) -> float:
        """The share of the ions' resistance that the lowest frequency shows; 0 if there is none."""
        if not self._ion_resistances:
            return 0.0
        lowest = self.fit.spectrum.axis.log_w_ref + 0.5j * np.pi
        theta, seen = self.fit.theta, 0.0
        for at in self._ion_resistances:
            if at in self.fit.circuit.arc_starts:
                x = np.exp(theta[at + 2] * (lowest + theta[at + 1]))
                seen += float((np.exp(theta[at]) / (1 + x)).real)
            else:
                seen += float(np.exp(theta[at]))
        return seen / self.r_total_ohm

    @property
    def is_arc_closed(self) -> bool:
        """Whether the spectrum reaches below the ions' arcs."""
        return self.closed_share >= _CLOSED

    def demand_resistance(self) -> None:
        """Check that there is a resistance to report.

        Raises:
            AnalysisError: the data do not determine it.
        """
        if not self._ion_resistances or self.closed_share < _NOTHING_SEEN:
            raise AnalysisError(_NO_RESISTANCE)
        if self._typical_residual > _NO_FIT or not self.fit.is_well_posed:
            raise AnalysisError("no circuit fits this spectrum: it is noise, or not a cell's")
        is_known = self.u_r_total_ohm <= _WORST_TOTAL * self.r_total_ohm
        if self.is_arc_closed and not is_known:
            raise AnalysisError(_NO_RESISTANCE)
        if not is_known or self.closed_share < _LEAST_SEEN:
            raise AnalysisError(
                "the arc is not closed at the low-frequency end: the spectrum shows only "
                f"{self.closed_share:.1%} of the resistance, which is not determined"
            )

    def warnings(self) -> list[str]:
        """Return what a reader of the resistance should know, in plain words."""
        return [*self._about_arcs(), *self._about_low_end(), *self._about_residuals()]

    @cached_property
    def _natural(self) -> tuple[FloatArray, FloatArray]:
        return self.fit.circuit.natural(self.fit.theta, self.fit.spectrum.axis)

    @cached_property
    def _ion_resistances(self) -> list[int]:
        """Where the ln R of the pellet, not of electrodes, stand among the coordinates."""
        starts = self.fit.circuit.arc_starts
        return [
            at
            for at in self.fit.circuit.ion_resistances
            if at not in starts or self._arc(at).label != "electrode"
        ]

    @cached_property
    def _ion_slopes(self) -> FloatArray:
        """The derivative of the total resistance by the coordinates: R where one counts, else 0."""
        slopes = np.zeros_like(self.fit.theta)
        slopes[self._ion_resistances] = np.exp(self.fit.theta[self._ion_resistances])
        return slopes

    def _arc(self, at: int) -> Arc:
        r, q, n = self.parameters[at : at + 3]
        capacitance = brug_capacitance(r.value, q.value, n.value)
        peak_hz = float(np.exp(-self.fit.theta[at + 1]) / (2 * np.pi))
        # Of an arc that peaks above the window only the tail is seen, which may be that of several.
        is_seen = peak_hz <= self._highest_hz
        return Arc(
            r_ohm=r.value,
            u_r_ohm=r.u_value,
            q=q.value,
            u_q=q.u_value,
            n=n.value,
            u_n=n.u_value,
            capacitance_f=capacitance,
            peak_hz=peak_hz,
            label=self._label(capacitance) if is_seen else "unassigned",
        )

    def _label(self, capacitance_f: float) -> ArcLabel:
        """Return what an arc of this capacitance in F stands for."""
        label = _label(capacitance_f)
        return "total" if self.may_be_two and label in {"bulk", "grain boundary"} else label

    @property
    def _highest_hz(self) -> float:
        return float(np.exp(self.fit.spectrum.axis.log_jw.real.max()) / (2 * np.pi))

    def _about_arcs(self) -> list[str]:
        """Return why the bulk is not reported, and what is not counted."""
        said: list[str] = []
        first = self.arcs[0] if self.arcs else None
        if first is None or self.fit.circuit.has_series:
            said.append("total only: the bulk's arc is above the frequency window")
        elif first.peak_hz > self._highest_hz:
            said.append("total only: the first arc peaks above the frequency window")
        elif first.label == "total":
            said.append("total only: the arc may be two, bulk and grain boundaries")
        elif first.label != "bulk":
            capacitance = format_si(first.capacitance_f, "F", 2)
            said.append(f"total only: the first arc has {capacitance}, which is not a bulk's")
        elif self.bulk is None:
            share = first.u_r_ohm / first.r_ohm
            said.append(f"total only: the bulk's own resistance is uncertain by {share:.0%}")
        for arc in self.arcs:
            if arc.label == "electrode":
                r = format_si(arc.r_ohm, "ohm", 3)
                said.append(f"an arc of {r} at {format_si(arc.peak_hz, 'Hz', 2)} is an electrode's")
        return said

    def _about_low_end(self) -> list[str]:
        """Return what ends the spectrum at low frequency other than a blocking electrode."""
        said: list[str] = []
        if not self.is_arc_closed:
            said.append(
                "the arc is not closed at the low-frequency end: the spectrum shows "
                f"{self.closed_share:.0%} of the resistance, the rest is extrapolated"
            )
        if self.fit.circuit.has_leakage:
            leakage = self.parameters[-1]
            said.append(f"a leakage of {format_si(leakage.value, 'ohm', 3)} bridges the ions' path")
        elif self.fit.circuit.has_electrode and self._electrode_f() < ION_CAPACITANCE_F:
            said.append("the low-frequency end is not an electrode's: another arc may begin there")
        return said

    def _electrode_f(self) -> float:
        """Return the capacitance in F that the electrode has at the lowest frequency."""
        at = self.fit.circuit.size - self.fit.circuit.has_leakage - 2
        return float(np.exp(-self.fit.theta[at] - self.fit.spectrum.axis.log_w_ref))

    def _about_residuals(self) -> list[str]:
        """Return what the circuit leaves unexplained."""
        said: list[str] = []
        off = np.abs(self.fit.relative_residuals)
        rms = float(np.sqrt(np.mean(off**2) / 2))
        if rms > _POOR_FIT:
            said.append(f"the circuit fits badly: residuals of {rms:.0%} rms, trust no number")
        if self.fit.has_trend:
            said.append(
                f"the circuit leaves a trend of up to {self._trend:.2%}: uncertainties are enlarged"
            )
        times = self._times_noise
        frequency = np.exp(self.fit.spectrum.axis.log_jw.real) / (2 * np.pi)
        for at in np.flatnonzero((times > _OUTLIER) & (off > _OUTLIER * _LEAST_NOISE)):
            where = format_si(float(frequency[at]), "Hz", 3)
            said.append(
                f"the point at {where} is off by {off[at]:.1%}, {times[at]:.0f} times its noise"
            )
        return said

    @cached_property
    def _times_noise(self) -> FloatArray:
        """Residuals in units of what each point's noise is, by weights and scatter, (n_points,)."""
        spectrum = self.fit.spectrum
        weighted = np.abs(self.fit.z_ohm - spectrum.z_ohm) / spectrum.u_z_ohm
        return weighted / max(_sigma(weighted), 1e-12)

    @cached_property
    def _typical_residual(self) -> float:
        """The relative residuals' standard deviation, whatever a few points do."""
        return _sigma(np.abs(self.fit.relative_residuals))

    @cached_property
    def _trend(self) -> float:
        """The largest relative residual that neighbouring points have in common."""
        spectrum = self.fit.spectrum
        weighted = (self.fit.z_ohm - spectrum.z_ohm) / spectrum.u_z_ohm
        relative = self.fit.relative_residuals
        count = min(_NEIGHBOURS, relative.size)
        window = np.full(count, 1 / count)
        worst = int(np.argmax(np.abs(np.convolve(weighted, window, "valid"))))
        return float(np.abs(relative[worst : worst + count].mean()))


def _sigma(sizes: FloatArray) -> float:
    """Return the standard deviation of one part of complex numbers of these absolute values."""
    return float(np.median(sizes)) / 1.18  # the median of a Rayleigh distribution is 1.18 sigma


def _label(capacitance_f: float) -> ArcLabel:
    """Return what a capacitance in F stands for."""
    if BULK_CAPACITANCE_F[0] <= capacitance_f <= BULK_CAPACITANCE_F[1]:
        return "bulk"
    if BULK_CAPACITANCE_F[1] < capacitance_f <= ION_CAPACITANCE_F:
        return "grain boundary"
    return "electrode" if capacitance_f > ELECTRODE_CAPACITANCE_F else "unassigned"
