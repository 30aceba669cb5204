"""Which circuit a spectrum supports: by evidence, never by hand.

Every candidate is fitted. A more complex one must beat a simpler one clearly (by 6 in the Bayesian
information criterion: "strong", Kass and Raftery, J. Am. Stat. Assoc. 1995, 90, 773), all its
resistances and time constants must be determined by the data, and its capacitances must make sense
for what they stand for. Two exceptions follow from what is known beforehand. The electrodes block,
so a circuit that ends in one need not beat the same circuit without it clearly. And of two arcs
that overlap it is enough that the data determine the sum.
"""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from labctl.analysis.capacitances import ELECTRODE_CAPACITANCE_F, ION_CAPACITANCE_F
from labctl.analysis.circuits import Circuit, FloatArray, brug_capacitance
from labctl.analysis.cnls import Fit, Spectrum, fit_circuit, polished
from labctl.analysis.starts import StartingPoints

CLEAR_WIN = 6.0
_HEAD_START = 4.0  # of a blocking electrode, in the same units

_STARTS = 4
_UNDETERMINED = 0.7  # standard uncertainty in ln above which a parameter is not determined
_OF_TWO = 2.5  # the same for the parts of two arcs whose sum is determined
_KNOWN_SUM = 0.1  # relative standard uncertainty below which the sum of two arcs is determined
_LEAK_RATIO = 5.0  # a leakage below so many times the ions' resistance is an electrode reaction
_SLACK = 0.9  # for the noise of the largest impedance
_SPIKE = Circuit(has_series=True, has_electrode=True)
_ARC_AND_SPIKE = Circuit(arcs=1, has_electrode=True)
_CANDIDATES = (
    _SPIKE,
    Circuit(arcs=1),
    _ARC_AND_SPIKE,
    Circuit(has_series=True, arcs=1),
    Circuit(has_series=True, arcs=1, has_electrode=True),
    Circuit(arcs=2),
    Circuit(arcs=2, has_electrode=True),
)
_MAY_LEAK = (_SPIKE, _ARC_AND_SPIKE)  # of the others only the one that is chosen


@dataclass(frozen=True)
class Verdict:
    """One candidate's fit and why it cannot be the answer, if it cannot."""

    fit: Fit
    objection: str = ""


def tried_circuits(spectrum: Spectrum, *, seed: int) -> list[Verdict]:
    """Return all candidates with their verdicts, the chosen one first."""
    trial = _Trial(spectrum, seed=seed)
    for circuit in sorted(_CANDIDATES, key=lambda each: each.size):
        fit = trial.fitted(circuit)
        if fit is not None and circuit in _MAY_LEAK:
            trial.fitted_with_leakage(fit)
    chosen = _chosen(trial.verdicts).fit
    if chosen.circuit.has_electrode and _core(chosen.circuit) not in _MAY_LEAK:
        trial.fitted_with_leakage(chosen)
    best = _chosen(trial.verdicts)
    others = [each for each in trial.verdicts if each is not best]
    return [replace(best, fit=polished(best.fit)), *others]


def _core(circuit: Circuit) -> Circuit:
    """Return a circuit without what may be added to any: leads and a leakage."""
    return replace(circuit, has_inductance=False, has_leakage=False)


class _Trial:
    """The candidates tried so far on one spectrum.

    What adds one element to a circuit is tried only if the simpler fit promises that it helps.
    """

    def __init__(self, spectrum: Spectrum, *, seed: int) -> None:
        self.verdicts: list[Verdict] = []
        self._spectrum = spectrum
        self._starts = StartingPoints(spectrum.axis, spectrum.z_ohm, spectrum.u_z_ohm, seed=seed)

    def fitted(self, circuit: Circuit, *first: FloatArray) -> Fit | None:
        """Return one candidate's fit and keep its verdict; None if there are too few points.

        Args:
            circuit: without inductance; the fit has one if the data show it clearly.
            first: starting points that come before those of the grid.
        """
        if 2 * self._spectrum.z_ohm.size <= circuit.size + 2:
            return None
        own = replace(circuit, has_inductance=_is_inductive(self._spectrum) and not first)
        starts = chain(first, self._starts.of(own, count=_STARTS))
        to_beat = [each.fit.bic for each in self.verdicts if not each.objection]
        fit = fit_circuit(own, self._spectrum, starts, bic_to_beat=min(to_beat, default=np.inf))
        fit = _without_leads(fit) if own.has_inductance else _with_leads(fit)
        self.verdicts.append(Verdict(fit, _objection(fit)))
        return fit

    def fitted_with_leakage(self, fit: Fit) -> None:
        """Try a leakage beside the circuit of a fit, if that promises to fit better."""
        gain, conductance = fit.promise(-(fit.z_ohm**2))
        if gain > 0:
            theta = fit.theta[int(fit.circuit.has_inductance) :]
            leaking = replace(_core(fit.circuit), has_leakage=True)
            self.fitted(leaking, np.append(theta, -np.log(conductance)))


def _without_leads(fit: Fit) -> Fit:
    """Return a fit, its inductance left out unless the data show it clearly."""
    shorter = replace(fit.circuit, has_inductance=False)
    without = fit_circuit(shorter, fit.spectrum, [fit.theta[1:]])
    is_seen = _undetermined(fit) != "inductance" and fit.bic < without.bic - CLEAR_WIN
    return fit if is_seen else without


def _with_leads(fit: Fit) -> Fit:
    """Return a fit with the leads' inductance if the data show it clearly, else without."""
    gain, inductance_h = fit.promise(np.exp(fit.spectrum.axis.log_jw))
    if gain < 0:
        return fit
    longer = replace(fit.circuit, has_inductance=True)
    guess = np.append(np.log(inductance_h), fit.theta)
    with_leads = _without_leads(fit_circuit(longer, fit.spectrum, [guess]))
    return min(with_leads, fit, key=lambda each: each.bic)


def _is_inductive(spectrum: Spectrum) -> bool:
    """Return whether the imaginary part is positive at the highest frequency."""
    return bool(spectrum.z_ohm[int(np.argmax(spectrum.axis.log_jw.real))].imag > 0)


def _chosen(verdicts: list[Verdict]) -> Verdict:
    """Return the simplest possible candidate that no more complex one clearly beats."""
    unopposed = [each for each in verdicts if not each.objection]
    ladder = sorted(unopposed or verdicts, key=lambda each: each.fit.circuit.size)
    best = ladder[0]
    for each in ladder[1:]:
        if each.fit.bic < best.fit.bic - _burden(each.fit.circuit, best.fit.circuit):
            best = each
    return best


def _burden(longer: Circuit, shorter: Circuit) -> float:
    """Return by how much the BIC of one circuit must be below another's to be preferred."""
    as_blocked = replace(shorter, has_inductance=longer.has_inductance, has_electrode=True)
    if longer == as_blocked and longer.size > shorter.size:
        # Two arcs take what little is seen of an electrode into the second one's shape.
        return -_HEAD_START if longer.arcs == 2 else 0.0
    return 0.0 if longer.size == shorter.size else CLEAR_WIN


def _objection(fit: Fit) -> str:
    """Return why a candidate cannot be the answer, "" if it can."""
    if not fit.is_well_posed:
        return "two of its parameters do the same"
    undetermined = _undetermined(fit)
    if undetermined:
        return f"{undetermined} is not determined by the data"
    r_ion, c_last = _ion_ohm(fit), _slowest_capacitance_f(fit)
    if fit.circuit.has_leakage:
        if c_last < ION_CAPACITANCE_F:
            return "the capacitance beside the leakage is not an electrode's"
        if np.exp(fit.theta[-1]) < _SLACK * fit.spectrum.largest_ohm:
            return "the cell shows more resistance than the leakage lets it"
        if np.exp(fit.theta[-1]) < _LEAK_RATIO * r_ion:
            return "so small a leakage is an electrode reaction"
    elif fit.circuit.arcs and not fit.circuit.has_electrode and c_last > ELECTRODE_CAPACITANCE_F:
        r_last = np.exp(fit.theta[_slowest_arc(fit)])
        if r_last >= _LEAK_RATIO * (r_ion - r_last):
            return "the last arc is an electrode's beside a leakage"
    return ""


def _undetermined(fit: Fit) -> str:
    """Return the name of a parameter that the data leave open, "" if there is none."""
    of_arc = _OF_TWO if _is_sum_known(fit) else _UNDETERMINED
    for at, (name, _) in enumerate(fit.circuit.parameters):
        largest = of_arc if fit.circuit.is_of_arc(at) else _UNDETERMINED
        is_open = fit.on_bound[at] or not fit.u_theta[at] < largest
        if is_open and not name.startswith("n_"):
            return name
    return ""


def _is_sum_known(fit: Fit) -> bool:
    """Return whether these are two arcs whose resistances are determined at least together."""
    if fit.circuit.arcs < 2:
        return False
    slopes = np.zeros_like(fit.theta)
    slopes[fit.circuit.ion_resistances] = np.exp(fit.theta[fit.circuit.ion_resistances])
    return bool(np.sqrt(slopes @ fit.covariance @ slopes) < _KNOWN_SUM * slopes.sum())


def _ion_ohm(fit: Fit) -> float:
    """Return the sum of all resistances but the leakage, in ohm."""
    return float(np.exp(fit.theta[fit.circuit.ion_resistances]).sum())


def _slowest_arc(fit: Fit) -> int:
    """Return where the arc with the longest time constant begins among the coordinates."""
    return max(fit.circuit.arc_starts, key=lambda at: float(fit.theta[at + 1]))


def _slowest_capacitance_f(fit: Fit) -> float:
    """Return the capacitance of the slowest element in F: the leaking electrode's or an arc's."""
    values, _ = fit.circuit.natural(fit.theta, fit.spectrum.axis)
    if fit.circuit.has_leakage:
        q, n, r = values[-3:]
        return brug_capacitance(r, q, n)
    if not fit.circuit.arcs:
        return 0.0
    at = _slowest_arc(fit)
    return brug_capacitance(*values[at : at + 3])
