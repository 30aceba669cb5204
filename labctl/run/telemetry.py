"""Telemetry: the stage's temperature, recorded beside the measurement while a run lasts."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from labctl.instruments.techniques import StageReading
from labctl.run.shared_stage import reading_fault

if TYPE_CHECKING:
    from collections.abc import Generator

    from labctl.clock import RunClock
    from labctl.instruments.rig import Channel
    from labctl.run.emitter import Emitter
    from labctl.run.progress import ProgressTracker

STREAM = "temperature"
_UNITS = {"time_s": "s", **StageReading.UNITS}
_KEPT_S = 86400.0


@dataclass(frozen=True)
class TimedReading:
    """A stage reading and when it was taken, in s since the run's start."""

    time_s: float
    reading: StageReading


class Telemetry:
    """Reads the stage at a fixed interval, records every reading and lets others wait for them.

    Readings are checked at once and recorded beside that: a disk that hangs keeps no hot stage
    from being noticed.
    """

    def __init__(
        self,
        channel: Channel,
        emitter: Emitter,
        clock: RunClock,
        tracker: ProgressTracker,
        *,
        interval_s: float,
    ) -> None:
        self._channel = channel
        self._emitter = emitter
        self._clock = clock
        self._tracker = tracker
        self._interval_s = interval_s
        self._is_recorded = True
        self._due: deque[dict[str, list[float]]] = deque()
        self._has_due = asyncio.Event()
        self._readings: deque[TimedReading] = deque()
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Read and record until cancelled; each error comes in a group.

        Raises:
            InstrumentError: the stage is lost, or says that its reading cannot be trusted.
            LimitError: the stage is hotter than the rig allows.
            StreamError: readings can no longer be kept.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._record())

    async def record_rest(self) -> None:
        """Record what has been read and is not recorded yet: also what ended the reading.

        Raises:
            StreamError: it cannot be kept.
        """
        while self._due:
            await self._emitter.page(STREAM, self._due.popleft(), _UNITS)

    async def _record(self) -> None:
        while True:
            await self._has_due.wait()
            self._has_due.clear()
            await self.record_rest()

    async def _read(self) -> None:
        while True:
            began_s = self._clock.elapsed_s()
            await self._take(await self._channel.stage.read())
            spent_s = self._clock.elapsed_s() - began_s
            await asyncio.sleep(max(0.0, self._interval_s - spent_s))

    @contextmanager
    def unrecorded(self) -> Generator[None]:
        """Go on reading and checking, but record nothing: there is no room for it."""
        self._is_recorded = False
        try:
            yield
        finally:
            self._is_recorded = True

    async def _take(self, reading: StageReading) -> None:
        now_s = self._clock.elapsed_s()
        columns = {"time_s": [now_s], **{name: [v] for name, v in asdict(reading).items()}}
        if self._is_recorded:
            self._due.append(columns)
            self._has_due.set()
        self._check(reading)
        self._readings.append(TimedReading(now_s, reading))
        while self._readings[0].time_s < now_s - _KEPT_S:
            self._readings.popleft()
        self._tracker.stage(reading.temperature_k, reading.setpoint_k)
        async with self._news:
            self._news.notify_all()

    def _check(self, reading: StageReading) -> None:
        """Raise if the reading cannot be trusted or is above what the rig allows."""
        fault = reading_fault(reading, self._channel.limits)
        if fault is not None:
            raise fault

    async def next_reading(self) -> TimedReading:
        """Return the next reading as soon as it is there."""
        async with self._news:
            await self._news.wait()
        return self._readings[-1]

    def since(self, time_s: float) -> list[TimedReading]:
        """Return the readings from `time_s` on, oldest first."""
        newest_first = takewhile(lambda entry: entry.time_s >= time_s, reversed(self._readings))
        return list(newest_first)[::-1]

    def mean_temperature_k(self, since_s: float) -> float:
        """Return the mean temperature since an instant; the last reading if there was none."""
        entries = self.since(since_s) or list(self._readings)[-1:]
        if not entries:
            return math.nan
        return sum(entry.reading.temperature_k for entry in entries) / len(entries)
