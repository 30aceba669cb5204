"""Equivalent circuits of a solid electrolyte between blocking electrodes, with their derivatives.

A circuit is L - R - (R||CPE) x arcs - CPE, optionally with a leakage resistance beside the ions'
path. A fit works in coordinates in which such circuits are well conditioned: ln L, ln R, an arc as
(ln R, ln tau, n), the electrode as (ln |Z| at a reference frequency, n). `natural` brings them back
to the R, Q and n that people report.

A constant phase element is Z = 1 / (Q (j omega)^n) with Q in S s^n.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class Axis:
    """The frequencies of one spectrum, prepared once for many evaluations.

    Attributes:
        log_jw: ln(j omega), shape (n_points,).
        log_w_ref: ln(omega) at which the electrode's impedance is a coordinate of the fit: the
            lowest frequency, where the electrode weighs most.
    """

    log_jw: ComplexArray
    log_w_ref: float

    @classmethod
    def of(cls, frequency_hz: FloatArray) -> "Axis":
        """Return the axis of these frequencies, shape (n_points,)."""
        log_w = np.log(2 * np.pi * frequency_hz)
        return cls(log_w + 0.5j * np.pi, float(log_w.min()))


@dataclass(frozen=True)
class Circuit:
    """Which elements a circuit has; the order of its coordinates follows the fields."""

    has_inductance: bool = False
    has_series: bool = False
    arcs: int = 0
    has_electrode: bool = False
    has_leakage: bool = False

    @classmethod
    def of_parameters(cls, names: Iterable[str]) -> "Circuit":
        """Return the circuit that has natural parameters of these names."""
        known = set(names)
        return cls(
            has_inductance="inductance" in known,
            has_series="r_series" in known,
            arcs=sum(f"r_{arc}" in known for arc in (1, 2)),
            has_electrode="q_electrode" in known,
            has_leakage="r_leakage" in known,
        )

    @property
    def name(self) -> str:
        """The circuit as people write it: "L-R||CPE-CPE"."""
        elements = ["L"] * self.has_inductance + ["R"] * self.has_series
        elements += ["R||CPE"] * self.arcs + ["CPE"] * self.has_electrode
        chain = "-".join(elements)
        return f"({chain})||R_leak" if self.has_leakage else chain

    @property
    def size(self) -> int:
        """The number of coordinates."""
        ends = 2 * self.has_electrode + self.has_leakage
        return self.has_inductance + self.has_series + 3 * self.arcs + ends

    @property
    def arc_starts(self) -> range:
        """Where each arc's ln R stands among the coordinates."""
        first = self.has_inductance + self.has_series
        return range(first, first + 3 * self.arcs, 3)

    def is_of_arc(self, at: int) -> bool:
        """Return whether this coordinate belongs to an arc."""
        first = self.has_inductance + self.has_series
        return first <= at < first + 3 * self.arcs

    @property
    def ion_resistances(self) -> list[int]:
        """Where the ln R that may add up to the ions' resistance stand among the coordinates."""
        return [int(self.has_inductance)] * self.has_series + list(self.arc_starts)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Name and unit of every natural parameter, in the order of the coordinates."""
        named = [("inductance", "H")] * self.has_inductance + [
            ("r_series", "ohm")
        ] * self.has_series
        for arc in range(1, self.arcs + 1):
            named += [(f"r_{arc}", "ohm"), (f"q_{arc}", "S s^n"), (f"n_{arc}", "1")]
        named += [("q_electrode", "S s^n"), ("n_electrode", "1")] * self.has_electrode
        return named + [("r_leakage", "ohm")] * self.has_leakage

    def impedance(self, theta: FloatArray, axis: Axis) -> ComplexArray:
        """Return the impedance in ohm, shape (n_points,)."""
        return self.linearised(theta, axis)[0]

    def linearised(self, theta: FloatArray, axis: Axis) -> tuple[ComplexArray, ComplexArray]:
        """Return the impedance in ohm and its derivatives, shapes (n_points,), (n_points, size)."""
        slopes = np.empty((axis.log_jw.size, self.size), dtype=np.complex128)
        z = np.zeros(axis.log_jw.size, dtype=np.complex128)
        if self.has_series:
            at = int(self.has_inductance)
            slopes[:, at] = np.exp(theta[at])
            z += slopes[:, at]
        for at in self.arc_starts:
            z += _arc(theta[at : at + 3], axis, slopes[:, at : at + 3])
        if self.has_electrode:
            at = self.size - self.has_leakage - 2
            z += _electrode(theta[at : at + 2], axis, slopes[:, at : at + 2])
        if self.has_leakage:
            z = _leaking(z, theta[-1], slopes)
        if self.has_inductance:
            # The leads are outside the cell, so the leakage does not bridge them.
            slopes[:, 0] = np.exp(theta[0] + axis.log_jw)
            z = z + slopes[:, 0]
        return z, slopes

    def natural(self, theta: FloatArray, axis: Axis) -> tuple[FloatArray, FloatArray]:
        """Return the natural parameters and their derivatives by the coordinates."""
        values = np.exp(theta)
        slopes = np.diag(values)
        for at in self.arc_starts:
            r, log_tau, n = values[at], theta[at + 1], theta[at + 2]
            q = np.exp(n * log_tau) / r
            values[at + 1], values[at + 2] = q, n
            slopes[at + 1, at : at + 3] = -q, n * q, log_tau * q
            slopes[at + 2, at + 2] = 1.0
        if self.has_electrode:
            at = self.size - self.has_leakage - 2
            n = theta[at + 1]
            q = np.exp(-theta[at] - n * axis.log_w_ref)
            values[at], values[at + 1] = q, n
            slopes[at, at : at + 2] = -q, -axis.log_w_ref * q
            slopes[at + 1, at + 1] = 1.0
        return values, slopes

    def impedance_of(self, natural: FloatArray, frequency_hz: FloatArray) -> ComplexArray:
        """Return the impedance in ohm for natural parameters, shape (n_frequencies,)."""
        axis = Axis.of(np.asarray(frequency_hz, dtype=np.float64))
        return self.impedance(self.coordinates(natural, axis), axis)

    def coordinates(self, natural: FloatArray, axis: Axis) -> FloatArray:
        """Return the coordinates of these natural parameters: the inverse of `natural`."""
        theta = np.log(natural)
        for at in self.arc_starts:
            theta[at + 1] = (theta[at] + theta[at + 1]) / natural[at + 2]
            theta[at + 2] = natural[at + 2]
        if self.has_electrode:
            at = self.size - self.has_leakage - 2
            n = natural[at + 1]
            theta[at], theta[at + 1] = -theta[at] - n * axis.log_w_ref, n
        return theta


def brug_capacitance(r_ohm: float, q: float, n: float) -> float:
    """Return the effective capacitance in F of an arc R||CPE: (R^(1-n) Q)^(1/n).

    Source: Brug et al., J. Electroanal. Chem. 1984, 176, 275, in the form for an arc on its own.
    """
    return float((r_ohm ** (1 - n) * q) ** (1 / n))


def _arc(theta: FloatArray, axis: Axis, slopes: ComplexArray) -> ComplexArray:
    """Return R / (1 + (j omega tau)^n); fills in its derivatives by ln R, ln tau and n."""
    log_x = axis.log_jw + theta[1]
    x = np.exp(theta[2] * log_x)
    z = np.exp(theta[0]) / (1 + x)
    slopes[:, 0] = z
    slopes[:, 1] = -z * (x / (1 + x)) * theta[2]
    slopes[:, 2] = -z * (x / (1 + x)) * log_x
    return z


def _electrode(theta: FloatArray, axis: Axis, slopes: ComplexArray) -> ComplexArray:
    """Return |Z_ref| (j omega / omega_ref)^-n; fills in its derivatives by ln |Z_ref| and n."""
    log_x = axis.log_jw - axis.log_w_ref
    z = np.exp(theta[0] - theta[1] * log_x)
    slopes[:, 0] = z
    slopes[:, 1] = -z * log_x
    return z


def _leaking(z_ion: ComplexArray, log_r: float, slopes: ComplexArray) -> ComplexArray:
    """Return the ions' path bridged by a resistance; rescales the derivatives found so far."""
    r = np.exp(log_r)
    z = z_ion * r / (z_ion + r)
    slopes *= ((z / z_ion) ** 2)[:, None]
    slopes[:, -1] = z**2 / r
    return z
