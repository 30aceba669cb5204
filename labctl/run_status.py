"""What a channel says over MQTT about the run on it, made of the run's progress and its ending."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.documents import Reason
from labctl.run.progress import Progress
from labctl.stream.status import ChannelState, ChannelStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.run.executor import Ending, RunOrder
    from labctl.stream.link import Link


class ShownRun:
    """Shows one run on a channel's retained status; an observer of progress that passes it on."""

    def __init__(
        self, link: Link, order: RunOrder, channel: str, observer: Callable[[Progress], None]
    ) -> None:
        self._link = link
        self._order = order
        self._channel = channel
        self._observer = observer
        self._now = Progress()

    def __call__(self, progress: Progress) -> None:
        """Show progress; how often it is published is the link's affair."""
        self._now = progress
        state = ChannelState.PAUSED if progress.is_paused else ChannelState.RUNNING
        self._link.show(self._channel, self._status(state))
        self._observer(replace(progress, trouble=self._link.trouble))

    def end(self, ending: Ending) -> None:
        """Show how the run ended."""
        status = self._status(ChannelState.ENDED)
        said = {"outcome": ending.reason.value, "message": ending.message, "time_left_s": 0.0}
        if ending.reason is Reason.COMPLETED:
            said["progress"] = 1.0
        self._link.show(self._channel, status.model_copy(update=said))

    def _status(self, state: ChannelState) -> ChannelStatus:
        now = self._now
        total_s = now.elapsed_s + now.time_left_s
        return ChannelStatus(
            state=state,
            run_id=self._order.run_id,
            protocol=self._order.protocol.name,
            sample=self._order.sample.name,
            step=min(now.steps_done + 1, now.steps_total),
            steps=now.steps_total,
            step_key=now.step,
            note=now.note,
            progress=now.elapsed_s / total_s if total_s > 0 else 0.0,
            elapsed_s=now.elapsed_s,
            time_left_s=now.time_left_s,
            temperature_k=now.temperature_k,
            setpoint_k=now.setpoint_k,
            last_point=dict(now.last_point),
        )
