"""Impedance spectra against temperature: conductivity and activation energy of a pellet.

The pellet sits between blocking electrodes. At each temperature the protocol waits until stage and
sample have settled, measures a spectrum, measures its first frequency once more to see drift, and
fits the ions' resistance. At the end an Arrhenius line gives the activation energy.

How long to wait is decided by the sample: R moves by 4.6 %/K at 0.38 eV, and a sample that lags its
stage bends the Arrhenius line (Ohno et al., ACS Energy Lett. 2020, 5, 910, on the scatter between
laboratories).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from labctl.analysis.impedance import (
    DriftCheck,
    ImpedanceFit,
    drift_between,
    fit_impedance,
    minimum_reactance,
)
from labctl.errors import AnalysisError
from labctl.instruments.capabilities import CanEis
from labctl.instruments.techniques import Eis, PointStatus
from labctl.quantities import FrequencyHz
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl.run.settling import ProbeSettings
from labctl_protocols.conductivity_series import FEWEST_TEMPERATURES, ConductivitySeries, Point
from labctl_protocols.geometry import conductivity_of
from labctl_protocols.spectra import SpectrumParameters
from labctl_protocols.temperatures import ProbedTemperatureParameters, settle, settle_step

if TYPE_CHECKING:
    from labctl.analysis.conductivity import Conductivity
    from labctl.config import SampleConfig
    from labctl.run.run import Measurement, Run
    from labctl.run.settle import SettleResult

_WELL_FILLED = 0.1  # share of its range from which on a current is measured as well as can be
_UNCHECKED = ("drift not checked: the first frequency was measured in too large a current range",)


class TemperatureEisParameters(SpectrumParameters, ProbedTemperatureParameters):
    """Parameters of `temperature_eis`, besides those of temperatures and settling.

    Attributes:
        frequency_end: last and lowest frequency; low enough to see the spike of the electrodes.
    """

    frequency_end: FrequencyHz = Field(default=1.0, ge=1e-6)


def plan(parameters: TemperatureEisParameters, _: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `temperature_eis` will take."""
    sweep = parameters.sweep(0.0)
    return [
        planned
        for setpoint in parameters.setpoints()
        for planned in (settle_step(parameters, setpoint), step(setpoint.key("eis"), sweep))
    ]


async def temperature_eis(run: Run, parameters: TemperatureEisParameters) -> None:
    """Measure a spectrum at each temperature, fit each one and the Arrhenius line through all."""
    sweep = parameters.sweep(0.0)
    probe = ProbeSettings(sweep=sweep, locate=minimum_reactance)
    series = ConductivitySeries(run.u_temperature_k)
    for setpoint in parameters.setpoints():
        settled = await settle(
            run,
            parameters,
            setpoint,
            probe=probe,
            activation_energy_ev=series.activation_energy_ev(),
        )
        eis_key = setpoint.key("eis")
        if not settled.is_settled and parameters.on_settle_timeout == "skip":
            run.forgo(eis_key)
            continue
        measurement = await run.eis(key=eis_key, parameters=_begun_well(sweep, settled))
        await _record_fit(run, eis_key, setpoint.branch, settled, measurement, series)
    await _record_line(run, series)


def _begun_well(sweep: Eis, settled: SettleResult) -> Eis:
    """Return the sweep with what is known of its first impedance."""
    known = settled.first_impedance_ohm
    return replace(sweep, first_impedance_ohm=known) if math.isfinite(known) else sweep


async def _record_fit(
    run: Run,
    key: str,
    branch: str,
    settled: SettleResult,
    measurement: Measurement,
    series: ConductivitySeries,
) -> None:
    """Fit one spectrum and record what it says; data that hold no resistance are no failure."""
    about: dict[str, Any] = {
        "key": key,
        "step": measurement.step,
        "branch": branch,
        "temperature_k": measurement.temperature_k,
        "is_settled": settled.is_settled,
        "settle_reason": settled.reason,
        "settle_ended_by": settled.ended_by,
    }
    try:
        fit = _fit(measurement)
    except AnalysisError as error:
        await run.record("fit", {**about, "warnings": [str(error)]})
        return
    sigma = conductivity_of(run.sample, fit.r_total_ohm, fit.u_r_total_ohm)
    if sigma is not None:
        point = Point(measurement.temperature_k, branch, sigma, fit.is_arc_closed, settled)
        series.add(point)
    await run.record("fit", {**about, **_fit_data(fit, sigma, measurement)})


def _fit(measurement: Measurement) -> ImpedanceFit:
    """Return the fit of a spectrum, points that overloaded the instrument left out."""
    status = measurement.column("status_bits").astype(int)
    return fit_impedance(
        measurement.column("frequency_hz"),
        measurement.impedance_ohm(),
        u_z_ohm=_relative_noise(measurement) * np.abs(measurement.impedance_ohm()),
        is_usable=(status & PointStatus.OVERLOAD) == 0,
    )


def _relative_noise(measurement: Measurement) -> np.ndarray:
    """Return each point's relative noise up to a common factor, shape (n_points,).

    While an instrument still looks for its range the current fills only a small part of it, and
    what it reads then is the noise of that range.
    """
    current_a = measurement.column("amplitude_v_rms") / np.abs(measurement.impedance_ohm())
    share = current_a / measurement.column("current_range_a")
    known = np.where(np.isfinite(share), share, 1.0)
    return np.maximum(1.0, _WELL_FILLED / np.maximum(known, 1e-9))


def _fit_data(
    fit: ImpedanceFit, sigma: Conductivity | None, measurement: Measurement
) -> dict[str, Any]:
    """Return what a reader of the data wants to know about one fit."""
    drift = _drift(measurement, fit.noise)
    without_geometry = () if sigma is not None else ("no geometry: no conductivity",)
    return {
        "circuit": fit.circuit.name,
        "r_total_ohm": fit.r_total_ohm,
        "u_r_total_ohm": fit.u_r_total_ohm,
        "noise": fit.noise,
        "conductivity": None if sigma is None else sigma.model_dump(),
        "drift": None if drift is None else drift.modulus_change,
        "warnings": [*fit.warnings, *(drift.warnings if drift else _UNCHECKED), *without_geometry],
        "fit": fit.model_dump(mode="json"),
    }


def _drift(measurement: Measurement, noise: float) -> DriftCheck | None:
    """Return how the first frequency changed; None if its measurements cannot tell.

    A sweep that begins in too large a current range has noise there that would pass for a drift.
    """
    bits = [measurement.column("status_bits", repeats=repeats) for repeats in (False, True)]
    if not bits[1].size or any(int(each[0]) & PointStatus.UNDERLOAD for each in bits):
        return None
    first, repeat = measurement.impedance_ohm(), measurement.impedance_ohm(repeats=True)
    return drift_between(first[0], repeat[0], noise=noise)


async def _record_line(run: Run, series: ConductivitySeries) -> None:
    """Record the Arrhenius line, or why there is none."""
    try:
        line = series.fit()
    except AnalysisError as error:
        await run.record("arrhenius", {"warnings": [str(error)]})
        return
    if line is None:
        has_geometry = run.sample.thickness is not None and run.sample.diameter is not None
        lack = f"fewer than {FEWEST_TEMPERATURES} temperatures" if has_geometry else "no geometry"
        message = f"{lack}: no activation energy"
        await run.record("arrhenius", {"warnings": [message, *series.remarks()]})
        return
    data = line.model_dump(mode="json")
    await run.record("arrhenius", {**data, "warnings": [*data["warnings"], *series.remarks()]})


PROTOCOL = Protocol(
    name="temperature_eis",
    script=temperature_eis,
    parameters=TemperatureEisParameters,
    plan=plan,
    capabilities=(CanEis,),
    summary="impedance spectra against temperature: conductivity and activation energy",
)
