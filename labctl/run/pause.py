"""Pause: cell off, temperature held, until what made the run pause is mended.

So far one thing does: a sink without room. The run waits at the start of its next step, and goes on
by itself only if the rig file says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.documents import Room

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from labctl.documents import Sink
    from labctl.instruments.rig import Channel
    from labctl.run.emitter import Emitter
    from labctl.run.progress import ProgressTracker
    from labctl.run.telemetry import Telemetry

STREAM = "pause"
_NO_ROOM = "no room in the outbox"


class Pause:
    """Pauses a run while its sink has no room.

    Args:
        may_resume: returns once the run may go on after its cause is mended: at once, or when a
            person says so.
    """

    def __init__(
        self,
        sink: Sink,
        channel: Channel,
        emitter: Emitter,
        telemetry: Telemetry,
        tracker: ProgressTracker,
        may_resume: Callable[[], Awaitable[None]],
    ) -> None:
        self.count = 0
        self._sink = sink
        self._channel = channel
        self._emitter = emitter
        self._telemetry = telemetry
        self._tracker = tracker
        self._may_resume = may_resume

    async def while_no_room(self) -> None:
        """Return when the next step may begin: at once, or after a pause."""
        while self._sink.room is Room.NONE:
            await self._pause()

    async def _pause(self) -> None:
        self.count += 1
        async with self._channel.turn:
            await self._channel.potentiostat.cell_off()
        await self._emitter.event(STREAM, {"phase": "begin", "reason": _NO_ROOM})
        self._tracker.pause(f"PAUSED, cell off, temperature held: {_NO_ROOM}")
        with self._telemetry.unrecorded():
            await self._sink.room_again()
            self._tracker.pause("PAUSED: there is room again; `labctl resume` lets the run go on")
            await self._may_resume()
        self._tracker.go_on()
        await self._emitter.event(STREAM, {"phase": "end"})
