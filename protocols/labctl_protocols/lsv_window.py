"""Electrochemical stability window by linear sweep voltammetry, anodic or cathodic.

From the open-circuit potential slowly to where the electrolyte breaks down, with carbon in the
working electrode so that there is area for it (Han et al., Adv. Energy Mater. 2016, 6, 1501590). A
second scan tells a reaction that runs out, or passivates, from one that goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from labctl.analysis.voltammetry import Sweep, charge_ratio
from labctl.instruments.capabilities import CanLsv, CanOcp
from labctl.run.protocol import PlannedStep, Protocol
from labctl_protocols.one_temperature import OneTemperatureParameters, planned_settle, settle
from labctl_protocols.sweeps import (
    SweepParameters,
    measured_sweep,
    planned_sweep,
    record_sweep,
)

if TYPE_CHECKING:
    from labctl.config import SampleConfig
    from labctl.run.run import Run


class LsvWindowParameters(OneTemperatureParameters, SweepParameters):
    """Parameters of `lsv_window`, beside those of its temperature and its sweeps.

    Attributes:
        n_scans: how often the sweep is taken, each from the open-circuit potential found then.
    """

    n_scans: int = Field(default=2, ge=1, le=100)


def plan(parameters: LsvWindowParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `lsv_window` will take."""
    places = [_place(scan) for scan in range(1, parameters.n_scans + 1)]
    sweeps = [step for place in places for step in planned_sweep(parameters, place, sample)]
    return [*planned_settle(parameters), *sweeps]


def _place(scan: int) -> str:
    return f"scan-{scan}"


async def lsv_window(run: Run, parameters: LsvWindowParameters) -> None:
    """Sweep as often as asked, record each sweep's onsets, and compare each with the first."""
    warnings = await settle(run, parameters)
    first: Sweep | None = None
    for scan in range(1, parameters.n_scans + 1):
        swept = await measured_sweep(run, parameters, _place(scan))
        about = {"key": f"{_place(scan)}/lsv", "scan": scan}
        found = await record_sweep(run, about, swept, warnings)
        if scan == 1:
            first = None if found is None else found[0]
        elif first is not None and found is not None:
            ratio = charge_ratio(first, found[0]).model_dump(mode="json")
            lacks = [ratio["reason"]] if ratio["reason"] else []
            await run.record("charge_ratio", {"scan": scan, **ratio, "warnings": lacks})


PROTOCOL = Protocol(
    name="lsv_window",
    script=lsv_window,
    parameters=LsvWindowParameters,
    plan=plan,
    capabilities=(CanOcp, CanLsv),
    summary="slow sweeps from open circuit: onsets of oxidation or reduction, scan by scan",
)
