"""The executor: carries out one run and sees to its ending, whatever happens.

Every way out (finished, failed, aborted) passes the safe state: cell off, heater off, under a time
limit and shielded from further cancellation. Then run_stop says how it went, in counted points.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labctl.cancellation import whatever_comes
from labctl.documents import OUTPUTS_OFF, Reason
from labctl.errors import LabctlError
from labctl.run.check import timed
from labctl.run.emitter import Emitter
from labctl.run.pause import Pause
from labctl.run.progress import Progress, ProgressTracker
from labctl.run.run import Run
from labctl.run.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from labctl.clock import RunClock
    from labctl.config import SampleConfig
    from labctl.documents import Sink
    from labctl.run.place import Place
    from labctl.run.protocol import Parameters, PlannedStep, Protocol

_log = logging.getLogger(__name__)
SAFE_STATE_TIMEOUT_S = 30.0
ENDING_ANYWAY = "already making the rig safe; please wait"
"""What whoever wants the end is told where it is under way and must not be cut short."""


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """What to run: everything that does not depend on instruments being there.

    Attributes:
        run_id: unique name of the run.
        protocol: the script.
        parameters: its validated parameters.
        sample: what is measured.
        provenance: what else run_start shall tell (rig file, versions, host).
        telemetry_interval_s: time between two readings of the stage.
        may_resume: returns once a paused run may go on after its cause is mended.
    """

    run_id: str
    protocol: Protocol[Any]
    parameters: Parameters
    sample: SampleConfig
    provenance: Mapping[str, Any]
    telemetry_interval_s: float
    may_resume: Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended.

    Attributes:
        reason: completed, aborted, failed or truncated.
        message: one sentence for people.
        expected_points: points by stream, as planned.
        forgone_points: those of them that the script chose not to measure.
        actual_points: points by stream that were emitted.
        unsafe: instruments that could not be made safe, with the reason; empty is good.
        error: what made it fail.
    """

    reason: Reason
    message: str
    expected_points: Mapping[str, int]
    forgone_points: Mapping[str, int]
    actual_points: Mapping[str, int]
    unsafe: Mapping[str, str]
    error: BaseException | None = None


class Executor:
    """Carries out one run at its place on an open rig."""

    def __init__(
        self,
        order: RunOrder,
        place: Place,
        sink: Sink,
        clock: RunClock,
        observer: Callable[[Progress], None],
    ) -> None:
        self._order = order
        self._place = place
        self._plan: list[PlannedStep] = order.protocol.plan(order.parameters, order.sample)
        self._emitter = Emitter(order.run_id, sink, clock)
        channel = place.channel
        steps = timed(self._plan, channel.limits)
        tracker = ProgressTracker(steps, clock.elapsed_s, observer)
        self._telemetry = Telemetry(
            channel, self._emitter, clock, tracker, interval_s=order.telemetry_interval_s
        )
        self._pause = Pause(
            sink, channel, self._emitter, self._telemetry, tracker, order.may_resume
        )
        self._run = Run(
            run_id=order.run_id,
            sample=order.sample,
            channel=channel,
            plan=self._plan,
            emitter=self._emitter,
            telemetry=self._telemetry,
            tracker=tracker,
            clock=clock,
            pause=self._pause,
        )

    async def execute(self, identities: Mapping[str, Any]) -> Ending:
        """Carry the run out and return how it ended; an abort is a cancellation of this call."""
        error: BaseException | None = None
        try:
            await self._emitter.start(self._start_body(identities))
            await self._carry_out()
        except* asyncio.CancelledError as group:
            error = group.exceptions[0]
        except* LabctlError as group:
            error = _first(group)
        except* BaseException as group:  # noqa: BLE001 - the run's outer edge, also for sys.exit()
            error = _first(group)
            _log.exception("%s failed", self._order.run_id, exc_info=error)
        return await whatever_comes(self._end(error), said=ENDING_ANYWAY)

    async def _carry_out(self) -> None:
        """Run the script with telemetry beside it; whichever fails stops the other."""
        async with asyncio.TaskGroup() as group:
            telemetry = group.create_task(self._telemetry.run())
            await self._order.protocol.script(self._run, self._order.parameters)
            telemetry.cancel()

    def _start_body(self, identities: Mapping[str, Any]) -> dict[str, Any]:
        """Return what run_start tells a reader of the data."""
        order = self._order
        return {
            "protocol": order.protocol.name,
            "parameters": order.parameters.model_dump(mode="json"),
            "sample": order.sample.model_dump(mode="json"),
            "channel": self._place.channel.name,
            "instruments": dict(identities),
            "expected_points": self._run.expected_points,
            **order.provenance,
        }

    async def _end(self, error: BaseException | None) -> Ending:
        """Make the place safe, then say how the run ended."""
        unsafe = {
            name: problem
            for name, problem in (
                await self._place.safe_state(timeout_s=SAFE_STATE_TIMEOUT_S)
            ).items()
            if problem
        }
        if unsafe:  # at once: what comes after may take its time, or fail
            _log.critical("NOT SAFE: %s", "; ".join(unsafe.values()))
        with suppress(LabctlError):  # what keeps a reading from being kept, run_stop meets as well
            await self._telemetry.record_rest()
        reason, message = self._judge(error, unsafe)
        ending = Ending(
            reason=reason,
            message=message,
            expected_points=self._run.expected_points,
            forgone_points=self._run.forgone_points,
            actual_points=self._emitter.points,
            unsafe=unsafe,
            error=error,
        )
        return await self._tell(ending)

    async def _tell(self, ending: Ending) -> Ending:
        """Emit run_stop; where even that fails the run has none and counts as interrupted."""
        body = {
            "message": ending.message,
            "expected_points": dict(ending.expected_points),
            "forgone_points": dict(ending.forgone_points),
            "safe_state": {
                **dict.fromkeys(self._place.drivers, OUTPUTS_OFF),
                **self._place.in_use,
                **ending.unsafe,
            },
        }
        try:
            await self._emitter.stop(ending.reason, body)
        except Exception as error:  # noqa: BLE001 - nothing may hide how the run really ended
            message = f"{ending.message}; the run's end could not be recorded: {error}"
            return replace(ending, reason=Reason.FAILED, message=message, error=error)
        return ending

    def _judge(self, error: BaseException | None, unsafe: Mapping[str, str]) -> tuple[Reason, str]:
        """Return how the run ended: success only if every point was measured that was to be.

        Steps that the script has forgone, by a policy that a person chose, are not missed, as long
        as they are not all there was to measure.
        """
        if unsafe:
            cause = f" (after: {error or type(error).__name__})" if error is not None else ""
            return Reason.FAILED, "NOT SAFE: " + "; ".join(unsafe.values()) + cause
        if isinstance(error, asyncio.CancelledError):
            return Reason.ABORTED, "aborted by request"
        if error is not None:
            return Reason.FAILED, f"{error}" or type(error).__name__
        missing = self._missing()
        if missing:
            return Reason.TRUNCATED, f"points are missing: {missing}"
        if self._run.measures_nothing:
            return Reason.TRUNCATED, "nothing was measured" + self._reservations()
        every = "every point that was not skipped" if self._run.forgone else "every expected point"
        return Reason.COMPLETED, f"{every} was measured" + self._reservations()

    def _reservations(self) -> str:
        """Return what a reader of a complete run must know all the same, in words."""
        run = self._run
        skipped = f"; skipped: {', '.join(run.forgone)}" if run.forgone else ""
        early = f"; ended early: {run.conclusion}" if run.conclusion else ""
        unsettled = f"; not settled: {', '.join(run.unsettled)}" if run.unsettled else ""
        return (
            skipped
            + early
            + unsettled
            + (f"; pauses: {self._pause.count}" if self._pause.count else "")
        )

    def _missing(self) -> str:
        """Return which streams have another number of points than expected, in words."""
        actual, forgone = self._emitter.points, self._run.forgone_points
        due = {
            stream: count - forgone.get(stream, 0)
            for stream, count in self._run.expected_points.items()
        }
        counts = [(stream, actual.get(stream, 0), count) for stream, count in due.items()]
        return ", ".join(f"{name} {got} of {count}" for name, got, count in counts if got != count)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first exception inside a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
