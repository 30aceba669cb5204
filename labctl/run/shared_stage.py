"""A stage that several cells share: it moves when all have asked for it, and is read for all.

Each run has a seat, which is a stage to it: what the run asks of it waits for the others.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from labctl.errors import BadInputError, InstrumentError, LimitError
from labctl.quantities import celsius

if TYPE_CHECKING:
    from labctl.errors import LabctlError
    from labctl.instruments.capabilities import TemperatureStage
    from labctl.instruments.rig import Limits
    from labctl.instruments.techniques import StageLimits, StageReading

_FRESH = 0.1  # of the interval: a reading for all may be so old when one of them takes it
_SAME_K = 1e-6
_OVERSHOOT_K = 2.0  # a stage at the highest setpoint allowed may pass it by this much


def reading_fault(reading: StageReading, limits: Limits) -> LabctlError | None:
    """Return what is wrong with a stage that gives such a reading; None if nothing is."""
    if reading.status_bits or math.isnan(reading.temperature_k):
        message = f"its temperature cannot be trusted (status bits {reading.status_bits})"
        return InstrumentError("stage", message)
    highest_k = limits.temperature_k[1]
    if reading.temperature_k > highest_k + _OVERSHOOT_K:
        here, allowed = celsius(reading.temperature_k), celsius(highest_k)
        return LimitError(f"stage at {here:.1f} degC: the rig allows {allowed:.1f} degC")
    return None


class SharedStage:
    """A stage and the runs on it.

    `is_lost` says that the stage has failed or cannot be trusted: it must not stay hot for anyone.

    Args:
        name: the stage's name in the rig.
        stage: its driver.
        limits: what the rig allows it.
        interval_s: time between two readings.
    """

    def __init__(
        self, name: str, stage: TemperatureStage, limits: Limits, *, interval_s: float
    ) -> None:
        self.name = name
        self.is_lost = False
        self._stage = stage
        self._limits = limits
        self._interval_s = interval_s
        self._seats: list[Seat] = []
        self._changed = asyncio.Event()
        self._moving = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._last: StageReading | None = None
        self._n_readings = 0
        self._read_at_s = -math.inf

    @property
    def limits(self) -> StageLimits:
        """Return the stage's own limits."""
        return self._stage.limits

    def seat(self, run_id: str) -> Seat:
        """Return the stage as one run has it, from now on one of those that it waits for."""
        seat = Seat(self, run_id)
        self._seats.append(seat)
        return seat

    def others(self, seat: Seat) -> list[str]:
        """Return the other runs on the stage."""
        return [each.run_id for each in self._seats if each is not seat]

    def leave(self, seat: Seat) -> None:
        """Wait no longer for a run."""
        if seat in self._seats:
            self._seats.remove(seat)
        self.tell()

    def tell(self) -> None:
        """Let those who wait for the others look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def read_for(self, seat: Seat) -> StageReading:
        """Return a reading that a run has not got yet; the wire is asked once per interval."""
        async with self._reading:
            if self._last is None or not self._is_fresh_for(seat):
                self._last = await self._read_when_due()
            seat.n_readings = self._n_readings
            return self._last

    def _is_fresh_for(self, seat: Seat) -> bool:
        age_s = asyncio.get_running_loop().time() - self._read_at_s
        return seat.n_readings < self._n_readings and age_s <= _FRESH * self._interval_s

    async def _read_when_due(self) -> StageReading:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._read_at_s + self._interval_s - loop.time()))
        self._read_at_s = loop.time()
        try:
            reading = await self._stage.read()
        except InstrumentError:
            self.is_lost = True
            raise
        self._n_readings += 1
        self.is_lost |= reading_fault(reading, self._limits) is not None
        return reading

    def check_agrees(self, seat: Seat, temperature_k: float) -> None:
        """Raise BadInputError if a run asks for another setpoint than one that waits."""
        for other in self._seats:
            wanted_k = temperature_k if other.wanted is None else other.wanted[0]
            if abs(wanted_k - temperature_k) > _SAME_K:
                raise BadInputError(
                    f"{self.name}: shared with run {other.run_id}, which waits to go to "
                    f"{celsius(wanted_k):g} degC; {celsius(temperature_k):g} degC would leave "
                    "it behind"
                )

    async def move_when_all_have_asked(self, seat: Seat) -> None:
        """Return when the stage is on its way to what a run has asked for."""
        while seat.is_waiting:
            async with self._moving:
                await self._move_if_all_have_asked()
            if seat.is_waiting:
                await self._changed.wait()

    async def _move_if_all_have_asked(self) -> None:
        wanted = [each.wanted for each in self._seats if each.wanted is not None]
        if not wanted or len(wanted) < len(self._seats):
            return
        slowest = min(rate for _, rate in wanted)
        try:
            await self._stage.ramp_to(wanted[0][0], rate_k_per_min=slowest)
        except InstrumentError:
            self.is_lost = True
            raise
        for each in self._seats:
            each.wanted = None
        self.tell()


class Seat:
    """The shared stage as one run has it.

    Attributes:
        run_id: the run.
        wanted: temperature in K and rate in K/min that the run has asked for and waits to have.
        n_readings: how many readings there were when the run took the last one.
    """

    def __init__(self, stage: SharedStage, run_id: str) -> None:
        self.run_id = run_id
        self.wanted: tuple[float, float] | None = None
        self.n_readings = 0
        self.limits = stage.limits
        self._stage = stage

    @property
    def is_waiting(self) -> bool:
        """Return whether the run waits for the others."""
        return self.wanted is not None

    async def read(self) -> StageReading:
        """Return the next reading, the same for every run on the stage."""
        return await self._stage.read_for(self)

    async def ramp_to(self, temperature_k: float, *, rate_k_per_min: float) -> None:
        """Start towards a temperature once every run on the stage wants that.

        At the slowest of the rates that they want.

        Raises:
            BadInputError: another run waits to go elsewhere.
            LimitError: temperature or rate outside the stage's limits; nothing was sent.
        """
        self._stage.check_agrees(self, temperature_k)
        self.wanted = temperature_k, rate_k_per_min
        self._stage.tell()
        try:
            await self._stage.move_when_all_have_asked(self)
        finally:
            self.wanted = None
