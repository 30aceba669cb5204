"""Watching rigs from anywhere: what they say about themselves, and the newest points of their runs.

Nothing here is trusted for longer than it is true: `believed_state` decides what a channel is
doing, and while the watcher itself has no broker, nobody knows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from labctl.clock import utc_now
from labctl.documents import Document, Kind, Reason, decode
from labctl.errors import BadInputError, DocumentError
from labctl.stream.mqtt import BrokerAddress, BrokerLostError, Connection, connected, in_a_task
from labctl.stream.status import (
    ChannelState,
    ChannelStatus,
    RigState,
    RigStatus,
    believed_state,
    read_status,
)
from labctl.stream.topics import ANY, channel_status_topic, document_topic, status_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.stream.mqtt import Message

_RETRY_S = 0.5
_MAX_MESSAGES = 100
_KEPT_RUNS = 100


@dataclass
class WatchedRun:
    """What a run's documents have told since the watch began: newest point by stream, last fit."""

    last_points: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    fit: dict[str, Any] | None = None
    _newest: dict[tuple[Kind, str], int] = field(default_factory=dict[tuple[Kind, str], int])

    def take(self, document: Document) -> None:
        """Note what one document tells; one that is sent again tells nothing new."""
        key = document.kind, document.stream
        if document.seq <= self._newest.get(key, -1):
            return
        self._newest[key] = document.seq
        body = document.body
        if document.kind is Kind.EVENT_PAGE and body["n_points"]:
            newest = {name: column[-1] for name, column in body["columns"].items()}
            self.last_points[document.stream] = newest
        elif document.kind is Kind.EVENT and document.stream == "fit":
            self.fit = dict(body["data"])


@dataclass
class WatchedRig:
    """What one rig has said, and when; `is_heard` says whether the watcher still listens to it."""

    status: RigStatus | None = None
    said_at: datetime | None = None
    is_heard: bool = False
    channels: dict[str, ChannelStatus] = field(default_factory=dict[str, ChannelStatus])
    channels_at: dict[str, datetime] = field(default_factory=dict[str, datetime])

    @property
    def is_there(self) -> bool:
        """Whether the rig is known to be online, or degraded."""
        return self.state in (RigState.ONLINE, RigState.DEGRADED)

    @property
    def state(self) -> str:
        """Return online, degraded, offline, or unknown while nobody listens."""
        if self.status is None or not (self.is_heard or self.status.state is RigState.OFFLINE):
            return ChannelState.UNKNOWN.value
        return self.status.state.value

    def state_of(self, channel: str) -> ChannelState:
        """Return what a channel is doing, as far as this watcher can know."""
        return believed_state(self.channels[channel], self.status if self.is_heard else None)

    def alert_of(self, channel: str) -> str:
        """Return what a person should know about a channel, in words; "" for nothing."""
        said = self.channels[channel]
        if said.state is ChannelState.ENDED:
            return "" if said.outcome == Reason.COMPLETED else said.message
        if self.status is None or self.state_of(channel) is not ChannelState.UNKNOWN:
            return ""
        if self.status.session != said.session:
            return "interrupted: the rig has been started again since, without this run"
        if self.status.state is RigState.OFFLINE:
            return f"interrupted? The rig went offline in this run: {self.status.reason}"
        return "contact lost in this run; it may go on all the same"


class Picture:
    """Everything that was heard; no I/O."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self.rigs: dict[str, WatchedRig] = {}
        self.runs: dict[str, WatchedRun] = {}
        self._now = now

    @property
    def n_states(self) -> int:
        """How many rigs and channels have said something."""
        return sum((rig.status is not None) + len(rig.channels) for rig in self.rigs.values())

    def take(self, message: Message) -> None:
        """Note what a message says; one that makes no sense says nothing."""
        match message.topic.split("/"):
            case [_, rig, "status"]:
                self._take_rig(rig, message)
            case [_, rig, "channel", channel, "status"]:
                self._take_channel(rig, channel, message)
            case [_, _, "run", run_id, "doc"]:
                self._take_documents(run_id, message.payload)
            case _:
                pass

    def lose_contact(self) -> None:
        """Note that nobody is heard any more."""
        for rig in self.rigs.values():
            rig.is_heard = False

    def _take_rig(self, name: str, message: Message) -> None:
        status = read_status(RigStatus, message.payload)
        if status is None:
            return
        rig = self.rigs.setdefault(name, WatchedRig())
        rig.status, rig.is_heard = status, True
        rig.said_at = self._said_at(message, status.time)

    def _take_channel(self, name: str, channel: str, message: Message) -> None:
        status = read_status(ChannelStatus, message.payload)
        if status is None:
            return
        rig = self.rigs.setdefault(name, WatchedRig())
        rig.channels[channel] = status
        said_at = self._said_at(message, status.time)
        rig.channels_at[channel] = said_at or self._now()

    def _said_at(self, message: Message, time: datetime | None) -> datetime | None:
        """Return when something was said: now, or for what was retained by its own word."""
        if not message.is_retained:
            return self._now()
        return time and min(time, self._now())

    def _take_documents(self, run_id: str, payload: bytes) -> None:
        # To the end: of too many, the one that was silent for longest goes.
        run = self.runs[run_id] = self.runs.pop(run_id, WatchedRun())
        if len(self.runs) > _KEPT_RUNS:
            self.runs.pop(next(iter(self.runs)))
        for line in payload.split(b"\n"):
            try:
                run.take(decode(line))
            except DocumentError:  # the recorder's affair
                continue


class Watcher:
    """Follows rigs over MQTT, through every loss of the broker.

    `problem` says why nothing is heard now; None while a broker is there. `has_asked` is set once
    that has granted the subscriptions to what is retained.

    Args:
        find_address: Returns where the broker is now; None while there is none to be found. Asked
            before each attempt to connect.
        rig: The rig to follow; every one by default.
    """

    def __init__(
        self,
        find_address: Callable[[], BrokerAddress | None],
        *,
        rig: str = ANY,
        missing: str = "no broker is known",
    ) -> None:
        self.picture = Picture()
        self.problem: str | None = missing
        self.has_asked = asyncio.Event()
        self.address: BrokerAddress | None = None
        self._find_address = find_address
        self._rig = rig
        self._missing = missing

    async def run(self) -> NoReturn:
        """Follow for ever."""
        while True:
            await in_a_task(self._attempt())
            self.picture.lose_contact()
            await asyncio.sleep(_RETRY_S)

    async def _attempt(self) -> None:
        """Connect, if a broker can be found, and listen until the connection breaks."""
        try:
            self.address = self._find_address()
            if self.address is None:
                self.problem = self._missing
            else:
                await self._watch(self.address)
        except* (BrokerLostError, BadInputError) as errors:
            self.problem = str(errors.exceptions[0])

    async def _watch(self, address: BrokerAddress) -> None:
        async with connected(address) as connection, asyncio.TaskGroup() as group:
            group.create_task(self._subscribe(connection))
            group.create_task(self._listen(connection))

    async def _subscribe(self, connection: Connection) -> None:
        """Ask for everything; amqtt answers only while what it has retained is acknowledged."""
        await connection.subscribe(status_topic(self._rig))
        await connection.subscribe(channel_status_topic(self._rig, ANY))
        self.problem = None
        self.has_asked.set()
        # QoS 0: a lost point does a display no harm, a flood of them must not fill the broker.
        await connection.subscribe(document_topic(self._rig, ANY), qos=0)

    async def _listen(self, connection: Connection) -> None:
        while True:
            for message in await connection.receive(_MAX_MESSAGES):
                connection.acknowledge(message)
                self.picture.take(message)
