"""What the fit of an impedance spectrum says: circuit, parameters, and how far to trust them."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from labctl.analysis.circuits import Circuit, ComplexArray, FloatArray

ArcLabel = Literal["bulk", "grain boundary", "total", "electrode", "unassigned"]


class Parameter(BaseModel):
    """One parameter of a circuit with its standard uncertainty, both in `unit`."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    value: float
    u_value: float


class Arc(BaseModel):
    """One R||CPE of a circuit and what its capacitance says it is.

    Attributes:
        q: of the constant phase element, in S s^n.
        capacitance_f: Brug's effective capacitance of the arc.
        peak_hz: the frequency at which -Im Z of the arc is largest.
        label: from the capacitance; "total" if it may be bulk and grain boundaries in one,
            "unassigned" if its capacitance fits nothing or its peak is above the highest frequency.
    """

    model_config = ConfigDict(frozen=True)

    r_ohm: float
    u_r_ohm: float
    q: float
    u_q: float
    n: float
    u_n: float
    capacitance_f: float
    peak_hz: float
    label: ArcLabel


class Candidate(BaseModel):
    """One circuit that was tried.

    Attributes:
        bic: Bayesian information criterion; lower is better, 6 is a clear difference.
        objection: why it cannot be the answer whatever its BIC; "" if it could.
    """

    model_config = ConfigDict(frozen=True)

    circuit: str
    n_parameters: int
    bic: float
    objection: str


class ImpedanceFit(BaseModel):
    """The circuit a spectrum supports.

    Attributes:
        circuit: its elements; `circuit.name` is what people write.
        r_total_ohm: the ions' resistance: all resistances in series but those of electrode arcs.
        u_r_total_ohm: from the full covariance; far smaller than the parts' uncertainties suggest
            where they share one arc. Includes how far a nearly as good circuit would move it, and
            what an open arc does not show.
        r_bulk_ohm: of the arc with a bulk-like capacitance, where it stands on its own and is
            known to better than 20 %; otherwise None and a warning says why.
        is_arc_closed: whether the spectrum reaches low enough for the ions' resistance to show;
            if not, the resistance is an extrapolation that may miss an arc: leave it out of a line.
        arcs: from high to low frequency.
        parameters: in the order of `covariance`.
        noise: standard deviation of the relative residuals of the real and imaginary part.
        frequency_hz: all frequencies given, shape (n_points,), as are the next three.
        is_used: which of the points were fitted.
        residual_real: (Re Z_fit - Re Z) / |Z|, unused points included; None where there is no Z.
        residual_imag: (Im Z_fit - Im Z) / |Z|, likewise.
        candidates: all circuits tried, the chosen one first.
    """

    model_config = ConfigDict(frozen=True)

    circuit: Circuit
    r_total_ohm: float
    u_r_total_ohm: float
    r_bulk_ohm: float | None
    u_r_bulk_ohm: float | None
    is_arc_closed: bool
    arcs: tuple[Arc, ...]
    parameters: tuple[Parameter, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: float
    frequency_hz: tuple[float, ...]
    is_used: tuple[bool, ...]
    residual_real: tuple[float | None, ...]
    residual_imag: tuple[float | None, ...]
    candidates: tuple[Candidate, ...]
    warnings: tuple[str, ...] = ()

    @property
    def r_visible_ohm(self) -> float:
        """How far along the real axis the arcs reach: the electrodes' are counted, too."""
        return self.r_total_ohm + sum(a.r_ohm for a in self.arcs if a.label == "electrode")

    def impedance_ohm(self, frequency_hz: FloatArray) -> ComplexArray:
        """Return the circuit's impedance in ohm at any frequencies, shape (n_frequencies,)."""
        values = np.array([each.value for each in self.parameters])
        return self.circuit.impedance_of(values, frequency_hz)
