"""The place of a run: its channel, and what has to be made safe when the run ends.

A run alone has a rig to itself. Runs side by side share stages, and potentiostats by a multiplexer:
whoever ends first leaves those as they are, and says who uses them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from labctl.documents import IN_USE
from labctl.run.shared_stage import SharedStage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.instruments.capabilities import Driver
    from labctl.instruments.rig import Channel, Rig
    from labctl.run.shared_stage import Seat

_TURN_S = 1.0  # who has not got the potentiostat by then leaves it to the run that measures there


class Place(Protocol):
    """Where a run measures; a rig with one channel is one."""

    @property
    def channel(self) -> Channel:
        """Return the channel."""
        ...

    @property
    def drivers(self) -> Mapping[str, Driver]:
        """Return the drivers of its instruments by name."""
        ...

    @property
    def in_use(self) -> Mapping[str, str]:
        """Return what goes on with the instruments that `safe_state` has left as they were."""
        ...

    async def safe_state(self, *, timeout_s: float) -> dict[str, str]:
        """Make the instruments safe; return "" or what went wrong by instrument."""
        ...


class SharedRig:
    """An open rig with a run on each of its channels.

    Args:
        rig: the rig.
        runs: the id of the run on each channel.
        interval_s: time between two readings of a stage.
    """

    def __init__(self, rig: Rig, runs: Mapping[str, str], *, interval_s: float) -> None:
        self._rig = rig
        self._runs = dict(runs)
        self._stages: dict[str, SharedStage] = {}
        for channel_name in runs:
            _, name = rig.instruments_of(channel_name)
            channel = rig.channels[channel_name]
            shared = SharedStage(name, channel.stage, channel.limits, interval_s=interval_s)
            self._stages.setdefault(name, shared)
        seats = {name: self.stage_of(name).seat(run_id) for name, run_id in runs.items()}
        self.places = {name: SharedPlace(self, rig, name, seat) for name, seat in seats.items()}

    @property
    def is_left(self) -> bool:
        """Return whether every run has left its place."""
        return not self._runs

    def stage_of(self, channel_name: str) -> SharedStage:
        """Return the stage of a channel."""
        return self._stages[self._rig.instruments_of(channel_name)[1]]

    def leave(self, channel_name: str) -> None:
        """Count the run on a channel no longer."""
        self._runs.pop(channel_name, None)

    def runs_on(self, potentiostat: str) -> list[str]:
        """Return the runs that use a potentiostat."""
        return [
            run_id
            for name, run_id in self._runs.items()
            if self._rig.instruments_of(name)[0] == potentiostat
        ]


class SharedPlace:
    """The place of one of several runs side by side."""

    def __init__(self, shared: SharedRig, rig: Rig, channel_name: str, seat: Seat) -> None:
        self.channel = rig.channels[channel_name].on_stage(seat)
        self.in_use: dict[str, str] = {}
        self._shared = shared
        self._rig = rig
        self._seat = seat
        self._stage = shared.stage_of(channel_name)
        self._names = rig.instruments_of(channel_name)
        self.drivers = {name: rig.drivers[name] for name in self._names}

    async def safe_state(self, *, timeout_s: float) -> dict[str, str]:
        """Leave the place, cell off; the heater goes off if nobody else needs it or it has failed.

        A potentiostat that measures at another input of its multiplexer has this cell off already.
        """
        self._shared.leave(self.channel.name)
        self._stage.leave(self._seat)
        cell, stage = await asyncio.gather(self._cell_off(timeout_s), self._heater_off(timeout_s))
        return {**cell, **stage}

    async def _cell_off(self, timeout_s: float) -> dict[str, str]:
        name, turn = self._names[0], self.channel.turn
        others = self._shared.runs_on(name)
        if not others:
            return await self._rig.safe_state(timeout_s=timeout_s, names=[name])
        try:
            async with asyncio.timeout(_TURN_S):
                await turn.acquire()
        except TimeoutError:
            self.in_use[name] = IN_USE + ", ".join(others)
            return {}
        try:
            return await self._rig.safe_state(timeout_s=timeout_s, names=[name])
        finally:
            turn.release()

    async def _heater_off(self, timeout_s: float) -> dict[str, str]:
        name, others = self._names[1], self._stage.others(self._seat)
        if others and not self._stage.is_lost:
            self.in_use[name] = IN_USE + ", ".join(others)
            return {}
        return await self._rig.safe_state(timeout_s=timeout_s, names=[name])
