"""Electronic conductivity from DC polarisation: steady currents at several voltages, their line.

Between electrodes that block the ions, the current that stays after a voltage step is carried by
electrons and holes (Wagner 1957; Hebb 1952). Where it is too small or not steady there is no value,
but a bound: the electrons carry no more than what was seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from labctl.analysis.steady_current import STEADY_DRIFT_PER_HOUR, SteadyCurrent
from labctl.errors import AnalysisError
from labctl.quantities import format_si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.analysis.conductivity import Pellet

TIMES_NOISE = 5.0
_COVERAGE = 2.0  # standard uncertainties that a bound lies above what was seen
_FAR = 3.0  # standard uncertainties at which things differ


class Reference(BaseModel):
    """The current at 0 V: the instrument's offset, and what a cell not at rest adds.

    Attributes:
        potential_v: mean measured potential.
        offset_a, u_offset_a: mean of the references; its uncertainty holds half their difference.
        noise_a: standard deviation of one point.
    """

    model_config = ConfigDict(frozen=True)

    potential_v: float
    offset_a: float
    u_offset_a: float
    noise_a: float

    @property
    def floor_a(self) -> float:
        """Return the smallest current that counts as seen: 5 x (offset + noise)."""
        return TIMES_NOISE * (abs(self.offset_a) + self.noise_a)


class CurrentAtVoltage(BaseModel):
    """What one voltage says.

    Attributes:
        potential_v: mean measured potential.
        current_a, u_current_a: the steady current, offset included; None if there is only a bound.
        bound_a: where there is no value, what the steady current less the offset is at most, in
            magnitude; None if the data hold no bound either.
        reason: why there is no value, in words; "" if there is one.
    """

    model_config = ConfigDict(frozen=True)

    potential_v: float
    current_a: float | None
    u_current_a: float | None
    bound_a: float | None
    reason: str = ""


class ElectronicConductivity(BaseModel):
    """What a DC polarisation says of the electrons; u_ are standard uncertainties.

    Attributes:
        is_bound: whether there is no value, but bounds at best.
        conductance_s: slope of I(V); None if there is no value, as are those that follow from it.
        resistance_ohm: its inverse.
        sigma_s_per_cm: L / (R A); also None without the pellet's geometry.
        intercept_a: current at 0 V on the line: the offset.
        sigma_upper_bound_s_per_cm, resistance_lower_bound_ohm: given where there is no value.
        reduced_chi2: squared scatter about the line in units of the currents' uncertainties.
        voltages: what each voltage says.
        reason: why there is no value, in words; "" if there is one.
    """

    model_config = ConfigDict(frozen=True)

    is_bound: bool
    reference: Reference
    voltages: tuple[CurrentAtVoltage, ...]
    conductance_s: float | None = None
    u_conductance_s: float | None = None
    intercept_a: float | None = None
    u_intercept_a: float | None = None
    reduced_chi2: float | None = None
    resistance_ohm: float | None = None
    u_resistance_ohm: float | None = None
    sigma_s_per_cm: float | None = None
    u_sigma_s_per_cm: float | None = None
    resistance_lower_bound_ohm: float | None = None
    sigma_upper_bound_s_per_cm: float | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()


def reference_current(references: Sequence[SteadyCurrent]) -> Reference:
    """Return what the currents at 0 V, before and after, say of offset and noise.

    Raises:
        AnalysisError: no reference.
    """
    if not references:
        raise AnalysisError("no current at 0 V: the offset is not known")
    currents = np.array([each.current_a for each in references])
    u_mean_a = math.hypot(*(each.u_current_a for each in references)) / currents.size
    return Reference(
        potential_v=float(np.mean([each.potential_v for each in references])),
        offset_a=float(currents.mean()),
        u_offset_a=math.hypot(u_mean_a, float(np.ptp(currents)) / 2),
        noise_a=max(each.noise_a for each in references),
    )


def judge(
    steady: SteadyCurrent,
    reference: Reference,
    *,
    drift_per_hour: float = STEADY_DRIFT_PER_HOUR,
) -> CurrentAtVoltage:
    """Return the value of one voltage, or its bound and why there is no value.

    Args:
        steady: the current after the step.
        reference: that at 0 V.
        drift_per_hour: largest drift of a steady current, as a share of itself.
    """
    net_a = steady.current_a - reference.offset_a
    u_net_a = math.hypot(steady.u_current_a, reference.u_offset_a)
    floor_a = max(reference.floor_a, TIMES_NOISE * (abs(reference.offset_a) + steady.noise_a))
    shown, least = format_si(abs(net_a), "A", 3), format_si(floor_a, "A", 3)
    if abs(net_a) < floor_a:
        reason = f"{shown} is below {TIMES_NOISE:g} x (offset + noise) = {least}"
        seen_a = max(abs(net_a) + _COVERAGE * u_net_a, floor_a)
        return _bounded(steady, seen_a, reason)
    if net_a * steady.potential_v < 0:
        return _bounded(steady, None, f"{shown} flows against the voltage: no conductor does that")
    objection = steady.drift.objection(drift_per_hour)
    if not objection:
        return CurrentAtVoltage(
            potential_v=steady.potential_v,
            current_a=steady.current_a,
            u_current_a=steady.u_current_a,
            bound_a=None,
        )
    return _unsteady(steady, reference, objection)


def _unsteady(steady: SteadyCurrent, reference: Reference, objection: str) -> CurrentAtVoltage:
    """Return the bound of a current that still moves: a falling one ends below where it is."""
    drift = steady.drift
    rises = drift.per_hour > _COVERAGE * drift.u_per_hour
    if rises:
        return _bounded(steady, None, f"{objection}; it rises, so that it bounds nothing")
    seen_a = abs(drift.mean_a - reference.offset_a)
    u_seen_a = math.hypot(drift.u_mean_a, reference.u_offset_a)
    return _bounded(steady, seen_a + _COVERAGE * u_seen_a, objection)


def _bounded(steady: SteadyCurrent, bound_a: float | None, reason: str) -> CurrentAtVoltage:
    return CurrentAtVoltage(
        potential_v=steady.potential_v,
        current_a=None,
        u_current_a=None,
        bound_a=bound_a,
        reason=reason,
    )


def electronic_conductivity(
    held: Sequence[SteadyCurrent],
    references: Sequence[SteadyCurrent],
    pellet: Pellet | None,
    *,
    drift_per_hour: float = STEADY_DRIFT_PER_HOUR,
) -> ElectronicConductivity:
    """Return the electronic conductivity, or an upper bound and why there is no value.

    The slope is that of the line through the references at 0 V and all voltages that have a value.

    Args:
        held: the steady current of each voltage.
        references: those at 0 V, before and after.
        pellet: its geometry; without it there is a resistance only.
        drift_per_hour: largest drift of a steady current, as a share of itself.

    Raises:
        AnalysisError: no voltage, or no reference.
    """
    if not held:
        raise AnalysisError("no voltage was held: there is no slope")
    reference = reference_current(references)
    voltages = tuple(judge(each, reference, drift_per_hour=drift_per_hour) for each in held)
    warnings = tuple(dict.fromkeys(said for each in (*held, *references) for said in each.warnings))
    if pellet is None:
        warnings += ("no geometry: no conductivity",)
    if any(each.current_a is not None for each in voltages):
        return _value(reference, voltages, pellet, warnings)
    return _bound(reference, voltages, pellet, warnings)


def _value(
    reference: Reference,
    voltages: tuple[CurrentAtVoltage, ...],
    pellet: Pellet | None,
    warnings: tuple[str, ...],
) -> ElectronicConductivity:
    """Return the slope of I(V) and what follows from it."""
    points = [(reference.potential_v, reference.offset_a, reference.u_offset_a)]
    points += [
        (each.potential_v, each.current_a, each.u_current_a)
        for each in voltages
        if each.current_a is not None and each.u_current_a is not None
    ]
    slope, u_slope, intercept, u_intercept, chi2 = _line(np.array(points))
    if slope <= _FAR * u_slope:
        reason = f"the slope of I(V), {slope:.2g} +/- {u_slope:.1g} S, may be 0"
        bound_s = max(slope, 0.0) + _COVERAGE * u_slope
        return _bounded_by(bound_s, reason, reference, voltages, pellet, warnings)
    resistance_ohm, u_resistance_ohm = 1 / slope, u_slope / slope**2
    sigma, u_sigma = (
        (None, None) if pellet is None else pellet.sigma_s_per_cm(resistance_ohm, u_resistance_ohm)
    )
    if chi2 is not None and chi2 > _FAR**2:
        times = f"{math.sqrt(chi2):.2g} times more than their uncertainties"
        warnings += (f"I(V) is no straight line: the currents scatter {times}",)
    left_out = [f"{each.potential_v:.3g} V ({each.reason})" for each in voltages if each.reason]
    warnings += (f"left out: {', '.join(left_out)}",) if left_out else ()
    return ElectronicConductivity(
        is_bound=False,
        reference=reference,
        voltages=voltages,
        conductance_s=slope,
        u_conductance_s=u_slope,
        intercept_a=intercept,
        u_intercept_a=u_intercept,
        reduced_chi2=chi2,
        resistance_ohm=resistance_ohm,
        u_resistance_ohm=u_resistance_ohm,
        sigma_s_per_cm=sigma,
        u_sigma_s_per_cm=u_sigma,
        warnings=warnings,
    )


def _bound(
    reference: Reference,
    voltages: tuple[CurrentAtVoltage, ...],
    pellet: Pellet | None,
    warnings: tuple[str, ...],
) -> ElectronicConductivity:
    """Return the tightest bound that a voltage gives."""
    bounds = [
        (each.bound_a / abs(each.potential_v - reference.potential_v), each)
        for each in voltages
        if each.bound_a is not None and each.potential_v != reference.potential_v
    ]
    if not bounds:
        reasons = "; ".join(dict.fromkeys(each.reason for each in voltages))
        return ElectronicConductivity(
            is_bound=True, reference=reference, voltages=voltages, reason=reasons, warnings=warnings
        )
    conductance_s, tightest = min(bounds, key=lambda bound: bound[0])
    reason = f"from {tightest.potential_v:.3g} V: {tightest.reason}"
    return _bounded_by(conductance_s, reason, reference, voltages, pellet, warnings)


def _bounded_by(
    conductance_s: float,
    reason: str,
    reference: Reference,
    voltages: tuple[CurrentAtVoltage, ...],
    pellet: Pellet | None,
    warnings: tuple[str, ...],
) -> ElectronicConductivity:
    sigma = None if pellet is None else sum(_with_doubt(pellet, 1 / conductance_s))
    return ElectronicConductivity(
        is_bound=True,
        reference=reference,
        voltages=voltages,
        resistance_lower_bound_ohm=1 / conductance_s,
        sigma_upper_bound_s_per_cm=sigma,
        reason=f"upper bound, {reason}",
        warnings=warnings,
    )


def _with_doubt(pellet: Pellet, resistance_ohm: float) -> tuple[float, float]:
    """Return a conductivity and what its geometry may add to it."""
    sigma, u_sigma = pellet.sigma_s_per_cm(resistance_ohm, 0.0)
    return sigma, _COVERAGE * u_sigma


def _line(points: np.ndarray) -> tuple[float, float, float, float, float | None]:
    """Return slope, u, intercept, u, reduced chi2 of a weighted line, shape (n_points, 3).

    The uncertainties are never smaller than the currents' say, and larger where those scatter more.
    """
    x, y, u = points.T
    # An uncertainty of 0 (currents without noise) would be an infinite weight.
    u = np.maximum(u, 1e-9 * np.abs(y).max())
    scale = float(np.abs(x).max())
    weighted = np.column_stack((np.ones_like(x), x / scale)) / u[:, None]
    values = np.linalg.lstsq(weighted, y / u, rcond=None)[0]
    covariance = np.linalg.inv(weighted.T @ weighted)
    freedom = x.size - 2
    chi2 = float(((y / u - weighted @ values) ** 2).sum()) / freedom if freedom > 0 else None
    u_values = np.sqrt(np.diag(covariance) * max(1.0, chi2 or 1.0))
    intercept, slope = values
    return (
        float(slope / scale),
        float(u_values[1] / scale),
        float(intercept),
        float(u_values[0]),
        chi2,
    )
