"""Settling as a step: wait for the stage, then probe the sample until it has come to rest."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from labctl.errors import InstrumentError
from labctl.instruments.techniques import Eis, PointStatus
from labctl.quantities import format_duration
from labctl.run.relaxation import remainder
from labctl.run.settle import (
    Probe,
    Rest,
    SettleCriterion,
    SettleEnd,
    SettleResult,
    allowed_change,
    energy_between_ev,
    is_in_band,
    probe_from,
    ramp_duration_s,
    stage_is_settled,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

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
_FEWEST_PROBES = 3
_TRIES = 3
_FEWEST_GOOD = 2  # of the repeats of a probe
_UNTRUSTED = PointStatus.OVERLOAD | PointStatus.UNDERLOAD
_USELESS = 0.02  # relative standard error of a probe that tells nothing


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
    first_impedance_ohm: float = math.nan
    times_s: list[float] = field(default_factory=list[float])
    probes: list[Probe] = field(default_factory=list[Probe])
    remainder: float = math.nan
    u_remainder: float = math.nan

    @property
    def change(self) -> float:
        """Relative change between the last two probes."""
        if len(self.probes) < 2:
            return math.nan
        return self.probes[-1].resistance_ohm / self.probes[-2].resistance_ohm - 1.0

    def add(self, time_s: float, probe: Probe) -> None:
        """Take a probe that is a resistance, and say anew how much is still to come."""
        if not (0.0 < probe.resistance_ohm < math.inf and math.isfinite(probe.u_resistance_ohm)):
            return
        self.times_s.append(time_s)
        self.probes.append(probe)
        if len(self.probes) >= 2:
            self.remainder, self.u_remainder = remainder(self.times_s, self.probes)


@dataclass(frozen=True)
class _Spectrum:
    """A short spectrum, each (n_points,), and which points the instrument could measure well."""

    frequency_hz: np.ndarray
    z_ohm: NDArray[np.complex128]
    is_good: NDArray[np.bool_]


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
        self._turn = channel.turn
        self._limit = asyncio.timeout(None)
        self._telemetry = telemetry
        self._emitter = emitter
        self._tracker = tracker
        self._clock = clock
        self._criterion = criterion
        self._began_s = clock.elapsed_s()
        self._state = _State()
        self._probe_impedance_ohm: float | None = None
        self._energy_ev: float | None = None
        self._before: Rest | None = None

    async def wait(
        self,
        setpoint_k: float,
        probe: ProbeSettings | None,
        *,
        activation_energy_ev: float | None,
        before: Rest | None,
    ) -> SettleResult:
        """Return how the temperature was reached, or that it was not within the time-out.

        Args:
            setpoint_k: where the stage goes.
            probe: how to probe the sample; without it the stage alone decides.
            activation_energy_ev: the sample's, if it is known.
            before: where and how the sample was at rest last, which tells its energy otherwise.
        """
        self._energy_ev = activation_energy_ev
        self._before = before
        self._limit = limit = asyncio.timeout(self._criterion.timeout_s)
        try:
            async with limit:
                await self._stage(setpoint_k)
                if self._criterion.dwell_s is not None:
                    await self._dwell(setpoint_k, self._criterion.dwell_s)
                elif probe is not None:
                    await self._sample(setpoint_k, probe)
        except TimeoutError as error:
            # A silent instrument is no temperature that takes long, not even if its silence while
            # a probe is broken off hides behind the limit.
            if isinstance(error, InstrumentError) or not limit.expired():
                raise
            return self._result("timeout", self._why_not(setpoint_k))
        return self._result(*self._why())

    async def _stage(self, setpoint_k: float) -> None:
        """Return when the stage has stood at the setpoint for the window."""
        while True:
            entry = await self._telemetry.next_reading()
            if self._stage_stands(setpoint_k):
                return
            away_k = entry.reading.temperature_k - setpoint_k
            self._tracker.note(f"stage {away_k:+z.2f} K from setpoint")

    def _stage_stands(self, setpoint_k: float) -> bool:
        readings = self._telemetry.since(self._began_s)
        return stage_is_settled(readings, setpoint_k, self._criterion)

    async def _dwell(self, setpoint_k: float, dwell_s: float) -> None:
        """Return when the stage has stood at the setpoint for the dwell besides the window.

        A stage that leaves its band meanwhile has taken the sample along: the dwell begins anew.
        """
        while True:
            began_s = self._clock.elapsed_s()
            self._tracker.note("stage settled; dwelling", time_left_s=dwell_s)
            await asyncio.sleep(dwell_s)
            if is_in_band(self._telemetry.since(began_s), setpoint_k, self._criterion):
                return
            await self._stage(setpoint_k)

    async def _sample(self, setpoint_k: float, probe: ProbeSettings) -> None:
        """Return when the sample has come to rest, and the stage still stands."""
        await self._locate(probe)
        await self._probe(probe.sweep)
        while not (self._is_at_rest(setpoint_k) and self._stage_stands(setpoint_k)):
            self._tracker.note(self._note(), time_left_s=self._criterion.probe_interval_s)
            await asyncio.sleep(self._criterion.probe_interval_s)
            await self._probe(probe.sweep)

    def _is_at_rest(self, setpoint_k: float) -> bool:
        """Return whether two probes agree and little is still to come.

        A probe that scatters by more than a few percent would agree with anything.
        """
        state = self._state
        if len(state.probes) < _FEWEST_PROBES:
            return False
        before, after = state.probes[-2:]
        if after.u_resistance_ohm > _USELESS * after.resistance_ohm:
            return False
        allowed = allowed_change(self._criterion, before, after, self._known_energy_ev(setpoint_k))
        return abs(state.change) < allowed and abs(state.remainder) + state.u_remainder < allowed

    def _known_energy_ev(self, setpoint_k: float) -> float | None:
        """Return the sample's activation energy as far as it is known by now."""
        if self._energy_ev is not None or self._before is None:
            return self._energy_ev
        now = Rest(setpoint_k, self._state.probes[-1].resistance_ohm)
        return energy_between_ev(self._before, now)

    async def _locate(self, probe: ProbeSettings) -> None:
        """Find the frequency to probe at, from a coarse spectrum over the whole window."""
        start_hz, end_hz = probe.sweep.frequency_start_hz, probe.sweep.frequency_end_hz
        decades = abs(math.log10(start_hz / end_hz))
        n_points = max(2, math.ceil(decades * _LOCATE_POINTS_PER_DECADE) + 1)
        found = await self._measure(replace(probe.sweep, n_points=n_points, repeats_first=False))
        self._state.frequency_hz = probe.locate(found.frequency_hz, found.z_ohm)
        self._state.first_impedance_ohm = _first_impedance_ohm(found, start_hz)
        at = int(np.argmin(np.abs(found.frequency_hz - self._state.frequency_hz)))
        self._probe_impedance_ohm = float(abs(found.z_ohm[at]))

    async def _probe(self, sweep: Eis) -> None:
        """Measure the sample's resistance now, once more where the current range did not fit."""
        z_ohm = await self._short_measurement(sweep)
        self._state.add(self._clock.elapsed_s(), probe_from(list(z_ohm.real)))

    async def _short_measurement(self, sweep: Eis) -> NDArray[np.complex128]:
        """Return a probe's impedances in ohm: the good ones, or what the last try gave."""
        for _ in range(_TRIES - 1):
            found = await self._measure(self._short(sweep))
            self._probe_impedance_ohm = float(abs(found.z_ohm[-1]))
            if found.is_good.sum() >= _FEWEST_GOOD:
                return found.z_ohm[found.is_good]
        return (await self._measure(self._short(sweep))).z_ohm

    def _short(self, sweep: Eis) -> Eis:
        """Return the sweep of one probe."""
        low, high = sorted((sweep.frequency_start_hz, sweep.frequency_end_hz))
        return replace(
            sweep,
            frequency_start_hz=min(high, self._state.frequency_hz * _PROBE_SPREAD),
            frequency_end_hz=max(low, self._state.frequency_hz / _PROBE_SPREAD),
            n_points=_REPEATS,
            repeats_first=False,
            first_impedance_ohm=self._probe_impedance_ohm,
        )

    async def _measure(self, sweep: Eis) -> _Spectrum:
        """Measure a probe and record it in its own stream."""
        columns: dict[str, list[float]] = {name: [] for name in Eis.UNITS}
        units = {"time_s": "s", **Eis.UNITS}
        async with self._in_turn(), aclosing(self._potentiostat.eis(sweep)) as frames:
            async for frame in frames:
                stamps = {"time_s": [self._clock.elapsed_s()] * frame.n_points}
                await self._emitter.page(PROBE_STREAM, {**stamps, **frame.columns}, units)
                for name, column in frame.columns.items():
                    columns[name] += column
        z_ohm = np.array(columns["z_real_ohm"]) + 1j * np.array(columns["z_imag_ohm"])
        is_good = np.array([not int(bits) & _UNTRUSTED for bits in columns["status_bits"]])
        return _Spectrum(np.array(columns["frequency_hz"]), z_ohm, is_good)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncGenerator[None]:
        """Hold the potentiostat; while others have it, the time-out stands still."""
        loop, ends_s = asyncio.get_running_loop(), self._limit.when()
        began_s = loop.time()
        self._limit.reschedule(None)
        async with self._turn:
            if ends_s is not None:
                self._limit.reschedule(ends_s + loop.time() - began_s)
            yield

    def _note(self) -> str:
        if math.isnan(self._state.change):
            return f"stage settled; probing the sample at {self._state.frequency_hz:.3g} Hz"
        return f"sample drifts {self._state.change:+z.2%} between probes, {self._to_come()}"

    def _to_come(self) -> str:
        return f"{self._state.remainder:+z.2%} ± {self._state.u_remainder:.2%} still to come"

    def _why(self) -> tuple[SettleEnd, str]:
        """Return what has ended the wait, and that in words."""
        if self._state.probes:
            change = f"sample changed {self._state.change:+z.3%} between two probes"
            return "probe", f"stage settled; {change}, {self._to_come()}"
        if self._criterion.dwell_s:
            dwell = format_duration(self._criterion.dwell_s)
            return "dwell", f"stage within its band for {dwell} after it had settled"
        return "stage", "stage within its band and without slope for the window"

    def _why_not(self, setpoint_k: float) -> str:
        limit = f"not settled within {self._criterion.timeout_s:.0f} s"
        if not self._stage_stands(setpoint_k):
            latest_k = self._telemetry.mean_temperature_k(self._clock.elapsed_s())
            return f"{limit}: stage {latest_k - setpoint_k:+z.2f} K from setpoint"
        if self._criterion.dwell_s is not None:
            return f"{limit}: the dwell is not over"
        if math.isnan(self._state.change):
            return f"{limit}: too few probes of the sample that gave a resistance"
        last = self._state.probes[-1]
        if last.u_resistance_ohm > _USELESS * last.resistance_ohm:
            scatter = last.u_resistance_ohm / last.resistance_ohm
            return f"{limit}: the probe scatters by {scatter:.1%}; try a larger amplitude_v_rms"
        drifts = f"sample still drifts {self._state.change:+z.2%} between two probes"
        return f"{limit}: {drifts}, {self._to_come()}"

    def _result(self, ended_by: SettleEnd, reason: str) -> SettleResult:
        now_s = self._clock.elapsed_s()
        return SettleResult(
            is_settled=ended_by != "timeout",
            reason=reason,
            ended_by=ended_by,
            temperature_k=self._telemetry.mean_temperature_k(now_s - 60.0),
            duration_s=now_s - self._began_s,
            probe_frequency_hz=self._state.frequency_hz,
            probe_change=self._state.change,
            probe_resistance_ohm=self._state.probes[-1].resistance_ohm
            if self._state.probes
            else math.nan,
            probe_remainder=self._state.remainder,
            u_probe_remainder=self._state.u_remainder,
            first_impedance_ohm=self._state.first_impedance_ohm,
        )


def _first_impedance_ohm(found: _Spectrum, frequency_hz: float) -> float:
    """Return about |Z| at a frequency above the first well-measured one: capacitive at the most."""
    if not found.is_good.any():
        return math.nan
    at = int(np.argmax(found.is_good))
    return float(abs(found.z_ohm[at])) * min(1.0, float(found.frequency_hz[at]) / frequency_hz)


def settle_duration_s(
    from_k: float, to_k: float, rate_k_per_min: float, criterion: SettleCriterion
) -> float:
    """Return about how long a settle takes: ramp, window, and the dwell or a few probes."""
    ramp_s = ramp_duration_s(from_k, to_k, rate_k_per_min)
    wait_s = 4 * criterion.probe_interval_s if criterion.dwell_s is None else criterion.dwell_s
    return min(ramp_s + 1.5 * criterion.window_s + wait_s, criterion.timeout_s)
