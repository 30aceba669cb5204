"""Campaigns: entries of runs side by side, each on its own channel, all on one rig and one link."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from labctl.assembly import (
    check_room,
    delivery_of,
    execute,
    left_after_drain,
    loop_for,
    open_rig,
    order_of,
    run_until_signal,
)
from labctl.campaign_file import Campaign, prepare_campaign, samples_to_change
from labctl.cancellation import whatever_comes
from labctl.clock import VirtualTimeLoop, utc_now
from labctl.documents import Reason
from labctl.errors import BadInputError, LabctlError
from labctl.request import new_run_id
from labctl.run.check import check_plan
from labctl.run.executor import ENDING_ANYWAY, SAFE_STATE_TIMEOUT_S
from labctl.run.place import SharedRig
from labctl.run_status import ShownRun
from labctl.signals import held_signals
from labctl.store.holder import held_folder, this_process
from labctl.store.sqlite import STORE_NAME
from labctl.wiring import no_opener, simulated_devices, wired_rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from labctl.campaign_file import CampaignRequest, Entry
    from labctl.instruments.rig import Rig
    from labctl.instruments.techniques import Identity
    from labctl.request import Prepared
    from labctl.run.check import CheckedStep
    from labctl.run.place import SharedPlace
    from labctl.run.progress import Progress
    from labctl.stream.link import Link

    ObserverFor = Callable[[str], Callable[[Progress], None]]

NOT_STARTED = "not started"


@dataclass(frozen=True, kw_only=True)
class CheckedRun:
    """One run of a campaign with what is known about it before it begins."""

    entry: str
    channel: str
    sample: str
    protocol: str
    steps: list[CheckedStep]


@dataclass(frozen=True, kw_only=True)
class CampaignRun:
    """What came of one run of a campaign.

    Attributes:
        entry: name of the entry it belongs to.
        channel: the channel it was on.
        sample: the sample's name.
        run_id: the run.
        reason: completed, aborted, failed, truncated, or "not started".
        message: one sentence for people.
        expected_points: points by stream, as planned.
        actual_points: points by stream that were emitted.
        unsafe: instruments that could not be made safe, with the reason; empty is good.
        duration_s: how long it took in its own time.
    """

    entry: str
    channel: str
    sample: str
    run_id: str
    reason: str
    message: str
    expected_points: Mapping[str, int] = field(default_factory=dict[str, int])
    actual_points: Mapping[str, int] = field(default_factory=dict[str, int])
    unsafe: Mapping[str, str] = field(default_factory=dict[str, str])
    duration_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CampaignReport:
    """What came of a campaign; `undelivered` and what follows as in a RunReport."""

    campaign_id: str
    runs: tuple[CampaignRun, ...]
    undelivered: str
    store: Path
    recorded_elsewhere: str
    went_wrong: str

    @property
    def is_complete(self) -> bool:
        """Return whether every run is complete and stored."""
        is_done = all(run.reason == Reason.COMPLETED for run in self.runs)
        return is_done and not self.undelivered


def check(request: CampaignRequest) -> list[CheckedRun]:
    """Return the runs of a campaign with their steps, all limits checked; nothing is opened.

    Raises:
        BadInputError: something is wrong or not allowed; says what.
    """
    campaign = prepare_campaign(request)
    runs = _checked_runs(campaign)
    _check_twins(campaign)
    return runs


def _checked_runs(campaign: Campaign) -> list[CheckedRun]:
    return [
        CheckedRun(
            entry=entry.name,
            channel=run.channel,
            sample=run.sample.name,
            protocol=run.protocol.name,
            steps=_checked_steps(run),
        )
        for entry in campaign.entries
        for run in entry.runs
    ]


def _checked_steps(run: Prepared) -> list[CheckedStep]:
    rig = wired_rig([run], no_opener)
    try:
        return check_plan(run.protocol, run.parameters, run.sample, rig)
    except BadInputError as error:
        raise type(error)(f"{run.request.sample} on {run.channel}: {error}") from error


def run(request: CampaignRequest, observer_for: ObserverFor) -> CampaignReport:
    """Carry a campaign out and return what came of it; a signal to end aborts all of it.

    Args:
        request: the campaign.
        observer_for: returns what is told of the progress on a channel.

    Raises:
        BadInputError: something is wrong or not allowed; nothing was started.
        UnreachableError, WrongInstrumentError: likewise, of an instrument.
        NotStartedError: a signal came before the first run had begun.
    """
    campaign = prepare_campaign(request)
    _checked_runs(campaign)
    _check_samples(campaign)
    first = campaign.entries[0].runs[0]
    request.data.mkdir(parents=True, exist_ok=True)
    campaign_id = request.campaign_id or new_run_id(campaign.name)
    with held_folder(request.data, this_process(run_id=campaign_id)), held_signals():
        delivery = delivery_of(first)
        course = _Course(campaign, campaign_id, delivery.link, observer_for)
        run_until_signal(loop_for(first.request), course.run())
    return CampaignReport(
        campaign_id=campaign_id,
        runs=tuple(course.runs),
        undelivered=course.undelivered,
        store=request.data / STORE_NAME,
        recorded_elsewhere=delivery.elsewhere,
        went_wrong=course.went_wrong,
    )


def _check_samples(campaign: Campaign) -> None:
    """Raise BadInputError if simulated cells are missing, or samples have to be changed."""
    if campaign.request.is_simulated:
        return _check_twins(campaign, are_needed=True)
    problem = samples_to_change(campaign)
    if problem:
        raise BadInputError(problem)
    return None


def _check_twins(campaign: Campaign, *, are_needed: bool = False) -> None:
    """Raise BadInputError if what stands for rig and samples in a simulation is wrong."""
    for entry in campaign.entries:
        first = entry.runs[0]
        if are_needed or first.config.simulation is not None:
            source = str(first.request.rig)
            simulated_devices(first.config, source=source, mounted=entry.runs)


class _Course:
    """A campaign under way.

    Attributes:
        runs: what came of each run so far.
        undelivered: why not every document is in a store; "" if every one is.
        went_wrong: what failed besides the runs.
    """

    def __init__(
        self, campaign: Campaign, campaign_id: str, link: Link, observer_for: ObserverFor
    ) -> None:
        self.runs: list[CampaignRun] = []
        self.undelivered = ""
        self.went_wrong = ""
        self._campaign = campaign
        self._id = campaign_id
        self._link = link
        self._observer_for = observer_for
        self._epoch = campaign.request.epoch or utc_now()
        self._has_begun = False

    async def run(self) -> None:
        """Carry out the entries in turn, then wait until everything is stored."""
        try:
            async with self._link:
                await self._delivered_entries()
        except LabctlError as error:
            if not self._has_begun:
                raise
            self.undelivered = self.undelivered or str(error)
        except asyncio.CancelledError:  # of the link's end: files that the next recorder writes
            if not self._has_begun:
                raise

    async def _delivered_entries(self) -> None:
        try:
            await self._entries()
        finally:
            if self._has_begun:
                run_ids = [run.run_id for run in self.runs]
                self.undelivered, _ = await left_after_drain(self._link, run_ids)

    async def _entries(self) -> None:
        """Carry out one entry after the other, until one leaves nothing to go on with."""
        why_not = ""
        for entry in self._campaign.entries:
            if not why_not:
                why_not = await self._why_to_stop_after(entry)
            told = {run.run_id for run in self.runs}
            missing = [run for run in entry.runs if self._run_id(entry, run) not in told]
            self.runs += [self._told(entry, run, NOT_STARTED, why_not) for run in missing]

    async def _why_to_stop_after(self, entry: Entry) -> str:
        """Carry out an entry and return why there is no going on after it; "" if there is."""
        try:
            check_room(self._link)
            async with open_rig(entry.runs) as (rig, identities):
                await self._side_by_side(entry, rig, identities)
        except LabctlError as error:
            if not self._has_begun:
                raise
            self.went_wrong = str(error)
            return str(error)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return "aborted by request before it began"
        return "the rig is NOT SAFE" if any(run.unsafe for run in self.runs) else ""

    async def _side_by_side(
        self, entry: Entry, rig: Rig, identities: Mapping[str, Identity]
    ) -> None:
        """Carry out the runs of an entry at the same time."""
        self._has_begun = True
        ids = {run.channel: self._run_id(entry, run) for run in entry.runs}
        interval_s = entry.runs[0].config.telemetry_interval
        shared = SharedRig(rig, ids, interval_s=interval_s)
        tasks = [
            asyncio.create_task(self._one(entry, run, shared.places[run.channel], identities))
            for run in entry.runs
        ]
        try:
            await _all_ended(tasks)
        finally:
            if not shared.is_left:  # a run that failed before it could make its place safe
                safe = rig.safe_state(timeout_s=SAFE_STATE_TIMEOUT_S)
                await whatever_comes(safe, said=ENDING_ANYWAY)
        self.runs += [task.result() for task in tasks]

    async def _one(
        self,
        entry: Entry,
        prepared: Prepared,
        place: SharedPlace,
        identities: Mapping[str, Identity],
    ) -> CampaignRun:
        """Carry out one run and return what came of it, without what it held."""
        run_id = self._run_id(entry, prepared)
        prepared = replace(prepared, request=replace(prepared.request, epoch=self._now()))
        order = order_of(prepared, run_id)
        campaign = {"id": self._id, "name": self._campaign.name, "entry": entry.name}
        order = replace(order, provenance={**order.provenance, "campaign": campaign})
        shown = ShownRun(self._link, order, prepared.channel, self._observer_for(prepared.channel))
        executed = await execute(order, prepared, place, identities, self._link, shown)
        ending = executed.ending
        shown.end(ending)
        return replace(
            self._told(entry, prepared, ending.reason.value, ending.message),
            expected_points=dict(ending.expected_points),
            actual_points=dict(ending.actual_points),
            unsafe=dict(ending.unsafe),
            duration_s=executed.duration_s,
        )

    def _run_id(self, entry: Entry, run: Prepared) -> str:
        return f"{self._id}-{entry.number}-{run.channel}"

    def _now(self) -> datetime | None:
        """Return what time a run says it starts: in virtual time, where the last one has ended."""
        loop = asyncio.get_running_loop()
        is_virtual = isinstance(loop, VirtualTimeLoop)
        return self._epoch + timedelta(seconds=loop.time()) if is_virtual else None

    def _told(self, entry: Entry, run: Prepared, reason: str, message: str) -> CampaignRun:
        return CampaignRun(
            entry=entry.name,
            channel=run.channel,
            sample=run.sample.name,
            run_id=self._run_id(entry, run),
            reason=reason,
            message=message,
        )


async def _all_ended(tasks: Iterable[asyncio.Task[CampaignRun]]) -> None:
    """Return when all tasks have ended; a cancellation ends them, which takes its time."""
    waiting = set(tasks)
    while waiting:
        try:
            _, waiting = await asyncio.wait(waiting)
        except asyncio.CancelledError:
            for task in waiting:
                task.cancel()
            waiting = {task for task in waiting if not task.done()}
