"""The announcer: tells, retained, that a rig is there and what its channels are doing.

It has a connection of its own, so that a flood of documents delays no status, and its last will is
the rig's `offline`. What was published is told again on every new connection: a broker that came
back may have forgotten it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from labctl.clock import utc_now
from labctl.stream.mqtt import BrokerAddress, BrokerLostError, Connection, LastWill
from labctl.stream.reconnect import Reconnector
from labctl.stream.status import ChannelStatus, RigState, RigStatus, read_status
from labctl.stream.topics import channel_status_topic, status_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Real time between two looks at what has changed: no status is published more often."""

_GOODBYE_S = 1.0
_MAX_MESSAGES = 20
LOST = "contact lost: the process was killed or hangs, or its network is down"


class Announcer:
    """Publishes the status of one rig and its channels; lives on the MQTT thread.

    Args:
        find_troubles: Returns what is wrong now, by whom it concerns; asked once a second. A
            trouble that is there twice running makes the rig degraded: reconnecting is none.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        rig: str,
        session_id: str,
        find_troubles: Callable[[], Mapping[str, str]] = dict[str, str],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._rig = rig
        self._session_id = session_id
        self._find_troubles = find_troubles
        self._now = now
        self._channels: dict[str, ChannelStatus] = {}
        self._reported: dict[str, str] = {}
        self._found: Mapping[str, str] = {}
        self._trouble = ""
        self._told: dict[str, RigStatus | ChannelStatus] = {}
        will = LastWill(status_topic(rig), self._offline(LOST).wire())
        self._reconnector = Reconnector("announcer", address, will=will)

    @property
    def trouble(self) -> str:
        """What is wrong now, in words, for any thread; "" if nothing is."""
        return self._trouble

    async def run(self) -> NoReturn:
        """Announce for ever, through every loss of the broker."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_out())
            group.create_task(self._reconnector.keep(self._session))
        raise AssertionError("neither ends by itself")

    def show(self, channel: str, status: ChannelStatus) -> None:
        """Say what a channel is doing, from any thread; published at the next look."""
        self._channels[channel] = status.model_copy(update={"session": self._session_id})

    def report_trouble(self, subject: str, reason: str | None) -> None:
        """Say, from any thread, what is wrong with something; None when it is right again."""
        if reason is None:
            self._reported.pop(subject, None)
        else:
            self._reported[subject] = reason

    async def _look_out(self) -> NoReturn:
        """Look what is wrong, also while no broker is there to be told."""
        while True:
            self._look()
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> None:
        """Note what is wrong; a trouble found only once does not count."""
        found = dict(self._find_troubles())
        lasting = {subject: found[subject] for subject in found if subject in self._found}
        self._found = found
        troubles = {**lasting, **self._reported}
        self._trouble = "; ".join(
            f"{subject}: {said}" for subject, said in sorted(troubles.items())
        )

    async def _session(self, connection: Connection) -> None:
        """Tell everything, then what changes, until the connection breaks."""
        self._told.clear()
        await connection.subscribe(status_topic(self._rig))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_changes(connection))
                group.create_task(self._defend(connection))
        finally:
            await self._say_goodbye(connection)

    async def _tell_changes(self, connection: Connection) -> None:
        """Publish what has changed, look by look."""
        while True:
            await self._tell(connection, status_topic(self._rig), self._status())
            await self._tell_channels(connection)
            await asyncio.sleep(_LOOK_S)

    async def _tell_channels(self, connection: Connection) -> None:
        for channel, status in list(self._channels.items()):
            await self._tell(connection, channel_status_topic(self._rig, channel), status)

    async def _tell(
        self, connection: Connection, topic: str, status: RigStatus | ChannelStatus
    ) -> None:
        """Publish a status, with the time, unless it is what was told last."""
        if self._told.get(topic) == status:
            return
        self._told[topic] = status
        timed = status.model_copy(update={"time": self._now()})
        await connection.publish(topic, timed.wire(), retain=True)

    async def _defend(self, connection: Connection) -> None:
        """Say again that we are there when somebody says that the rig is not.

        That is the last will of our own lost connection, or of a predecessor, which a broker
        publishes up to half a minute late.
        """
        while True:
            for message in await connection.receive(_MAX_MESSAGES):
                connection.acknowledge(message)
                status = read_status(RigStatus, message.payload)
                if message.is_retained or status is None:
                    continue
                if status.state is RigState.OFFLINE:
                    self._told.pop(message.topic, None)
                elif status.session != self._session_id:
                    _log.warning("another process speaks for rig %s, too", self._rig)

    async def _say_goodbye(self, connection: Connection) -> None:
        """Publish what was not told yet, and `offline`: a last will is for sudden deaths only."""
        with suppress(BrokerLostError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._tell_channels(connection)
                offline = self._offline("ended")
                await self._tell(connection, status_topic(self._rig), offline)

    def _status(self) -> RigStatus:
        """Return the rig's state and what is wrong."""
        state = RigState.DEGRADED if self._trouble else RigState.ONLINE
        return RigStatus(state=state, session=self._session_id, reason=self._trouble)

    def _offline(self, reason: str) -> RigStatus:
        return RigStatus(state=RigState.OFFLINE, session=self._session_id, reason=reason)
