"""Settling: when a stage and the sample on it have reached a temperature.

A stage that stands still says little about the sample, which lags it: a lag of 0 to 2 K over
25-75 degC turns 0.380 eV into 0.368 eV. So two things are asked for: the stage within a band and
without slope for a window, and short probes of the sample that agree and leave little to come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from labctl.quantities import BOLTZMANN_EV_PER_K

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.run.telemetry import TimedReading

OnTimeout = Literal["measure", "skip", "fail"]
SettleEnd = Literal["probe", "dwell", "stage", "timeout"]
# Activation energy at which the probe tolerance counts as given: 0.5 % is then 0.11 K at 300 K.
REFERENCE_ACTIVATION_ENERGY_EV = 0.38
_ENERGIES_EV = (0.1, 1.5)
_FEWEST_READINGS = 3
_LEAST_STEP_K = 2.0


@dataclass(frozen=True, kw_only=True)
class SettleCriterion:
    """When a temperature counts as reached.

    Attributes:
        band_k: how far from the setpoint the stage may be, anywhere in the window.
        slope_k_per_min: the stage's largest slope over the window.
        window_s: for how long band and slope must hold.
        probe_tolerance: largest relative change of the sample's resistance between two probes, and
            largest change still to come, for an activation energy of 0.38 eV; scaled to the
            sample's own once it is known.
        probe_interval_s: pause between two probes.
        dwell_s: how long to wait, in place of probes, once the stage stands; None: probes decide.
        timeout_s: when to stop waiting, counted from the start of the step.
        on_timeout: measure all the same and say so in the data, skip this temperature, or fail.
    """

    band_k: float = 0.1
    slope_k_per_min: float = 0.01
    window_s: float = 600.0
    probe_tolerance: float = 0.005
    probe_interval_s: float = 180.0
    dwell_s: float | None = None
    timeout_s: float = 7200.0
    on_timeout: OnTimeout = "measure"


@dataclass(frozen=True, kw_only=True)
class SettleResult:
    """How a temperature was reached, or that it was not; NaN where there was no probe.

    Attributes:
        reason: why it counts as settled or does not, in words.
        ended_by: what ended the wait: probes of the sample, a dwell, the stage alone, or the limit.
        probe_change: relative change of the resistance between the last two probes.
        probe_remainder: what is still to come, as a share of the resistance.
        u_probe_remainder: its standard uncertainty.
        first_impedance_ohm: about |Z| at the sweep's first frequency.
    """

    is_settled: bool
    reason: str
    ended_by: SettleEnd
    temperature_k: float
    duration_s: float
    probe_frequency_hz: float
    probe_change: float
    probe_resistance_ohm: float
    probe_remainder: float
    u_probe_remainder: float
    first_impedance_ohm: float


@dataclass(frozen=True)
class Probe:
    """A short measurement of the sample: resistance and its standard error from repeats, in ohm."""

    resistance_ohm: float
    u_resistance_ohm: float


def is_in_band(
    readings: Sequence[TimedReading], setpoint_k: float, criterion: SettleCriterion
) -> bool:
    """Return whether every reading lies within the band around the setpoint."""
    return all(
        abs(entry.reading.temperature_k - setpoint_k) <= criterion.band_k for entry in readings
    )


def stage_is_settled(
    readings: Sequence[TimedReading], setpoint_k: float, criterion: SettleCriterion
) -> bool:
    """Return whether the readings show the stage in its band and without slope for the window."""
    if len(readings) < _FEWEST_READINGS:
        return False
    if readings[-1].time_s - readings[0].time_s < criterion.window_s:
        return False
    times_s = np.array([entry.time_s for entry in readings])
    temperatures_k = np.array([entry.reading.temperature_k for entry in readings])
    inside = times_s >= times_s[-1] - criterion.window_s
    if inside.sum() < _FEWEST_READINGS:
        return False
    if np.max(np.abs(temperatures_k[inside] - setpoint_k)) > criterion.band_k:
        return False
    slope_k_per_s = np.polyfit(times_s[inside] - times_s[-1], temperatures_k[inside], 1)[0]
    return bool(abs(slope_k_per_s) * 60.0 <= criterion.slope_k_per_min)


def probe_from(z_real_ohm: Sequence[float]) -> Probe:
    """Return the mean of a probe's repeats and its standard error."""
    values = np.asarray(z_real_ohm, dtype=float)
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0
    return Probe(float(values.mean()), error)


def allowed_change(
    criterion: SettleCriterion, before: Probe, after: Probe, activation_energy_ev: float | None
) -> float:
    """Return the largest relative change that still counts as no change.

    Scaled with the activation energy, since R of a steeper sample moves more per kelvin, within
    what solids have: the first few temperatures may give any slope. Never below three standard
    errors of the difference of the two probes, which is mere noise.
    """
    energy_ev = activation_energy_ev or REFERENCE_ACTIVATION_ENERGY_EV
    energy_ev = min(max(energy_ev, _ENERGIES_EV[0]), _ENERGIES_EV[1])
    scaled = criterion.probe_tolerance * energy_ev / REFERENCE_ACTIVATION_ENERGY_EV
    u_difference_ohm = np.hypot(before.u_resistance_ohm, after.u_resistance_ohm)
    noise = 3.0 * u_difference_ohm / abs(after.resistance_ohm)
    return max(scaled, float(noise))


@dataclass(frozen=True)
class Rest:
    """A resistance that the sample had when it was at rest, and where."""

    temperature_k: float
    resistance_ohm: float


def energy_between_ev(one: Rest, other: Rest) -> float | None:
    """Return the activation energy that two resistances tell; None if they lie too close by."""
    if abs(one.temperature_k - other.temperature_k) < _LEAST_STEP_K:
        return None
    ends = ((1.0 / (BOLTZMANN_EV_PER_K * end.temperature_k), end) for end in (one, other))
    (x_one, y_one), (x_other, y_other) = (
        (x, math.log(end.resistance_ohm / end.temperature_k)) for x, end in ends
    )
    return (y_one - y_other) / (x_one - x_other)


def ramp_duration_s(from_k: float, to_k: float, rate_k_per_min: float) -> float:
    """Return how long a ramp takes at its rate."""
    return abs(to_k - from_k) / rate_k_per_min * 60.0
