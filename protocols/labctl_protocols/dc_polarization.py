"""Electronic conductivity of a pellet between blocking electrodes, by DC polarisation.

Each voltage is held until the current is steady; what stays is carried by electrons and holes, and
the slope of I(V) is their conductance (Wagner, Proc. Int. Comm. Electrochem. Thermodyn. Kinet.
1957, 7, 361; Hebb, J. Chem. Phys. 1952, 20, 185). Before and after, the current at 0 V gives the
instrument's offset; between voltages the electrodes discharge at 0 V. Where the current is too
small, or not steady in time, the result is an upper bound and says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from labctl.analysis.polarization import ElectronicConductivity, electronic_conductivity
from labctl.analysis.steady_current import (
    STEADY_DRIFT_PER_HOUR,
    PotentialStep,
    SteadyCurrent,
    drift_of,
    fit_steady_current,
)
from labctl.errors import AnalysisError
from labctl.instruments.capabilities import CanCa, CanOcp
from labctl.instruments.dc_techniques import Ca
from labctl.instruments.techniques import Ocp, PointStatus
from labctl.quantities import DurationS, ShareOfOne, VoltageV, format_si
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.geometry import pellet_of
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labctl.config import SampleConfig
    from labctl.run.run import Measurement, Run, Until

_AT_REST_V = 0.05  # of a symmetric cell; more is a cell that still discharges
_STEADY_K = 0.5  # at 0.5 eV a conductivity moves by 3 % within
_FEWEST_POINTS = 36  # of a hold, so that its last third has a drift
_LINE = ("conductance_s", "u_conductance_s", "intercept_a", "u_intercept_a", "reduced_chi2")
_ZERO_START, _ZERO_END = "zero-start/hold", "zero-end/hold"


class DcPolarizationParameters(OneTemperatureParameters):
    """Parameters of `dc_polarization`, beside those of its temperature.

    Attributes:
        voltages: what is held, in this order; any sign, not 0.
        steady_drift: a current that drifts by no more than this share of itself per hour is steady.
        hold_min: how long each voltage is held at least.
        hold_max: how long at most.
        zero_hold: how long 0 V is held before the first and after the last voltage.
        discharge: how long 0 V is held between two voltages.
        interval: between two points.
        rest: how long the open-circuit potential is watched at the start.
    """

    voltages: Annotated[tuple[VoltageV, ...], Field(min_length=1)] = (0.2, 0.4, 0.6, 0.8, 1.0)
    steady_drift: ShareOfOne = Field(default=STEADY_DRIFT_PER_HOUR, gt=0)
    hold_min: DurationS = Field(default=600.0, gt=0)
    hold_max: DurationS = Field(default=7200.0, gt=0)
    zero_hold: DurationS = Field(default=1800.0, gt=0)
    discharge: DurationS = Field(default=1800.0, gt=0)
    interval: DurationS = Field(default=5.0, gt=0)
    rest: DurationS = Field(default=300.0, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> DcPolarizationParameters:
        if 0.0 in self.voltages:
            raise ValueError("voltages: expected none of 0 V: that is held before and after anyway")
        if self.hold_min > self.hold_max:
            raise ValueError("hold_min: expected no more than hold_max")
        for name in ("hold_min", "zero_hold"):
            if getattr(self, name) < _FEWEST_POINTS * self.interval:
                raise ValueError(f"{name}: expected at least {_FEWEST_POINTS} times interval")
        if self.rest < self.interval:
            raise ValueError("rest: expected at least one interval")
        return self

    def holds(self) -> list[tuple[str, Ca]]:
        """Return every potential to hold, in order, under its step's key."""
        steps = [(_ZERO_START, self._hold(0.0, self.zero_hold))]
        for number, voltage_v in enumerate(self.voltages, start=1):
            place = f"{number:02d}-{voltage_v:g}V"
            if number > 1:
                steps.append((f"{place}/discharge", self._hold(0.0, self.discharge)))
            steps.append((f"{place}/hold", self._hold(voltage_v, self.hold_max)))
        return [*steps, (_ZERO_END, self._hold(0.0, self.zero_hold))]

    def open_circuit(self) -> Ocp:
        """Return how the cell is looked at before anything is applied."""
        return Ocp(duration_s=self.rest, interval_s=self.interval)

    def _hold(self, potential_v: float, duration_s: float) -> Ca:
        return Ca(potential_v=potential_v, duration_s=duration_s, interval_s=self.interval)


def plan(parameters: DcPolarizationParameters, _: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `dc_polarization` will take, each hold for its longest time."""
    techniques = [("rest", parameters.open_circuit()), *parameters.holds()]
    steps = [step(key, technique) for key, technique in techniques]
    return [*planned_settle(parameters), *steps]


async def dc_polarization(run: Run, parameters: DcPolarizationParameters) -> None:
    """Hold each voltage until its current is steady, then record the line through all of them."""
    warnings = await settle(run, parameters)
    rest = await run.ocp(key="rest", parameters=parameters.open_circuit())
    warnings += _about_rest(rest)
    held: list[SteadyCurrent] = []
    references: list[SteadyCurrent] = []
    temperatures_k: list[float] = []
    history = _History(float(rest.column("potential_v")[-1]))
    until = _until_steady(parameters)
    for key, hold in parameters.holds():
        is_voltage = hold.potential_v != 0.0
        measurement = await run.ca(key=key, parameters=hold, until=until if is_voltage else None)
        steps = history.add(hold.potential_v, measurement)
        if key.endswith("/discharge"):
            continue
        try:
            steady = _steady(measurement, steps)
        except AnalysisError as error:
            warnings.append(f"{key}: {error}")
            await run.record("hold", {"key": key, "warnings": [str(error)]})
            continue
        (held if is_voltage else references).append(steady)
        temperatures_k.append(measurement.temperature_k)
        await run.record("hold", _hold_data(key, hold, measurement, steady))
    about = {"temperature_k": float(np.mean(temperatures_k)) if temperatures_k else None}
    warnings += _about_temperatures(temperatures_k)
    await _record_result(run, parameters, held, references, about, warnings)


def _until_steady(parameters: DcPolarizationParameters) -> Until:
    """Return what ends a hold: a steady current, after the shortest time."""

    def until(columns: Mapping[str, Sequence[float]]) -> str:
        elapsed_s = columns["elapsed_s"][-1]
        if elapsed_s < parameters.hold_min or len(columns["elapsed_s"]) < _FEWEST_POINTS:
            return ""
        begins = len(columns["elapsed_s"]) // 2  # no more than the last third is looked at
        drift = drift_of(
            columns["elapsed_s"][begins:],
            columns["current_a"][begins:],
            _noise(np.array(columns["current_range_a"][begins:])),
        )
        if drift.objection(parameters.steady_drift):
            return ""
        return f"steady: drifts by {100 * drift.per_hour:+.2g} %/h"

    return until


def _noise(current_range_a: np.ndarray) -> np.ndarray:
    """Return each point's noise up to a common factor: it goes with the current range."""
    known = np.isfinite(current_range_a) & (current_range_a > 0)
    largest_a = current_range_a[known].max() if known.any() else 1.0
    return np.where(known, current_range_a, largest_a)


class _History:
    """What was held so far: every step of the potential, and how long ago it was.

    The moments between two holds, cell off, count as nothing.
    """

    def __init__(self, at_v: float) -> None:
        self._at_v = at_v
        self._now_s = 0.0
        self._steps: list[tuple[float, float]] = []

    def add(self, potential_v: float, measurement: Measurement) -> list[PotentialStep]:
        """Take note of a hold and return the steps up to its beginning, its own among them."""
        begin_s = self._now_s
        self._steps.append((begin_s, potential_v - self._at_v))
        self._at_v = potential_v
        self._now_s += float(measurement.column("elapsed_s")[-1])
        return [PotentialStep(step_v, begin_s - at_s) for at_s, step_v in self._steps]


def _steady(measurement: Measurement, steps: list[PotentialStep]) -> SteadyCurrent:
    """Return the current that stays, points that overloaded the instrument left out."""
    usable = (measurement.column("status_bits").astype(int) & PointStatus.OVERLOAD) == 0
    elapsed_s, potential_v, current_a, range_a = (
        measurement.column(name)[usable]
        for name in ("elapsed_s", "potential_v", "current_a", "current_range_a")
    )
    return fit_steady_current(
        elapsed_s, potential_v, current_a, u_current_a=_noise(range_a), steps=steps
    )


def _hold_data(
    key: str, hold: Ca, measurement: Measurement, steady: SteadyCurrent
) -> dict[str, Any]:
    """Return what a reader of the data wants to know about one hold."""
    data = steady.model_dump(mode="json")
    drift = {"drift_per_hour": steady.drift.per_hour, "u_drift_per_hour": steady.drift.u_per_hour}
    return {
        "key": key,
        "step": measurement.step,
        "asked_v": hold.potential_v,
        "temperature_k": measurement.temperature_k,
        "ended_by": measurement.ended_by or "the longest time",
        **data,
        **{name: value if math.isfinite(value) else None for name, value in drift.items()},
        "warnings": list(steady.warnings),
    }


def _about_rest(rest: Measurement) -> list[str]:
    """Return a warning if the cell was not at rest before the first step."""
    potential_v = float(rest.column("potential_v")[-1])
    if abs(potential_v) <= _AT_REST_V:
        return []
    return [f"the cell was not at rest: {format_si(potential_v, 'V', 3)} at open circuit"]


def _about_temperatures(temperatures_k: list[float]) -> list[str]:
    """Return a warning if the pellet did not stay at one temperature."""
    spread_k = float(np.ptp(temperatures_k)) if temperatures_k else 0.0
    if spread_k <= _STEADY_K:
        return []
    return [f"the temperature moved by {spread_k:.1f} K from hold to hold"]


async def _record_result(
    run: Run,
    parameters: DcPolarizationParameters,
    held: list[SteadyCurrent],
    references: list[SteadyCurrent],
    about: dict[str, Any],
    warnings: list[str],
) -> None:
    """Record conductivity and resistance, or their bounds, or why there is neither."""
    try:
        found: ElectronicConductivity = electronic_conductivity(
            held, references, pellet_of(run.sample), drift_per_hour=parameters.steady_drift
        )
    except AnalysisError as error:
        nothing = {"is_bound": True, "reason": str(error), "warnings": warnings}
        await run.record("electronic_conductivity", {**about, **nothing})
        return
    data = {**about, **_result_data(found), "warnings": [*warnings, *found.warnings]}
    await run.record("electronic_conductivity", data)


def _result_data(found: ElectronicConductivity) -> dict[str, Any]:
    """Return the result first, and the line that it comes from as a part of its own."""
    data = found.model_dump(mode="json")
    line = {name: data.pop(name) for name in _LINE}
    return {**data, "line": line}


PROTOCOL = Protocol(
    name="dc_polarization",
    script=dc_polarization,
    parameters=DcPolarizationParameters,
    plan=plan,
    capabilities=(CanOcp, CanCa),
    summary="steady currents at several voltages: electronic conductivity of a pellet, or a bound",
)
