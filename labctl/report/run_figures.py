"""Figures of stored runs: what was measured, with the fits that were recorded beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.analysis.arrhenius import ArrheniusFit
from labctl.analysis.impedance_fit import ImpedanceFit
from labctl.errors import AnalysisError
from labctl.report.figures import SampleSummary, summary_figure
from labctl.report.panels import ArrheniusSeries, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from labctl.store.reading import StoredRun

_EIS = "eis"
_TEMPERATURE = "temperature"


def comparison_figure(runs: Sequence[StoredRun]) -> Figure:
    """Return the spectra of several runs beside one Arrhenius plot of all of them."""
    return summary_figure([sample_summary(run) for run in runs])


def run_figure(run: StoredRun) -> Figure:
    """Return a run's spectra, its Arrhenius line and its temperature.

    Raises:
        AnalysisError: the run holds no spectrum.
    """
    temperature = run.columns(_TEMPERATURE) if _TEMPERATURE in run.streams() else None
    from labctl.report.figures import run_overview

    return run_overview(sample_summary(run), temperature, _measured_s(run))


def sample_summary(run: StoredRun) -> SampleSummary:
    """Return a run's spectra with their recorded fits, and its conductivities.

    Raises:
        AnalysisError: the run holds no spectrum.
    """
    if _EIS not in run.streams():
        raise AnalysisError(f"run {run.run_id} holds no impedance spectrum")
    fits = {int(event["data"]["step"]): event["data"] for event in run.events("fit")}
    name = run.summary.sample
    return SampleSummary(name=name, traces=_traces(run, fits), series=_series(run, name, fits))


def _traces(run: StoredRun, fits: Mapping[int, Mapping[str, Any]]) -> tuple[Trace, ...]:
    columns = run.columns(_EIS)
    is_first = columns["is_repeat"] == 0
    steps = columns["step"].astype(int)
    return tuple(
        _trace({name: column[is_first & (steps == step)] for name, column in columns.items()}, fit)
        for step, fit in ((step, fits.get(step, {})) for step in dict.fromkeys(steps.tolist()))
    )


def _trace(points: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> Trace:
    return Trace(
        frequency_hz=points["frequency_hz"],
        z_ohm=points["z_real_ohm"] + 1j * points["z_imag_ohm"],
        fit=ImpedanceFit.model_validate(data["fit"]) if "fit" in data else None,
        temperature_k=data.get("temperature_k"),
        branch=data.get("branch", ""),
    )


def _series(run: StoredRun, name: str, fits: Mapping[int, Mapping[str, Any]]) -> ArrheniusSeries:
    known = [data for data in fits.values() if data.get("conductivity")]
    data = next((event["data"] for event in run.events("arrhenius")), {})
    fit = ArrheniusFit.model_validate(data) if "primary" in data else None
    return ArrheniusSeries(
        name=name,
        temperature_k=np.array([data["temperature_k"] for data in known]),
        sigma_s_per_cm=np.array([data["conductivity"]["sigma_s_per_cm"] for data in known]),
        u_sigma_s_per_cm=np.array([data["conductivity"]["u_sigma_s_per_cm"] for data in known]),
        line=fit.primary if fit else None,
        branch=tuple(data["branch"] for data in known),
        branch_lines=fit.branches if fit else {},
    )


def _measured_s(run: StoredRun) -> list[tuple[float, float]]:
    """Return when each spectrum began and ended, in s since the start of the run."""
    columns = run.columns(_EIS)
    steps, times_s = columns["step"], columns["time_s"]
    return [
        (float(times_s[steps == step].min()), float(times_s[steps == step].max()))
        for step in dict.fromkeys(steps.tolist())
    ]
