"""Sweeps from the open circuit to where a cell breaks down: what `lsv_window` and others share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from labctl.analysis.voltammetry import Sweep, SweepAnalysis, analyse_sweep, sweep_of
from labctl.errors import AnalysisError, BadInputError
from labctl.instruments.dc_techniques import Lsv, Stop
from labctl.instruments.techniques import Ocp, PointStatus
from labctl.quantities import (
    CurrentDensityAPerM2,
    DurationS,
    ScanRateVPerS,
    VoltageV,
    format_si,
)
from labctl.run.protocol import Parameters, PlannedStep, step
from labctl_protocols.geometry import electrode_area_m2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.config import SampleConfig
    from labctl.run.run import Measurement, Run

_REST_INTERVAL_S = 5.0
_WINDOW_S = 600.0
_DECIMALS_V = 4
_LAST_POINTS = 10  # their mean is the open-circuit potential


class SweepParameters(Parameters):
    """Parameters of a sweep.

    Attributes:
        direction: "anodic" looks for oxidation, "cathodic" for reduction.
        end_potential: where the sweep ends, against the reference electrode.
        rate: how fast.
        step: height of a stair, a positive number.
        rest: how long the cell rests before a sweep, at most; its open-circuit potential is where
            the sweep begins.
        rest_change: the rest ends early once the potential has changed by less than this in 10 min.
        largest_density: the sweep ends early at this current density.
        expected_ocv: about the open-circuit potential, to plan with; the sweep begins at the
            measured one.
    """

    direction: Literal["anodic", "cathodic"]
    end_potential: VoltageV
    rate: ScanRateVPerS = Field(default=1e-4, gt=0)
    step: VoltageV = Field(default=1e-3, gt=0)
    rest: DurationS = Field(default=3600.0, ge=_LAST_POINTS * _REST_INTERVAL_S)
    rest_change: VoltageV = Field(default=1e-3, gt=0)
    largest_density: CurrentDensityAPerM2 = Field(default=10.0, gt=0)
    expected_ocv: VoltageV = 2.5

    @model_validator(mode="after")
    def _leads_away(self) -> SweepParameters:
        if not self.leads_away_from(self.expected_ocv):
            more = "above" if self.direction == "anodic" else "below"
            raise ValueError(f"end_potential: expected {more} expected_ocv for {self.direction}")
        return self

    def leads_away_from(self, begin_v: float) -> bool:
        """Return whether a sweep from a potential goes in the direction asked for."""
        way_v = self.end_potential - begin_v
        return way_v > self.step if self.direction == "anodic" else -way_v > self.step

    def resting(self) -> Ocp:
        """Return the rest before a sweep."""
        return Ocp(
            duration_s=self.rest,
            interval_s=_REST_INTERVAL_S,
            stop_change_v=self.rest_change,
            stop_window_s=_WINDOW_S,
        )

    def sweep(self, begin_v: float, area_m2: float | None) -> Lsv:
        """Return the sweep from a potential."""
        largest_a = None if area_m2 is None else self.largest_density * area_m2
        return Lsv(
            begin_v=begin_v,
            end_v=self.end_potential,
            step_v=self.step,
            rate_v_per_s=self.rate,
            stop=Stop(current_above_a=largest_a),
        )


def planned_sweep(
    parameters: SweepParameters, place: str, sample: SampleConfig
) -> list[PlannedStep]:
    """Return the two steps of a sweep: rest, and sweep from about the expected potential."""
    techniques = [
        (f"{place}/ocp", parameters.resting()),
        (f"{place}/lsv", parameters.sweep(parameters.expected_ocv, electrode_area_m2(sample))),
    ]
    return [step(key, technique) for key, technique in techniques]


@dataclass(frozen=True)
class MeasuredSweep:
    """A sweep, the open-circuit potential that it began at, and what is to be said of the rest."""

    ocv_v: float
    measurement: Measurement
    warnings: tuple[str, ...]


async def measured_sweep(run: Run, parameters: SweepParameters, place: str) -> MeasuredSweep:
    """Rest, then sweep from the potential found.

    Raises:
        BadInputError: the end potential does not lie in the direction asked for.
    """
    rest = await run.ocp(key=f"{place}/ocp", parameters=parameters.resting())
    # What an instrument can apply, so that it counts its stairs as the plan does.
    ocv_v = round(float(np.mean(rest.column("potential_v")[-_LAST_POINTS:])), _DECIMALS_V)
    if not parameters.leads_away_from(ocv_v):
        end, ocv = format_si(parameters.end_potential, "V"), format_si(ocv_v, "V")
        raise BadInputError(
            f"end_potential = {end}: no {parameters.direction} sweep from the measured "
            f"open-circuit potential of {ocv}"
        )
    sweep = parameters.sweep(ocv_v, electrode_area_m2(run.sample))
    measurement = await run.lsv(key=f"{place}/lsv", parameters=sweep)
    return MeasuredSweep(ocv_v, measurement, _about_rest(rest, parameters.rest_change))


def _about_rest(rest: Measurement, change_v: float) -> tuple[str, ...]:
    """Return a warning if the cell was not at rest when its rest ended."""
    elapsed_s, potential_v = rest.column("elapsed_s"), rest.column("potential_v")
    late = elapsed_s >= elapsed_s[-1] - _WINDOW_S
    moved_v = float(np.ptp(potential_v[late]))
    if rest.ended_by or moved_v <= change_v:
        return ()
    return (f"not at rest: the potential moved by {format_si(moved_v, 'V', 3)} in its last 10 min",)


def sweep_in(measurement: Measurement, sample: SampleConfig) -> Sweep:
    """Return a measured sweep, points that overloaded the instrument left out; AnalysisError."""
    usable = (measurement.column("status_bits").astype(int) & PointStatus.OVERLOAD) == 0
    elapsed_s, potential_v, current_a, range_a = (
        measurement.column(name)[usable]
        for name in ("elapsed_s", "potential_v", "current_a", "current_range_a")
    )
    known = np.isfinite(range_a).all() and bool(range_a.all())
    return sweep_of(
        elapsed_s,
        potential_v,
        current_a,
        area_m2=electrode_area_m2(sample),
        range_a=range_a if known else None,
    )


async def record_sweep(
    run: Run,
    about: dict[str, Any],
    swept: MeasuredSweep,
    warnings: Sequence[str] = (),
) -> tuple[Sweep, SweepAnalysis] | None:
    """Analyse a sweep and record what it says; None and a recorded reason where it says nothing."""
    measurement, said = swept.measurement, [*warnings, *swept.warnings]
    where = {
        **about,
        "step": measurement.step,
        "temperature_k": measurement.temperature_k,
        "ocv_v": swept.ocv_v,
        "ended_by": measurement.ended_by,
    }
    try:
        sweep = sweep_in(measurement, run.sample)
    except AnalysisError as error:
        await run.record("sweep", {**where, "warnings": [*said, str(error)]})
        return None
    found = analyse_sweep(sweep, reference_shift_v=run.sample.reference_potential)
    early = (f"ended early: {measurement.ended_by}",) if measurement.ended_by else ()
    said += [*found.warnings, *early]
    await run.record("sweep", {**where, **found.model_dump(mode="json"), "warnings": said})
    for onset in found.onsets:
        await run.record("onset", {**about, **onset.model_dump(mode="json")})
    return sweep, found
