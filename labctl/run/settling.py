"""Settling as a step: wait for the stage, then probe the sample until two probes agree."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from labctl.errors import InstrumentError
from labctl.instruments.techniques import Eis
from labctl.run.settle import (
    Probe,
    SettleCriterion,
    SettleResult,
    allowed_change,
    probe_from,
    ramp_duration_s,
    stage_is_settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from labctl.clock import RunClock
    from labctl.instruments.capabilities import CanEis
    from labctl.instruments.rig import Channel
    from labctl.run.emitter import Emitter
    from labctl.run.progress import ProgressTracker
    from labctl.run.telemetry import Telemetry

PROBE_STREAM = "probe"
_REPEATS = 3
# The repeats lie a little apart in frequency: same resistance, and no instrument refuses a sweep
# that goes nowhere.
_PROBE_SPREAD = 1.02
_LOCATE_POINTS_PER_DECADE = 4


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How to probe the sample.

    Attributes:
        sweep: the window and amplitude of the measurement that the probe stands in for.
        locate: finds the probe frequency in a coarse spectrum, from (frequency_hz, z_ohm): where
            |Z''| has its minimum, so that Z' is the resistance and nothing else.
    """

    sweep: Eis
    locate: Callable[[np.ndarray, np.ndarray], float]


@dataclass
class _State:
    """What is known so far."""

    frequency_hz: float = math.nan
    change: float = math.nan
    resistance_ohm: float = math.nan


class Settling:
    """One wait for one temperature."""

    def __init__(
        self,
        channel: Channel,
        telemetry: Telemetry,
        emitter: Emitter,
        tracker: ProgressTracker,
        clock: RunClock,
        criterion: SettleCriterion,
    ) -> None:
        self._potentiostat = cast("CanEis", channel.potentiostat)
        self._telemetry = telemetry
        self._emitter = emitter
        self._tracker = tracker
        self._clock = clock
        self._criterion = criterion
        self._began_s = clock.elapsed_s()
        self._state = _State()

    async def wait(
        self, setpoint_k: float, probe: ProbeSettings | None, activation_energy_ev: float | None
    ) -> SettleResult:
        """Return how the temperature was reached, or that it was not within the time-out."""
        limit = asyncio.timeout(self._criterion.timeout_s)
        try:
            async with limit:
                await self._stage(setpoint_k)
                if probe is not None:
                    await self._sample(probe, activation_energy_ev)
        except TimeoutError as error:
            # A silent instrument is no temperature that takes long, not even if its silence while
            # a probe is broken off hides behind the limit.
            if isinstance(error, InstrumentError) or not limit.expired():
                raise
            return self._result(is_settled=False, reason=self._why_not(setpoint_k))
        return self._result(is_settled=True, reason=self._why(probe))

    async def _stage(self, setpoint_k: float) -> None:
        """Return when the stage has stood at the setpoint for the window."""
        while True:
            entry = await self._telemetry.next_reading()
            readings = self._telemetry.since(self._began_s)
            if stage_is_settled(readings, setpoint_k, self._criterion):
                return
            away_k = entry.reading.temperature_k - setpoint_k
            self._tracker.note(f"stage {away_k:+.2f} K from setpoint")

    async def _sample(self, probe: ProbeSettings, activation_energy_ev: float | None) -> None:
        """Return when two probes of the sample agree."""
        self._state.frequency_hz = await self._locate(probe)
        before = await self._probe(probe.sweep)
        while True:
            self._tracker.note(self._note(), time_left_s=self._criterion.probe_interval_s)
            await asyncio.sleep(self._criterion.probe_interval_s)
            after = await self._probe(probe.sweep)
            change = after.resistance_ohm / before.resistance_ohm - 1.0
            self._state.change, self._state.resistance_ohm = change, after.resistance_ohm
            allowed = allowed_change(self._criterion, before, after, activation_energy_ev)
            if abs(change) < allowed:
                return
            before = after

    async def _locate(self, probe: ProbeSettings) -> float:
        """Return the frequency to probe at, from a coarse spectrum over the whole window."""
        start_hz, end_hz = probe.sweep.frequency_start_hz, probe.sweep.frequency_end_hz
        decades = abs(math.log10(start_hz / end_hz))
        n_points = max(2, math.ceil(decades * _LOCATE_POINTS_PER_DECADE) + 1)
        sweep = replace(probe.sweep, n_points=n_points, repeats_first=False)
        frequency_hz, z_ohm = await self._measure(sweep)
        return probe.locate(frequency_hz, z_ohm)

    async def _probe(self, sweep: Eis) -> Probe:
        """Return the sample's resistance now."""
        low, high = sorted((sweep.frequency_start_hz, sweep.frequency_end_hz))
        start_hz = min(high, self._state.frequency_hz * _PROBE_SPREAD)
        end_hz = max(low, self._state.frequency_hz / _PROBE_SPREAD)
        short = replace(
            sweep,
            frequency_start_hz=start_hz,
            frequency_end_hz=end_hz,
            n_points=_REPEATS,
            repeats_first=False,
        )
        _, z_ohm = await self._measure(short)
        return probe_from(list(z_ohm.real))

    async def _measure(self, sweep: Eis) -> tuple[np.ndarray, NDArray[np.complex128]]:
        """Measure a probe, record it in its own stream, return (frequency_hz, z_ohm)."""
        import numpy as np

        frequencies_hz: list[float] = []
        z_ohm: list[complex] = []
        units = {"time_s": "s", **Eis.UNITS}
        async with aclosing(self._potentiostat.eis(sweep)) as frames:
            async for frame in frames:
                stamps = {"time_s": [self._clock.elapsed_s()] * frame.n_points}
                await self._emitter.page(PROBE_STREAM, {**stamps, **frame.columns}, units)
                frequencies_hz += frame.columns["frequency_hz"]
                pairs = zip(frame.columns["z_real_ohm"], frame.columns["z_imag_ohm"], strict=True)
                z_ohm += [complex(real, imag) for real, imag in pairs]
        return np.array(frequencies_hz), np.array(z_ohm)

    def _note(self) -> str:
        if math.isnan(self._state.change):
            return f"stage settled; probing the sample at {self._state.frequency_hz:.3g} Hz"
        return f"sample drifts {self._state.change:+.2%} between probes"

    def _why(self, probe: ProbeSettings | None) -> str:
        if probe is None:
            return "stage within its band and without slope for the window"
        return f"stage settled; sample changed {self._state.change:+.3%} between two probes"

    def _why_not(self, setpoint_k: float) -> str:
        limit = f"not settled within {self._criterion.timeout_s:.0f} s"
        if math.isnan(self._state.change):
            latest_k = self._telemetry.mean_temperature_k(self._clock.elapsed_s())
            return f"{limit}: stage {latest_k - setpoint_k:+.2f} K from setpoint"
        return f"{limit}: sample still drifts {self._state.change:+.2%} between two probes"

    def _result(self, *, is_settled: bool, reason: str) -> SettleResult:
        now_s = self._clock.elapsed_s()
        return SettleResult(
            is_settled=is_settled,
            reason=reason,
            temperature_k=self._telemetry.mean_temperature_k(now_s - 60.0),
            duration_s=now_s - self._began_s,
            probe_frequency_hz=self._state.frequency_hz,
            probe_change=self._state.change,
            probe_resistance_ohm=self._state.resistance_ohm,
        )


def settle_duration_s(
    from_k: float, to_k: float, rate_k_per_min: float, criterion: SettleCriterion
) -> float:
    """Return about how long a settle takes: ramp, window, and a few probes."""
    ramp_s = ramp_duration_s(from_k, to_k, rate_k_per_min)
    return min(
        ramp_s + 1.5 * criterion.window_s + 3 * criterion.probe_interval_s, criterion.timeout_s
    )
