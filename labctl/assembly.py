"""Assembly: joins rig, run, outbox, broker, recorder and store into a working whole.

The one place that knows them all. A run is the same code on a real rig, against simulated
instruments on sockets in scaled time, and on simulated instruments in process in virtual time.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar, cast

from labctl.cancellation import whatever_comes
from labctl.clock import RunClock, ScaledTimeLoop, VirtualTimeLoop, run_on
from labctl.documents import Room
from labctl.errors import BadInputError, LabctlError, NotStartedError, StreamError
from labctl.request import Prepared, RunRequest, new_run_id, prepare
from labctl.run.check import CheckedStep, check_plan
from labctl.run.executor import ENDING_ANYWAY, SAFE_STATE_TIMEOUT_S, Ending, Executor, RunOrder
from labctl.run.resumption import persons_word
from labctl.run_status import ShownRun
from labctl.signals import held_signals
from labctl.store.holder import held_folder, this_process
from labctl.store.reading import open_store
from labctl.store.sqlite import STORE_NAME
from labctl.stream.delivery import Delivery, delivery_from
from labctl.stream.outbox import OutboxLimits
from labctl.wiring import no_opener, opener_for, simulated_devices, simulated_world, wired_rig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from labctl.documents import Sink
    from labctl.instruments.rig import Rig
    from labctl.instruments.techniques import Identity
    from labctl.run.place import Place
    from labctl.run.progress import Progress
    from labctl.stream.link import Link

__all__ = [
    "Prepared",
    "RunReport",
    "RunRequest",
    "check",
    "new_run_id",
    "prepare",
    "run",
    "run_into",
    "simulated_devices",
]

_T = TypeVar("_T")

_DRAIN_TIMEOUT_S = 30.0
_SWITCH_INTERVAL_S = 0.0002


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What came of a request: the run's ending, and where its documents are.

    `undelivered` says why not every document is in a store; "" if every one is.
    `recorded_elsewhere` names who stores them if that is not the data folder's store; "" if it is.
    `went_wrong` says what failed after the run's end, such as closing the rig; "" for nothing.
    `n_left_by_others`: documents of earlier runs, maybe of another rig, that still wait beside it.
    """

    run_id: str
    ending: Ending
    duration_s: float
    undelivered: str
    store: Path
    recorded_elsewhere: str = ""
    went_wrong: str = ""
    n_left_by_others: int = 0


def check(request: RunRequest) -> list[CheckedStep]:
    """Return the steps that a request will take, all limits checked; nothing is opened.

    Raises:
        BadInputError: something is wrong or not allowed; says what.
    """
    prepared, steps = _checked(request)
    if prepared.config.simulation is not None:
        simulated_world(prepared.config, source=str(request.rig))
    return steps


def _checked(request: RunRequest) -> tuple[Prepared, list[CheckedStep]]:
    """Return a request validated, and its steps with all limits checked; errors as for `check`."""
    prepared = prepare(request)
    rig = wired_rig([prepared], no_opener)
    return prepared, check_plan(prepared.protocol, prepared.parameters, prepared.sample, rig)


def run(request: RunRequest, observer: Callable[[Progress], None]) -> RunReport:
    """Carry a request out and return what came of it; a signal to end aborts it.

    Raises:
        BadInputError: something is wrong or not allowed; nothing was started.
        UnreachableError, WrongInstrumentError: likewise, of an instrument.
        NotStartedError: a signal came before the run had begun.
    """
    prepared, _ = _checked(request)
    request.data.mkdir(parents=True, exist_ok=True)
    run_id = request.run_id or new_run_id(prepared.sample.name)
    with held_folder(request.data, this_process(run_id=run_id)):
        delivery = delivery_of(prepared)
        report = run_until_signal(
            loop_for(request), _main(prepared, run_id, delivery.link, observer)
        )
    return replace(report, recorded_elsewhere=delivery.elsewhere)


def delivery_of(prepared: Prepared) -> Delivery:
    """Return how the run's documents get to a store."""
    config = prepared.config
    return delivery_from(
        prepared.request.data,
        rig=config.name,
        mqtt=prepared.broker,
        is_recording=config.mqtt.record,
        recorders=config.mqtt.recorders,
        limits=OutboxLimits.of(config.outbox),
    )


def run_until_signal(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end on a loop; a signal cancels it, from now on."""
    with held_signals() as signals:

        async def cancellable() -> _T:
            signals.cancel(cast("asyncio.Task[Any]", asyncio.current_task()))
            return await main

        try:
            return run_on(loop, cancellable())
        except asyncio.CancelledError as error:
            message = "stopped before the run began; no instrument was touched"
            raise NotStartedError(message) from error


def loop_for(request: RunRequest) -> asyncio.AbstractEventLoop:
    """Return a new loop, on whose clock a request runs."""
    if request.is_simulated:
        # Loop and bus threads take turns thousands of times a second; each would wait 5 ms for an
        # MQTT thread at work. Until the process ends: nothing suffers from the shorter slices.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        return VirtualTimeLoop()
    return ScaledTimeLoop(request.speed)


def run_into(request: RunRequest, sink: Sink) -> Ending:
    """Carry a request out with its documents going to a sink of one's own; errors as for `run`."""
    prepared, _ = _checked(request)

    async def main() -> Ending:
        async with open_rig([prepared]) as (rig, identities):
            order = order_of(prepared, request.run_id or new_run_id(prepared.sample.name))
            return (await execute(order, prepared, rig, identities, sink, lambda _: None)).ending

    return run_until_signal(loop_for(request), main())


async def _main(
    prepared: Prepared, run_id: str, link: Link, observer: Callable[[Progress], None]
) -> RunReport:
    """Open the rig, run, make it safe, wait until everything is stored."""
    course = _Course()
    try:
        # The link first: where it cannot be had, the instruments must not hear from this run.
        async with link:
            await _check_run_id(prepared, link)
            check_room(link)
            async with _delivered(link, run_id, course):
                await _carry_out(prepared, run_id, link, observer, course)
    except LabctlError as error:
        if course.executed is None:
            raise
        course.undelivered = course.undelivered or str(error)
    except asyncio.CancelledError:  # of the link's end: files that the next recorder writes
        if course.executed is None:
            raise
    return _report(prepared, course)


@dataclass
class _Course:
    """How far a run has come, and what went wrong after it: something is said of either.

    `has_begun` from the moment on from which there may be documents.
    """

    has_begun: bool = False
    executed: Executed | None = None
    undelivered: str = ""
    went_wrong: str = ""
    n_left_by_others: int = 0


@asynccontextmanager
async def _delivered(link: Link, run_id: str, course: _Course) -> AsyncGenerator[None]:
    """Deliver what a run has said, whatever becomes of the body that it is carried out in.

    What fails after the run's end is noted; the run is over, and there is a report to give.
    """
    try:
        yield
    except LabctlError as error:
        if course.executed is None:
            raise
        course.went_wrong = str(error)
    finally:
        if course.has_begun:
            course.undelivered, course.n_left_by_others = await left_after_drain(link, [run_id])


async def left_after_drain(link: Link, run_ids: Sequence[str]) -> tuple[str, int]:
    """Wait until every document is stored.

    Returns:
        Why not every document of these runs is stored, "" if every one is; and how many documents
        of other runs still wait beside them.
    """
    try:
        n_left = await link.drain(_DRAIN_TIMEOUT_S)
        n_own = sum([await link.waiting_of(run_id) for run_id in run_ids]) if n_left else 0
    except LabctlError as error:
        return str(error), 0
    except asyncio.CancelledError:
        return "stopped before every document was stored", 0
    return (f"{n_own} documents are not stored yet" if n_own else ""), n_left - n_own


async def _carry_out(
    prepared: Prepared,
    run_id: str,
    link: Link,
    observer: Callable[[Progress], None],
    course: _Course,
) -> None:
    """Carry a run out on its rig, which is opened for that and closed again."""
    async with open_rig([prepared]) as (rig, identities):
        order = order_of(prepared, run_id)
        shown = ShownRun(link, order, prepared.channel, observer)
        course.has_begun = True
        course.executed = await execute(order, prepared, rig, identities, link, shown)
        shown.end(course.executed.ending)


def _report(prepared: Prepared, course: _Course) -> RunReport:
    executed = course.executed
    assert executed is not None  # noqa: S101 - else an error has said why not
    return RunReport(
        run_id=executed.run_id,
        ending=executed.ending,
        duration_s=executed.duration_s,
        undelivered=course.undelivered,
        store=prepared.request.data / STORE_NAME,
        went_wrong=course.went_wrong,
        n_left_by_others=course.n_left_by_others,
    )


async def _check_run_id(prepared: Prepared, link: Link) -> None:
    """Refuse a run id that was used before: its documents would count as delivered already."""
    run_id = prepared.request.run_id
    if run_id is None:
        return
    path = prepared.request.data / STORE_NAME
    is_stored = path.is_file() and any(run.run_id == run_id for run in open_store(path).runs())
    if is_stored or await link.last_seq(run_id) >= 0:
        raise BadInputError(f"run_id = {run_id!r}: there is such a run already")


def check_room(link: Link) -> None:
    """Refuse to begin what would have to pause at its first step."""
    if link.room is Room.NONE:
        raise StreamError(
            "no room for data: the disk is full, or the outbox is at its ceiling with what no "
            "recorder has stored yet"
        )


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A run that was carried out, and how long it took in its own time."""

    run_id: str
    ending: Ending
    duration_s: float


@asynccontextmanager
async def open_rig(
    runs: Sequence[Prepared],
) -> AsyncGenerator[tuple[Rig, Mapping[str, Identity]], None]:
    """Give the rig with its instruments open and safe, and who they are; close it at the end.

    Safe first, and whatever comes: whoever used the rig last may have been killed with the heater
    on, and whoever wants the end now wants it off, too.
    """
    rig = wired_rig(runs, opener_for(runs, asyncio.get_running_loop()))
    identities = await whatever_comes(
        rig.open_safe(timeout_s=SAFE_STATE_TIMEOUT_S), said=ENDING_ANYWAY
    )
    try:
        _check_not_cancelled()
        yield rig, identities
    finally:
        await whatever_comes(rig.close(), said=ENDING_ANYWAY)


def _check_not_cancelled() -> None:
    """Raise NotStartedError if somebody wanted the end while the rig was being opened."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise NotStartedError("stopped before the run began; the rig is safe: outputs off")


async def execute(
    order: RunOrder,
    prepared: Prepared,
    place: Place,
    identities: Mapping[str, Identity],
    sink: Sink,
    observer: Callable[[Progress], None],
) -> Executed:
    """Return how the run ended, what it was, and how long it took in its own time."""
    clock = RunClock(asyncio.get_running_loop(), epoch=prepared.request.epoch)
    executor = Executor(order, place, sink, clock, observer)
    about = {name: asdict(identities[name]) for name in place.drivers}
    ending = await executor.execute(about)
    return Executed(run_id=order.run_id, ending=ending, duration_s=clock.elapsed_s())


def order_of(prepared: Prepared, run_id: str) -> RunOrder:
    """Return what to run, for the executor."""
    request = prepared.request
    return RunOrder(
        run_id=run_id,
        protocol=prepared.protocol,
        parameters=prepared.parameters,
        sample=prepared.sample,
        provenance={
            "rig": prepared.config.name,
            "rig_file": prepared.rig_text,
            "is_simulated": request.is_simulated,
            "labctl_version": version("labctl-electrochem"),
            "python_version": platform.python_version(),
        },
        telemetry_interval_s=prepared.config.telemetry_interval,
        may_resume=_may_resume(prepared, run_id),
    )


def _may_resume(prepared: Prepared, run_id: str) -> Callable[[], Awaitable[None]]:
    """Return what a paused run awaits; a simulation waits for nobody."""

    async def at_once() -> None:
        pass

    if prepared.request.is_simulated or "outbox_full" in prepared.config.auto_resume:
        return at_once
    return partial(persons_word, prepared.request.data, run_id)
