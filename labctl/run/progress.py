"""Progress: where a run is and how long it still takes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labctl.run.check import CheckedStep

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a person beside the rig wants to know; `trouble` is for who sees to the data to fill.

    `is_paused` while the run waits, cell off, until what made it pause is mended.
    """

    step: str = ""
    note: str = ""
    steps_done: int = 0
    steps_total: int = 0
    elapsed_s: float = 0.0
    time_left_s: float = 0.0
    temperature_k: float | None = None
    setpoint_k: float | None = None
    last_point: dict[str, float] = field(default_factory=dict[str, float])
    trouble: str = ""
    is_paused: bool = False


class ProgressTracker:
    """Follows a plan and tells an observer of every change; one that fails is told no more."""

    def __init__(
        self,
        steps: Sequence[CheckedStep],
        elapsed_s: Callable[[], float],
        observer: Callable[[Progress], None],
    ) -> None:
        self._durations = {step.key: step.duration_s for step in steps}
        self._elapsed_s = elapsed_s
        self._observer: Callable[[Progress], None] | None = observer
        self._step_began_s = 0.0
        self._current_left_s: float | None = None
        self._ahead_s = sum(self._durations.values())  # not anew for each point of 1,000 cycles
        self._now = Progress(steps_total=len(steps), time_left_s=self._ahead_s)

    def begin(self, key: str) -> None:
        """Note that a step begins; planned ones before it that were not taken will not be."""
        self._drop_before(key)
        self._step_began_s = self._elapsed_s()
        self._current_left_s = None
        self._tell(step=key, note="", last_point={})

    def _drop_before(self, key: str) -> None:
        if key not in self._durations:
            return
        passed = list(takewhile(lambda planned: planned != key, self._durations))
        if not passed:
            return
        for planned in passed:
            del self._durations[planned]
        self._ahead_s = sum(self._durations.values())
        self._now = replace(self._now, steps_done=self._now.steps_done + len(passed))

    def end(self, key: str) -> None:
        """Note that a step has ended, or will not be taken."""
        self._durations.pop(key, None)
        self._ahead_s = sum(self._durations.values())
        self._tell(steps_done=self._now.steps_done + 1)

    def note(self, text: str, *, time_left_s: float | None = None) -> None:
        """Say what the step is doing, and how long it still takes if that is known better now."""
        if time_left_s is not None:
            self._current_left_s = time_left_s
            self._step_began_s = self._elapsed_s()
        self._tell(note=text)

    def pause(self, text: str) -> None:
        """Note that the run is paused, and what it waits for."""
        self._tell(note=text, is_paused=True)

    def go_on(self) -> None:
        """Note that a pause is over."""
        self._tell(note="", is_paused=False)

    def stage(self, temperature_k: float, setpoint_k: float) -> None:
        """Note the stage's temperature and setpoint."""
        self._tell(temperature_k=temperature_k, setpoint_k=setpoint_k)

    def point(self, point: dict[str, float]) -> None:
        """Note the newest point of the running technique."""
        self._tell(last_point=point)

    def _tell(self, **changes: object) -> None:
        elapsed_s = self._elapsed_s()
        left_s = self._time_left_s(str(changes.get("step", self._now.step)), elapsed_s)
        self._now = replace(self._now, elapsed_s=elapsed_s, time_left_s=left_s, **changes)  # type: ignore[arg-type]
        self._show()

    def _show(self) -> None:
        """Tell the observer; a display, whatever becomes of it, does not end a measurement."""
        if self._observer is None:
            return
        try:
            self._observer(self._now)
        except (Exception, SystemExit):  # noqa: BLE001 - whatever an observer may do
            self._observer = None
            _log.exception("the display of the progress has failed; the run goes on without it")

    def _time_left_s(self, step: str, elapsed_s: float) -> float:
        """Return the planned time of what lies ahead, the running step's share included."""
        planned = self._durations.get(step, 0.0)
        ahead = self._ahead_s - planned
        current = planned if self._current_left_s is None else self._current_left_s
        return ahead + max(0.0, current - (elapsed_s - self._step_began_s))
