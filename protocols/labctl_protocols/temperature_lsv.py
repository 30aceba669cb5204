"""Onset of oxidation or reduction against temperature, by linear sweeps.

One sweep from the open circuit at each temperature. Every sweep leaves its products on the cell, so
that a trend over one cell mixes temperature with history: come back to the first temperature
(`cooling_branch`) to see how much, and use a fresh cell for each temperature where it matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.analysis.onset_temperature import onset_trend
from labctl.errors import AnalysisError
from labctl.instruments.capabilities import CanLsv, CanOcp
from labctl.run.protocol import PlannedStep, Protocol
from labctl_protocols.sweeps import SweepParameters, measured_sweep, planned_sweep, record_sweep
from labctl_protocols.temperatures import TemperatureParameters, settle, settle_step

if TYPE_CHECKING:
    from labctl.analysis.voltammetry import SweepAnalysis
    from labctl.config import SampleConfig
    from labctl.run.run import Run
    from labctl.run.settle import SettleResult
    from labctl_protocols.temperatures import Setpoint

_HISTORY = "one cell: every sweep leaves its products, so that a trend holds history, too"


class TemperatureLsvParameters(TemperatureParameters, SweepParameters):
    """Parameters of `temperature_lsv`: those of the temperatures, and those of a sweep."""


def plan(parameters: TemperatureLsvParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `temperature_lsv` will take."""
    steps: list[PlannedStep] = []
    for setpoint in parameters.setpoints():
        steps.append(settle_step(parameters, setpoint))
        steps += planned_sweep(parameters, _place(setpoint), sample)
    return steps


def _place(setpoint: Setpoint) -> str:
    return setpoint.key("lsv").removesuffix("/lsv")


async def temperature_lsv(run: Run, parameters: TemperatureLsvParameters) -> None:
    """Sweep at each temperature and record how the onsets move with it."""
    found: list[tuple[float, SweepAnalysis]] = []
    left_out: list[str] = []
    for setpoint in parameters.setpoints():
        place = _place(setpoint)
        settled = await settle(run, parameters, setpoint)
        if not settled.is_settled and parameters.on_settle_timeout == "skip":
            run.forgo(f"{place}/ocp")
            run.forgo(f"{place}/lsv")
            continue
        swept = await measured_sweep(run, parameters, place)
        about = {"key": f"{place}/lsv", "branch": setpoint.branch, **_settled_data(settled)}
        sweep = await record_sweep(run, about, swept)
        if sweep is None or not settled.is_settled:
            left_out.append(f"{place} ({'no analysis' if settled.is_settled else 'not settled'})")
        else:
            found.append((swept.measurement.temperature_k, sweep[1]))
    await _record_trends(run, found, left_out)


def _settled_data(settled: SettleResult) -> dict[str, Any]:
    return {"is_settled": settled.is_settled, "settle_reason": settled.reason}


async def _record_trends(
    run: Run, found: list[tuple[float, SweepAnalysis]], left_out: list[str]
) -> None:
    """Record, for each criterion, the onset at each temperature and the line through them."""
    warnings = [_HISTORY] + ([f"left out: {', '.join(left_out)}"] if left_out else [])
    criteria = [onset.criterion for onset in found[0][1].onsets] if found else []
    trends = {criterion: _trend(found, criterion) for criterion in criteria}
    await run.record("onset_temperature", {"trends": trends, "warnings": warnings})


def _trend(found: list[tuple[float, SweepAnalysis]], criterion: str) -> dict[str, Any]:
    """Return the onsets by one criterion and their line, or why there is none."""
    onsets = [(temperature_k, analysis.onset(criterion)) for temperature_k, analysis in found]
    seen = [
        (temperature_k, onset.potential_v, onset.u_potential_v)
        for temperature_k, onset in onsets
        if onset.potential_v is not None and onset.u_potential_v is not None
    ]
    table = [{"temperature_k": at_k, **onset.model_dump(mode="json")} for at_k, onset in onsets]
    try:
        line = onset_trend(*zip(*seen, strict=True)) if seen else None
    except AnalysisError as error:
        return {"onsets": table, "line": None, "reason": str(error)}
    if line is None:
        return {"onsets": table, "line": None, "reason": "no onset at any temperature"}
    return {"onsets": table, "line": line.model_dump(mode="json"), "reason": ""}


PROTOCOL = Protocol(
    name="temperature_lsv",
    script=temperature_lsv,
    parameters=TemperatureLsvParameters,
    plan=plan,
    capabilities=(CanOcp, CanLsv),
    summary="a slow sweep at each temperature: onset of oxidation or reduction against temperature",
)
