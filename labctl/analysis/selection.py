"""Which circuit a spectrum supports: by evidence, never by hand.

Every candidate is fitted. A more complex one must beat a simpler one clearly (by 6 in the Bayesian
information criterion: "strong", Kass and Raftery, J. Am. Stat. Assoc. 1995, 90, 773), all its
resistances and time constants must be determined by the data, and its capacitances must make sense
for what they stand for. Two exceptions follow from what is known beforehand. The electrodes block,
so a circuit that ends in one need not beat the same circuit without it clearly. And of two arcs
that overlap it is enough that the data determine the sum.
"""

from dataclasses import dataclass, replace

import numpy as np

from labctl.analysis.circuits import Circuit, brug_capacitance
from labctl.analysis.cnls import Fit, Spectrum, fit_circuit, polished
from labctl.analysis.starts import StartingPoints

CLEAR_WIN = 6.0
ELECTRODE_CAPACITANCE_F = 1e-7  # above it, an arc is an electrode's
ION_CAPACITANCE_F = 1e-8  # below it, an arc is the ions' in the pellet

_STARTS = 4
_UNDETERMINED = 0.7  # standard uncertainty in ln above which a parameter is not determined
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
    replace(_SPIKE, has_leakage=True),
    replace(_ARC_AND_SPIKE, has_leakage=True),
)


@dataclass(frozen=True)
class Verdict:
    """One candidate's fit and why it cannot be the answer, if it cannot."""

    fit: Fit
    objection: str = ""


def tried_circuits(spectrum: Spectrum, *, seed: int) -> list[Verdict]:
    """Return all candidates with their verdicts, the chosen one first."""
    starts = StartingPoints(spectrum.axis, spectrum.z_ohm, spectrum.u_z_ohm, seed=seed)
    verdicts: list[Verdict] = []
    for circuit in sorted(_CANDIDATES, key=lambda each: each.size):
        _try(circuit, spectrum, starts, verdicts)
    leaking = replace(_chosen(verdicts).fit.circuit, has_inductance=False, has_leakage=True)
    if leaking.has_electrode and leaking not in _CANDIDATES:
        _try(leaking, spectrum, starts, verdicts)
    chosen = _chosen(verdicts)
    others = [each for each in verdicts if each is not chosen]
    return [replace(chosen, fit=polished(chosen.fit)), *others]


def _try(
    circuit: Circuit, spectrum: Spectrum, starts: StartingPoints, verdicts: list[Verdict]
) -> None:
    """Add one candidate's verdict, unless the spectrum has too few points to carry it."""
    if 2 * spectrum.z_ohm.size <= circuit.size + 2:
        return
    to_beat = min((each.fit.bic for each in verdicts if not each.objection), default=np.inf)
    fit = _fitted(circuit, spectrum, starts, bic_to_beat=to_beat)
    verdicts.append(Verdict(fit, _objection(fit)))


def _fitted(
    circuit: Circuit, spectrum: Spectrum, starts: StartingPoints, *, bic_to_beat: float
) -> Fit:
    """Return one candidate's fit, with the leads' inductance if the data show it clearly."""
    longer = replace(circuit, has_inductance=True)
    first = longer if _is_inductive(spectrum) else circuit
    guesses = starts.of(first, count=_STARTS)
    fit = fit_circuit(first, spectrum, guesses, bic_to_beat=bic_to_beat)
    if fit.circuit is longer:
        with_leads, without = fit, fit_circuit(circuit, spectrum, [fit.theta[1:]])
    else:
        guess = np.append(_log_inductance(fit), fit.theta)
        with_leads, without = fit_circuit(longer, spectrum, [guess]), fit
    if first is circuit and with_leads.bic < without.bic - CLEAR_WIN:
        # It may be better because the search went on, not because of the leads.
        again = fit_circuit(circuit, spectrum, [with_leads.theta[1:]])
        without = min(without, again, key=lambda each: each.bic)
    are_seen = _undetermined(with_leads) != "inductance"
    return with_leads if are_seen and with_leads.bic < without.bic - CLEAR_WIN else without


def _is_inductive(spectrum: Spectrum) -> bool:
    """Return whether the imaginary part is positive at the highest frequency."""
    return bool(spectrum.z_ohm[int(np.argmax(spectrum.axis.log_jw.real))].imag > 0)


def _log_inductance(fit: Fit) -> float:
    """Return ln L of leads that would be just visible at the highest frequency."""
    top = int(np.argmax(fit.spectrum.axis.log_jw.real))
    visible = 1e-3 * np.abs(fit.spectrum.z_ohm[top])
    return float(np.log(visible) - fit.spectrum.axis.log_jw.real[top])


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
    is_proven = longer.size == shorter.size or longer == as_blocked
    return 0.0 if is_proven else CLEAR_WIN


def _objection(fit: Fit) -> str:
    """Return why a candidate cannot be the answer, "" if it can."""
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
    may_share = _is_sum_known(fit)
    for at, (name, _) in enumerate(fit.circuit.parameters):
        is_open = not fit.u_theta[at] < _UNDETERMINED
        is_excused = may_share and fit.circuit.is_of_arc(at)
        if not name.startswith("n_") and (fit.on_bound[at] or (is_open and not is_excused)):
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
