"""Diffusion against temperature: a few pulses at each one, and their activation energy.

At every temperature the cell is charged by one pulse and discharged by the next, each followed by a
rest (Weppner and Huggins, J. Electrochem. Soc. 1977, 124, 1569): it comes back to the same state of
charge, on which diffusion depends as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import Field

from labctl.analysis.activation import fit_activation
from labctl.errors import AnalysisError
from labctl.instruments.capabilities import CanCp, CanOcp
from labctl.run.protocol import PlannedStep, Protocol, step
from labctl_protocols.temperatures import Setpoint, TemperatureParameters, settle, settle_step
from labctl_protocols.titration import (
    TitrationParameters,
    pulse_keys,
    pulse_steps,
)
from labctl_protocols.titration_pulses import PulseTaken, Titration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labctl.config import SampleConfig
    from labctl.run.run import Run
    from labctl_protocols.currents import Direction

FEWEST_TEMPERATURES = 3


class TemperatureGittParameters(TitrationParameters, TemperatureParameters):
    """Parameters of `temperature_gitt`, besides those of pulses, rests and temperatures.

    Attributes:
        pulse_pairs: charge pulses at each temperature, each followed by a discharge pulse.
    """

    pulse_pairs: int = Field(default=2, ge=1, le=50)


def _pulses(
    parameters: TemperatureGittParameters, setpoint: Setpoint
) -> Iterator[tuple[str, Direction]]:
    """Yield where the pulses at a temperature stand, and which way they go."""
    directions: tuple[Direction, ...] = ("charge", "discharge")
    for pair in range(1, parameters.pulse_pairs + 1):
        for direction in directions:
            yield setpoint.key(f"{direction}-{pair:03d}"), direction


def plan(parameters: TemperatureGittParameters, sample: SampleConfig) -> list[PlannedStep]:
    """Return the steps that `temperature_gitt` will take."""
    steps: list[PlannedStep] = []
    for setpoint in parameters.setpoints():
        steps += [
            settle_step(parameters, setpoint),
            step(setpoint.key("rest"), parameters.rest()),
        ]
        for place, direction in _pulses(parameters, setpoint):
            steps += pulse_steps(parameters, place, direction, sample)
    return steps


async def temperature_gitt(run: Run, parameters: TemperatureGittParameters) -> None:
    """Take the pulses at each temperature, and fit the activation energy of diffusion."""
    trusted: list[PulseTaken] = []
    left_out: list[str] = []
    titration = Titration(run, parameters)
    for setpoint in parameters.setpoints():
        settled = await settle(run, parameters, setpoint)
        if not settled.is_settled and parameters.on_settle_timeout == "skip":
            _forgo(run, parameters, setpoint)
            continue
        await titration.rest(setpoint.key("rest"))
        for place, direction in _pulses(parameters, setpoint):
            taken = await titration.take(place, direction)
            objection = _objection(taken, is_settled=settled.is_settled)
            if objection:
                left_out.append(f"{place} ({objection})")
            else:
                trusted.append(taken)
    await run.record("diffusion_arrhenius", _line(trusted, left_out, run.u_temperature_k))


def _forgo(run: Run, parameters: TemperatureGittParameters, setpoint: Setpoint) -> None:
    run.forgo(setpoint.key("rest"))
    for place, _ in _pulses(parameters, setpoint):
        for key in pulse_keys(place):
            run.forgo(key)


def _objection(taken: PulseTaken, *, is_settled: bool) -> str:
    """Return why a pulse stays out of the line, in words; "" if it does not."""
    if not is_settled:
        return "not settled"
    if taken.diffusion is None or not math.isfinite(taken.diffusion.d_m2_per_s):
        return "no diffusion coefficient"
    return ""


def _line(trusted: list[PulseTaken], left_out: list[str], u_temperature_k: float) -> dict[str, Any]:
    """Return the activation energy of diffusion, or why there is none."""
    warnings = [f"left out: {', '.join(left_out)}"] if left_out else []
    found = [(each.temperature_k, each.diffusion) for each in trusted if each.diffusion]
    if len({round(temperature_k) for temperature_k, _ in found}) < FEWEST_TEMPERATURES:
        few = f"fewer than {FEWEST_TEMPERATURES} temperatures: no activation energy"
        return {"ea_ev": None, "warnings": [few, *warnings]}
    try:
        line = fit_activation(
            [temperature_k for temperature_k, _ in found],
            [diffusion.d_m2_per_s for _, diffusion in found],
            [diffusion.u_d_m2_per_s for _, diffusion in found],
            u_temperature_k=u_temperature_k,
        )
    except AnalysisError as error:
        return {"ea_ev": None, "warnings": [str(error), *warnings]}
    return {
        "n_pulses": len(found),
        "ea_ev": line.ea_ev,
        "u_ea_ev": line.u_ea_ev,
        "d_25_m2_per_s": line.value_25,
        "u_d_25_m2_per_s": line.u_value_25,
        "d_25_cm2_per_s": 1e4 * line.value_25,
        "u_d_25_cm2_per_s": 1e4 * line.u_value_25,
        "warnings": [*line.warnings, *warnings],
    }


PROTOCOL = Protocol(
    name="temperature_gitt",
    script=temperature_gitt,
    parameters=TemperatureGittParameters,
    plan=plan,
    capabilities=(CanCp, CanOcp),
    summary="pulses of current against temperature: activation energy of diffusion",
)
