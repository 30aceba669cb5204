"""Spectra of a cell at rest, hour after hour: whether it reacts with itself.

A chemical reaction between electrolyte and electrode shows as a resistance that grows without any
current. Every spectrum is compared with the first one, point by point, and the resistances against
time give a trend with its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from labctl.analysis.stability import spectrum_change, trend
from labctl.errors import AnalysisError
from labctl.instruments.capabilities import CanEis, CanOcp
from labctl.instruments.techniques import Ocp
from labctl.quantities import DurationS
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle
from labctl_protocols.spectra import (
    SpectrumParameters,
    processes,
    usable,
)

if TYPE_CHECKING:
    from labctl.config import SampleConfig
    from labctl.run.run import Measurement, Run

_WHOLE = 1e-9


class StabilityEisParameters(SpectrumParameters, OneTemperatureParameters):
    """Parameters of `stability_eis`.

    Attributes:
        duration: from the first spectrum to the last.
        every: from the start of one spectrum to that of the next.
        interval: time between two points of the potential in between.
    """

    duration: DurationS = Field(default=18 * 3600.0, gt=0)
    every: DurationS = Field(default=3600.0, gt=0)
    interval: DurationS = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _there_is_time(self) -> Self:
        needs_s = self.sweep().expected_duration_s() + 2 * self.interval
        if self.every < needs_s:
            raise ValueError(
                f"every: a spectrum takes about {needs_s:.0f} s: expected at least that"
            )
        if self.duration < self.every:
            raise ValueError("duration: expected at least one interval `every`")
        return self

    @property
    def n_spectra(self) -> int:
        """Return how many spectra there are."""
        return int(self.duration / self.every + _WHOLE) + 1

    def resting(self, left_s: float | None = None) -> Ocp:
        """Return the rest until the next spectrum is due; as planned where that is not said."""
        if left_s is None:
            left_s = self.every - self.sweep().expected_duration_s()
        return Ocp(duration_s=max(left_s, self.interval), interval_s=self.interval)

    def first_rest(self) -> Ocp:
        """Return the rest before the first spectrum: it tells the potential to measure around."""
        return Ocp(duration_s=2 * self.interval, interval_s=self.interval)


def plan(parameters: StabilityEisParameters, _: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `stability_eis` will take."""
    steps = planned_settle(parameters)
    for number in range(parameters.n_spectra):
        rest = parameters.first_rest() if number == 0 else parameters.resting()
        steps += [
            step(f"{number:03d}/rest", rest),
            step(f"{number:03d}/eis", parameters.sweep()),
        ]
    return steps


@dataclass
class _Series:
    """The spectra so far: the first one whole, of the others their resistances."""

    first: Measurement | None = None
    times_s: list[float] = field(default_factory=list[float])
    lowest_ohm: list[float] = field(default_factory=list[float])
    r0_ohm: list[float] = field(default_factory=list[float])


async def stability_eis(run: Run, parameters: StabilityEisParameters) -> None:
    """Measure spectra of the resting cell and record how each one differs from the first."""
    await settle(run, parameters)
    series = _Series()
    for number in range(parameters.n_spectra):
        rest = parameters.first_rest()
        if number:
            due_s = series.times_s[0] + number * parameters.every
            rest = parameters.resting(due_s - run.elapsed_s)
        key = f"{number:03d}"
        rested = await run.ocp(key=f"{key}/rest", parameters=rest)
        potential_v = float(rested.column("potential_v")[-1])
        began_s = run.elapsed_s
        measured = await run.eis(key=f"{key}/eis", parameters=parameters.sweep(potential_v))
        await _record(run, f"{key}/eis", measured, potential_v, began_s, series)
    await _record_trend(run, series)


async def _record(
    run: Run,
    key: str,
    measured: Measurement,
    potential_v: float,
    began_s: float,
    series: _Series,
) -> None:
    """Record one spectrum's processes and its distance from the first one."""
    found = processes(measured)
    first = series.first = series.first or measured
    frequency_hz, z_ohm = usable(measured)
    series.times_s.append(began_s)
    series.lowest_ohm.append(float(z_ohm[int(np.argmin(frequency_hz))].real))
    series.r0_ohm.append(float(found.get("r0_ohm", np.nan)))
    about: dict[str, Any] = {
        "key": key,
        "step": measured.step,
        "elapsed_s": began_s - series.times_s[0],
        "potential_v": potential_v,
        "temperature_k": measured.temperature_k,
        **found,
    }
    try:
        change = spectrum_change(*usable(first), z_ohm, other_frequency_hz=frequency_hz).model_dump(
            mode="json"
        )
    except AnalysisError as error:
        about["warnings"] = [*about["warnings"], str(error)]
        change = {}
    await run.record("stability", {**about, **change})


async def _record_trend(run: Run, series: _Series) -> None:
    """Record how the resistances moved over the whole time."""
    for name, values in (("z_real_lowest_frequency", series.lowest_ohm), ("r0", series.r0_ohm)):
        known = [pair for pair in zip(series.times_s, values, strict=True) if isfinite(pair[1])]
        try:
            line = trend([time_s for time_s, _ in known], [value for _, value in known])
        except AnalysisError as error:
            await run.record("trend", {"of": name, "warnings": [str(error)]})
        else:
            await run.record("trend", {"of": name, **line.model_dump(mode="json"), "warnings": []})


PROTOCOL = Protocol(
    name="stability_eis",
    script=stability_eis,
    parameters=StabilityEisParameters,
    plan=plan,
    capabilities=(CanEis, CanOcp),
    summary="spectra of a cell at rest, hour after hour: what changes without current",
)
