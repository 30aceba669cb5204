"""Conductivity at one temperature, several times: one composition of a series.

Each sample of the series is one run of a campaign, its sample file naming the composition. Spectra
that are repeated tell how well a value repeats, which the uncertainty of a single fit does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from labctl.analysis.impedance import fit_impedance
from labctl.errors import AnalysisError
from labctl.instruments.capabilities import CanEis
from labctl.quantities import DurationS, FrequencyHz
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.geometry import conductivity_of
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle
from labctl_protocols.spectra import SpectrumParameters, usable

if TYPE_CHECKING:
    from labctl.analysis.conductivity import Conductivity
    from labctl.config import SampleConfig
    from labctl.run.run import Measurement, Run


class CompositionSeriesParameters(SpectrumParameters, OneTemperatureParameters):
    """Parameters of `composition_series`.

    Attributes:
        frequency_end: last and lowest frequency.
        n_repeats: how many spectra.
        pause: between two of them.
    """

    frequency_end: FrequencyHz = Field(default=1.0, ge=1e-6)
    n_repeats: int = Field(default=3, ge=1, le=1000)
    pause: DurationS = Field(default=60.0, ge=0)


def _keys(number: int) -> tuple[str, str]:
    return f"{number:03d}/pause", f"{number:03d}/eis"


def plan(parameters: CompositionSeriesParameters, _: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `composition_series` will take."""
    steps = planned_settle(parameters)
    for number in range(parameters.n_repeats):
        pause_key, eis_key = _keys(number)
        if number and parameters.pause:
            steps.append(
                PlannedStep(key=pause_key, kind="wait", expected_duration_s=parameters.pause)
            )
        steps.append(step(eis_key, parameters.sweep(0.0)))
    return steps


async def composition_series(run: Run, parameters: CompositionSeriesParameters) -> None:
    """Measure and fit the spectra, and record what they say together."""
    await settle(run, parameters)
    found: list[Conductivity] = []
    for number in range(parameters.n_repeats):
        pause_key, eis_key = _keys(number)
        if number and parameters.pause:
            await run.wait(key=pause_key, duration_s=parameters.pause)
        measured = await run.eis(key=eis_key, parameters=parameters.sweep(0.0))
        found += await _record_spectrum(run, eis_key, measured)
    await run.record("composition", _together(run, found))


async def _record_spectrum(run: Run, key: str, measured: Measurement) -> list[Conductivity]:
    """Record one spectrum's fit; return its conductivity, if there is one to be believed."""
    about: dict[str, Any] = {
        "key": key,
        "step": measured.step,
        "branch": "",
        "temperature_k": measured.temperature_k,
        "is_settled": True,
        "settle_reason": "",
    }
    try:
        fit = fit_impedance(*usable(measured))
        sigma = conductivity_of(run.sample, fit.r_total_ohm, fit.u_r_total_ohm)
    except AnalysisError as error:
        await run.record("fit", {**about, "warnings": [str(error)]})
        return []
    await run.record(
        "fit",
        {
            **about,
            "circuit": fit.circuit.name,
            "r_total_ohm": fit.r_total_ohm,
            "u_r_total_ohm": fit.u_r_total_ohm,
            "conductivity": None if sigma is None else sigma.model_dump(),
            "warnings": list(fit.warnings),
            "fit": fit.model_dump(mode="json"),
        },
    )
    return [] if sigma is None or not fit.is_arc_closed else [sigma]


def _together(run: Run, found: list[Conductivity]) -> dict[str, Any]:
    """Return the mean of the repeats and its uncertainty: fit, scatter and geometry together."""
    about = {"composition": dict(run.sample.composition), "n_spectra": len(found)}
    if not found:
        return {**about, "warnings": ["no spectrum gave a conductivity to be believed"]}
    values = np.array([each.sigma_s_per_cm for each in found])
    mean = float(values.mean())
    scatter = float(values.std(ddof=1) / mean) if values.size > 1 else float("nan")
    u_ln_r = float(np.mean([each.u_ln_r for each in found]))
    repeat = np.nan_to_num(scatter) / np.sqrt(values.size)
    u_ln = float(np.sqrt(u_ln_r**2 + repeat**2 + found[0].u_ln_geometry ** 2))
    return {
        **about,
        "sigma_s_per_cm": mean,
        "u_sigma_s_per_cm": mean * u_ln,
        "relative_scatter": scatter,
        "warnings": [] if values.size > 1 else ["one spectrum only: its scatter is not known"],
    }


PROTOCOL = Protocol(
    name="composition_series",
    script=composition_series,
    parameters=CompositionSeriesParameters,
    plan=plan,
    capabilities=(CanEis,),
    summary="conductivity at one temperature, repeated: one composition of a series",
)
