"""The publisher: carries the outbox to the recorders and forgets what they have stored.

At instrument speed each document travels alone and reads well in `mosquitto_sub`; while one
message is under way the next documents gather, so that a backlog travels in bundles.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NoReturn

import orjson

from labctl.documents import check_seal
from labctl.errors import StreamError
from labctl.stream.permissions import publisher_needs
from labctl.stream.reconnect import Reconnector
from labctl.stream.topics import ANY, document_topic, resend_topic, rig_and_run, watermark_topic
from labctl.stream.transfer import PACE_S, Transfer, next_message

if TYPE_CHECKING:
    from collections.abc import Collection

    from labctl.stream.mqtt import BrokerAddress, Connection, Message
    from labctl.stream.outbox import Outbox

_log = logging.getLogger(__name__)

_FORGET_AGAIN_S = 1.0
_MAX_WATERMARKS = 100


class Publisher:
    """Publishes an outbox on one broker; lives on the MQTT thread.

    Args:
        recorders: The recorders that must have stored a document before it may be forgotten; with
            none named, any one will do.
        pace_s: As for `Transfer`.
    """

    def __init__(
        self,
        outbox: Outbox,
        address: BrokerAddress,
        *,
        rig: str,
        recorders: Collection[str] = (),
        pace_s: float = PACE_S,
    ) -> None:
        self._outbox = outbox
        self._rig = rig
        self._recorders = recorders
        self._pace_s = pace_s
        self._transfers: dict[str, Transfer] = {}
        self._paced_until_s: float | None = None
        self._forgetting_problem: str | None = None
        self._forget_again_at_s: float | None = None
        self._has_work = asyncio.Event()
        self._has_progressed = asyncio.Event()
        self._reconnector = Reconnector("publisher", address, needs=publisher_needs(rig))

    @property
    def problem(self) -> str | None:
        """Why documents do not leave the outbox now; None while they do."""
        return self._reconnector.problem or self._forgetting_problem

    async def run(self) -> NoReturn:
        """Publish for ever, through every loss of the broker."""
        await self._reconnector.keep(self._session)

    def documents_added(self) -> None:
        """Say that the outbox holds something new."""
        self._has_work.set()

    async def drained(self, timeout_s: float) -> int:
        """Wait until the outbox is empty, or so long; return how many documents are left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._outbox.pending():
                    await self.progressed(timeout_s)
        return self._outbox.pending()

    async def progressed(self, timeout_s: float) -> None:
        """Wait for the next watermark, at most so long."""
        self._has_progressed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_progressed.wait()

    async def _session(self, connection: Connection) -> None:
        """Publish and listen for watermarks until the connection breaks."""
        await connection.subscribe(watermark_topic(self._rig, ANY))
        await connection.subscribe(resend_topic(self._rig, ANY))
        for transfer in self._transfers.values():
            transfer.rewind()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(connection))
            group.create_task(self._send(connection))

    async def _send(self, connection: Connection) -> None:
        """Send whatever may be sent; then wait for documents, watermarks or too long a silence."""
        async with asyncio.TaskGroup() as under_way:
            while True:
                self._has_work.clear()
                self._forget_again()
                self._paced_until_s = None
                messages = [self._next_message(run_id) for run_id in self._outbox.runs_pending()]
                for topic, payload in filter(None, messages):
                    under_way.create_task(connection.publish(topic, payload))
                if any(messages):
                    await asyncio.sleep(0)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_wake_s()):
                        await self._has_work.wait()

    def _next_message(self, run_id: str) -> tuple[str, bytes] | None:
        """Return topic and payload of the next message of a run; None if none may go now."""
        transfer = self._transfer(run_id)
        now_s = asyncio.get_running_loop().time()
        transfer.rewind_after_silence(now_s)
        if not transfer.has_room:
            return None
        with closing(self._outbox.unacknowledged(run_id, after_seq=transfer.sent_seq)) as waiting:
            entries, is_full = next_message(waiting)
        if not entries:
            return None
        paced_until_s = transfer.waits_for_more(is_full=is_full, now_s=now_s)
        if paced_until_s is not None:
            self._paced_until_s = min(paced_until_s, self._paced_until_s or paced_until_s)
            return None
        # Noted first: the watermark may come back before the broker's acknowledgement does.
        transfer.message_sent(entries[-1].seq, now_s)
        return document_topic(self._rig, run_id), b"\n".join(entry.line for entry in entries)

    async def _listen(self, connection: Connection) -> None:
        """Take watermarks; forget what they cover."""
        while True:
            messages = await connection.receive(_MAX_WATERMARKS)
            for run_id in {run_id for run_id in map(self._take_watermark, messages) if run_id}:
                self._forget(run_id)
            for message in messages:
                connection.acknowledge(message)
            self._has_work.set()
            self._has_progressed.set()

    def _forget(self, *run_ids: str) -> None:
        """Let the outbox forget what recorders have; where it cannot (a full disk), again later."""
        try:
            for run_id in run_ids:
                self._outbox.forget(run_id, self._transfers[run_id].watermark)
        except StreamError as error:
            if self._forgetting_problem is None:
                _log.warning("publisher: %s; trying again", error)
            self._forgetting_problem = str(error)
            self._forget_again_at_s = asyncio.get_running_loop().time() + _FORGET_AGAIN_S

    def _forget_again(self) -> None:
        """Try again what has failed, when it is time for that."""
        again_at_s = self._forget_again_at_s
        if again_at_s is None or asyncio.get_running_loop().time() < again_at_s:
            return
        self._forget_again_at_s = None
        self._forget(*self._transfers)
        if self._forget_again_at_s is None:
            self._forgetting_problem = None
        self._has_progressed.set()

    def _take_watermark(self, message: Message) -> str | None:
        """Return the run whose watermark a message moves on; None if it does not.

        A message that asks for a resend moves none: it makes the run go back.
        """
        rig, run_id = rig_and_run(message.topic)
        transfer = self._transfers.get(run_id)
        if message.topic == resend_topic(rig, run_id):
            if transfer is not None:
                transfer.resend_asked(*_said(message.payload, "after_seq"))
            return None
        recorder_id, seq = _said(message.payload, "committed")
        now_s = asyncio.get_running_loop().time()
        if transfer is None or not transfer.committed(recorder_id, seq, now_s):
            return None
        return run_id

    def _transfer(self, run_id: str) -> Transfer:
        """Return the progress of a run, which begins now if it is new."""
        return self._transfers.setdefault(run_id, Transfer(self._recorders, pace_s=self._pace_s))

    def _next_wake_s(self) -> float | None:
        """Return when a held-back message may go, or the first silence will have been too long."""
        times = [transfer.resend_at_s for transfer in self._transfers.values()]
        times += [self._paced_until_s, self._forget_again_at_s]
        return min((time_s for time_s in times if time_s is not None), default=None)


def _said(payload: bytes, name: str) -> tuple[str, int]:
    """Return the recorder and the seq that a message names; -2 for one that makes no sense."""
    try:
        check_seal(payload)
        body = orjson.loads(payload)
        return str(body["recorder_id"]), int(body[name])
    except (ValueError, KeyError, TypeError, OverflowError):
        return "", -2
