"""The MQTT thread's side of a link: takes documents over, keeps, carries and records them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING

from labctl.documents import Room
from labctl.errors import StreamError
from labctl.stream.announcer import Announcer
from labctl.stream.commands import CommandReader
from labctl.stream.ledger import LEDGER_NAME, Ledger
from labctl.stream.outbox import Entry, Outbox, OutboxLimits
from labctl.stream.publishing import Publishing
from labctl.stream.recording import Recording, recorder_id_of, recording
from labctl.stream.service import Service

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Future
    from pathlib import Path

    from labctl.stream.mqtt import BrokerAddress

_log = logging.getLogger(__name__)

_GROUP_COMMIT_S = 0.005
_LOOK_AGAIN_S = 1.0
_RECORDER_FIRST_S = 5.0  # how long documents may wait for our own recorder to be there
_FILES_S = 60.0  # how long the end may wait for Parquet files
_ROOM = {
    Room.PLENTY: "",
    Room.SCARCE: "the outbox is nearly full: recorders take too little",
    Room.NONE: "no room in the outbox",
}


class Courier:
    """Outbox, publisher and, with a store, the recorder of one process, on one asyncio loop.

    `hand_over` may be called from another thread, everything else runs on the courier's loop. A
    deque's append and popleft are atomic, so no lock is shared between the two.
    """

    def __init__(
        self,
        *,
        outbox_path: Path,
        rig: str,
        address: BrokerAddress,
        store_path: Path | None,
        recorders: Collection[str],
        limits: OutboxLimits,
        pace_s: float,
    ) -> None:
        self.failure: StreamError | None = None
        self.n_lost = 0
        self._outbox_path = outbox_path
        self._limits = limits
        self._pace_s = pace_s
        self._store_path = store_path
        self._rig = rig
        self._address = address
        # A store of ours must have a document itself: another recorder on the same broker, and the
        # same rig's name, says nothing about it.
        self._recorder_id = recorder_id_of(store_path) if store_path is not None else ""
        self._recorders = [*recorders, self._recorder_id] if self._recorder_id else recorders
        self._inbox: deque[Entry] = deque()
        self._is_woken = False
        self._recording: Recording | None = None
        self._commands: CommandReader | None = None
        self._services: list[Service] = []
        self._session_id = secrets.token_hex(8)
        self.announcer = Announcer(
            address, rig=rig, session_id=self._session_id, find_troubles=self._troubles
        )

    @property
    def n_waiting(self) -> int:
        """How many documents have been handed over and are not on disk yet."""
        return len(self._inbox)

    @property
    def problem(self) -> str | None:
        """Why documents do not reach the store now; None while they do."""
        recorder_problem = self._recording.problem if self._recording else None
        faults = (f"{each.name}: {each.problem}" for each in self._services if each.problem)
        # The recorder's first: where our own cannot record, the publisher has nothing to add.
        return recorder_problem or self._publishing.problem or next(faults, None)

    @property
    def room(self) -> Room:
        """How much room is left in the outbox."""
        return self._outbox.room

    def hand_over(self, entry: Entry) -> None:
        """Take a document, from any thread; it is on disk some 5 ms later, or after `commit`."""
        self._inbox.append(entry)
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon_threadsafe(self._commit_soon)

    def stop(self) -> None:
        """End `serve`, from any thread; Parquet files that are due may keep it for a minute."""
        self.loop.call_soon_threadsafe(self._stop)

    def hurry(self) -> None:
        """Write no more Parquet files, from any thread; the store remembers which are missing."""
        with suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self._give_up_files)

    def _stop(self) -> None:
        self._stopping.set()
        self.loop.call_later(_FILES_S, self._give_up_files)

    def _give_up_files(self) -> None:
        if self._recording is not None:
            self._recording.archive.give_up()

    async def serve(self, started: Future[None]) -> None:
        """Carry documents until told to stop; `started` tells when it goes.

        Raises:
            StreamError: the outbox cannot be opened.
            StoreError: the store cannot be opened.
        """
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        with ExitStack() as opened:
            self._open(opened)
            started.set_result(None)
            await self._carry()
            with suppress(StreamError):
                self._commit()
            if self._recording is not None:
                await self._recording.archive.write_missing()

    def check(self) -> None:
        """Raise StreamError if the outbox has failed; what else fails costs time only."""
        if self.failure is not None:
            raise StreamError(str(self.failure)) from self.failure

    async def commit(self) -> None:
        """Bring everything handed over so far to disk.

        Raises:
            StreamError: it cannot be done, now or earlier.
        """
        self._commit()

    async def drain(self, timeout_s: float) -> int:
        """Wait until recorders have everything, or so long; return how many documents are left."""
        self._commit()
        return await self._publishing.drained(timeout_s)

    async def waiting_of(self, run_id: str) -> int:
        """Return how many documents of a run no recorder has confirmed yet."""
        self._commit()
        return self._outbox.pending_of(run_id)

    async def room_again(self) -> None:
        """Wait until there is plenty of room: recorders have taken enough, the disk has space.

        Raises:
            StreamError: the outbox has failed.
        """
        while self._outbox.room is not Room.PLENTY:
            self.check()
            await self._publishing.progressed(_LOOK_AGAIN_S)
            self._outbox.make_room()

    async def last_seq(self, run_id: str) -> int:
        """Return the highest seq of a run that was ever in the outbox; -1 for none."""
        self._commit()
        return self._outbox.last_seq(run_id)

    def _open(self, opened: ExitStack) -> None:
        """Open outbox and store, make publisher, recorder and what else is at work."""
        self._outbox = opened.enter_context(
            closing(Outbox(self._outbox_path, rig=self._rig, limits=self._limits))
        )
        self._publishing = Publishing(
            self._outbox,
            self._address,
            rig=self._rig,
            recorders=self._recorders,
            pace_s=self._pace_s,
        )
        if self._store_path is not None:
            self._recording = opened.enter_context(
                recording(
                    self._store_path,
                    self._address,
                    recorder_id=self._recorder_id,
                    rigs=list(self._publishing.publishers),
                )
            )

        self._services = [
            Service("commands", self._take_commands),
            *(
                Service(publisher.name, partial(self._publish, rig))
                for rig, publisher in self._publishing.publishers.items()
            ),
            *([Service("recorder", self._recording.run)] if self._recording is not None else []),
        ]

    async def _carry(self) -> None:
        """Publish, record and speak for the rig until told to stop.

        The announcer stands alone: that the rig is there is true whatever else breaks.
        """
        announcing = Service("announcer", self.announcer.run)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in (*self._services, announcing)]
            await self._stopping.wait()
            for task in tasks:
                task.cancel()

    async def _publish(self, rig: str) -> None:
        """Publish what waits of a rig; our own recorder may begin first, so as to miss nothing.

        But not for long: others record, too, and look on.
        """
        if self._recording is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECORDER_FIRST_S):
                    await self._recording.recorders[rig].ready.wait()
        await self._publishing.publishers[rig].run()

    async def _take_commands(self) -> None:
        """Take commands, which needs a ledger: where there is no room for one none is taken."""
        with closing(Ledger(self._outbox_path.with_name(LEDGER_NAME))) as ledger:
            self._commands = CommandReader(
                ledger, self._address, rig=self._rig, session_id=self._session_id, handlers={}
            )
            try:
                await self._commands.run()
            finally:
                self._commands = None

    def _troubles(self) -> dict[str, str]:
        """Return what is wrong now, by whom it concerns."""
        problems = {
            "recorder": self._recording and self._recording.problem,
            **self._publishing.problems(),
            "commands": self._commands and self._commands.problem,
            "documents": self.failure and str(self.failure),
            "outbox": _ROOM[self.room],
            **{each.name: each.problem for each in self._services if each.problem},
        }
        return {subject: problem for subject, problem in problems.items() if problem}

    def _commit_soon(self) -> None:
        """Wait for more documents, for as long as a group commit may wait."""
        self.loop.call_later(_GROUP_COMMIT_S, self._commit_in_time)

    def _commit_in_time(self) -> None:
        """Commit; a failure is kept for the next who asks."""
        with suppress(StreamError):
            self._commit()

    def _commit(self) -> None:
        """Put everything handed over so far into the outbox, which alone decides what is kept."""
        # Before the queue is emptied: who appends from here on wakes the loop again.
        self._is_woken = False
        entries = [self._inbox.popleft() for _ in range(len(self._inbox))]
        try:
            self.check()
            if entries:
                self._outbox.append(entries)
        except StreamError as error:
            self.n_lost += len(entries)
            if self.failure is None:
                _log.critical("documents could not be kept: %s", error)
                self.failure = error
            raise
        if entries:
            self._publishing.documents_added()
