"""The publisher: carries a rig's part of the outbox to recorders, forgets what they have stored.

At instrument speed each document travels alone and reads well in `mosquitto_sub`; while one
message is under way the next documents gather, so that a backlog travels in bundles.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import orjson

from labctl.documents import check_seal
from labctl.errors import StreamError
from labctl.stream.forgotten import forgotten_line
from labctl.stream.permissions import publisher_needs
from labctl.stream.reconnect import Reconnector
from labctl.stream.topics import ANY, document_topic, resend_topic, rig_and_run, watermark_topic
from labctl.stream.transfer import PACE_S, Transfer, next_message
from labctl.stream.under_way import UnderWay

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from labctl.stream.mqtt import BrokerAddress, Connection, Message
    from labctl.stream.outbox import Outbox

_log = logging.getLogger(__name__)

_FORGET_AGAIN_S = 1.0
_UNCONFIRMED_S = 30.0
"""For how long, in real time, nobody may confirm what is sent before that is a trouble."""

_MAX_WATERMARKS = 100
_MAX_NAME = 200
_MAX_SEQ = 2**53
_MAX_LOSSES = 100
_NONSENSE = ("", -2)


class _Message(NamedTuple):
    """Documents of one run that travel together."""

    run_id: str
    payload: bytes
    last_seq: int


class Publisher:
    """Publishes what an outbox holds of one rig on one broker; lives on the MQTT thread.

    Args:
        name: Who it is, for the log.
        recorders: The recorders that must have stored a document before it may be forgotten; with
            none named, any one will do.
        pace_s: As for `Transfer`.
        progressed: Called when a watermark may have made room in the outbox.
    """

    def __init__(
        self,
        outbox: Outbox,
        address: BrokerAddress,
        *,
        rig: str,
        recorders: Collection[str] = (),
        pace_s: float = PACE_S,
        name: str = "publisher",
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._progressed = progressed
        self._outbox = outbox
        self._rig = rig
        self._recorders = recorders
        self._pace_s = pace_s
        self._transfers: dict[str, Transfer] = {}
        self._under_way = UnderWay()
        self._last_run_id = ""
        self._paced_until_s: float | None = None
        self._forgetting_problem: str | None = None
        self._forget_again_at_s: float | None = None
        self._has_work = asyncio.Event()
        self._confirmation_problem: str | None = None
        self._losses: dict[tuple[str, str], str] = {}
        self._reconnector = Reconnector(name, address, needs=publisher_needs(rig))

    @property
    def problem(self) -> str | None:
        """Why documents do not leave the outbox now; None while they do."""
        return (
            self._reconnector.problem
            or self._forgetting_problem
            or self._confirmation_problem
            or next(iter(self._losses.values()), None)
        )

    async def run(self) -> NoReturn:
        """Publish for ever, through every loss of the broker."""
        await self._reconnector.keep(self._session)

    def documents_added(self) -> None:
        """Say that the outbox holds something new."""
        self._has_work.set()

    async def _session(self, connection: Connection) -> None:
        """Publish and listen for watermarks until the connection breaks."""
        await connection.subscribe(watermark_topic(self._rig, ANY))
        await connection.subscribe(resend_topic(self._rig, ANY))
        for transfer in self._transfers.values():
            transfer.start_over()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(connection))
            group.create_task(self._send(connection))

    async def _send(self, connection: Connection) -> None:
        """Send whatever may be sent; then wait for documents, watermarks or too long a silence."""
        self._under_way.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                self._has_work.clear()
                self._forget_again()
                self._paced_until_s = None
                run_ids = self._outbox.runs_pending(self._rig)
                messages = self._next_messages(run_ids)
                self._look_for_confirmation(run_ids)
                for message in messages:
                    group.create_task(self._carry(connection, message))
                if messages:
                    await asyncio.sleep(0)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_wake_s(run_ids)):
                        await self._has_work.wait()

    def _next_messages(self, run_ids: Sequence[str]) -> list[_Message]:
        """Return a message of each run that may send one, as long as there is room for them.

        Where there is not, the runs take turns: who waits must not hold up who measures.
        """
        messages: list[_Message] = []
        begin = run_ids.index(self._last_run_id) + 1 if self._last_run_id in run_ids else 0
        for run_id in (*run_ids[begin:], *run_ids[:begin]):
            if not self._under_way.has_room:
                break
            message = self._next_message(run_id)
            if message is not None:
                self._under_way.set_out(run_id, len(message.payload))
                self._last_run_id = run_id
                messages.append(message)
        return messages

    async def _carry(self, connection: Connection, message: _Message) -> None:
        """Bring a message to the broker."""
        run_id, payload, last_seq = message
        await connection.publish(document_topic(self._rig, run_id), payload)
        now_s = asyncio.get_running_loop().time()
        transfer = self._transfers[run_id]
        # Else nobody waits for this: at an instrument's pace it would wake the sender in vain.
        if not self._under_way.has_room or _is_due(transfer.resend_at_s, now_s):
            self._has_work.set()
        self._under_way.arrive(run_id, len(payload))
        transfer.message_taken(last_seq, now_s)

    def _next_message(self, run_id: str) -> _Message | None:
        """Return the next message of a run; None if none may go now."""
        transfer = self._transfer(run_id)
        now_s = asyncio.get_running_loop().time()
        if run_id not in self._under_way:  # else the line is slow, and nobody silent
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
        payload = b"\n".join(entry.line for entry in entries)
        return _Message(run_id, payload, entries[-1].seq)

    async def _listen(self, connection: Connection) -> None:
        """Take watermarks; forget what they cover."""
        while True:
            messages = await connection.receive(_MAX_WATERMARKS)
            for run_id in {run_id for run_id in map(self._take_watermark, messages) if run_id}:
                self._forget(run_id)
            for topic, line in filter(None, map(self._answer, messages)):
                # QoS 0: a recorder whom no answer reaches asks again.
                await connection.publish(topic, line, qos=0)
            for message in messages:
                connection.acknowledge(message)
            self._has_work.set()
            self._progressed()

    def _forget(self, *run_ids: str) -> None:
        """Let the outbox forget what recorders have; where it cannot (a full disk), again later."""
        try:
            for run_id in run_ids:
                self._outbox.forget(run_id, self._transfers[run_id].watermark)
        except StreamError as error:
            if self._forgetting_problem is None:
                _log.warning("%s: %s; trying again", self.name, error)
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
        self._progressed()

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

    def _answer(self, message: Message) -> tuple[str, bytes] | None:
        """Return what to answer a recorder that asks for what no longer is in the outbox."""
        rig, run_id = rig_and_run(message.topic)
        if message.topic != resend_topic(rig, run_id):
            return None
        recorder_id, after_seq = _said(message.payload, "after_seq")
        if after_seq < -1:
            return None
        forgotten = self._outbox.forgotten_after(run_id, after_seq)
        if forgotten <= after_seq:
            return None
        problem = (
            f"run {run_id}: recorder {recorder_id} lacks some of documents {after_seq + 1} to"
            f" {forgotten}, which are in the outbox no longer"
        )
        is_new = (run_id, recorder_id) not in self._losses
        if is_new and len(self._losses) < _MAX_LOSSES:  # anybody may ask, under any name
            _log.warning("%s: %s", self.name, problem)
            self._losses[run_id, recorder_id] = problem
        return document_topic(rig, run_id), forgotten_line(run_id, forgotten)

    def _transfer(self, run_id: str) -> Transfer:
        """Return the progress of a run, which begins now if it is new."""
        return self._transfers.setdefault(run_id, Transfer(self._recorders, pace_s=self._pace_s))

    def _look_for_confirmation(self, run_ids: Sequence[str]) -> None:
        """Note, and log once, that what is sent has been confirmed by nobody for too long."""
        now_s = asyncio.get_running_loop().time()
        transfers = [self._transfer(run_id) for run_id in run_ids]
        late = [each for each in transfers if now_s >= _unconfirmed_until_s(each)]
        problem = _said_of(late) if late else None
        if problem is not None and self._confirmation_problem is None:
            _log.warning("%s: %s", self.name, problem)
        elif problem is None and self._confirmation_problem is not None:
            _log.warning("%s: what is sent is confirmed again", self.name)
        self._confirmation_problem = problem

    def _next_wake_s(self, run_ids: Sequence[str]) -> float | None:
        """Return when a held-back message may go, or the first silence will have been too long.

        What waits for the broker to take messages is woken by that.
        """
        now_s = asyncio.get_running_loop().time()
        times = [self._forget_again_at_s]
        if self._under_way.has_room:
            times.append(self._paced_until_s)
            resends = [(run_id, self._transfer(run_id).resend_at_s) for run_id in run_ids]
            times += [
                time_s
                for run_id, time_s in resends
                if run_id not in self._under_way or not _is_due(time_s, now_s)
            ]
        return min((time_s for time_s in times if time_s is not None), default=None)


def _is_due(time_s: float | None, now_s: float) -> bool:
    return time_s is not None and now_s >= time_s


def _unconfirmed_until_s(transfer: Transfer) -> float:
    """Return from when on it is a trouble that nothing is confirmed; infinity if nothing waits."""
    since_s = transfer.unconfirmed_since_s
    return math.inf if since_s is None else since_s + _UNCONFIRMED_S


def _said_of(late: Sequence[Transfer]) -> str:
    """Return who has not confirmed what was sent, in words that stay the same while it lasts."""
    names = sorted({name for transfer in late for name in transfer.behind})
    who = f"recorder {', '.join(names)}" if names else "any recorder"
    return f"not confirmed by {who} for more than {_UNCONFIRMED_S:g} s; it waits in the outbox"


def _said(payload: bytes, name: str) -> tuple[str, int]:
    """Return the recorder and the seq that a message names; -2 for one that makes no sense.

    Anybody may have published it: nothing is made of what has not the type and size expected.
    """
    try:
        check_seal(payload)
        body = orjson.loads(payload)
        recorder_id, seq = body["recorder_id"], body[name]
    except (ValueError, KeyError, TypeError):
        return _NONSENSE
    is_named = isinstance(recorder_id, str) and 0 < len(recorder_id) <= _MAX_NAME
    is_seq = type(seq) is int and -1 <= seq <= _MAX_SEQ  # a bool is an int, too
    return (recorder_id, seq) if is_named and is_seq else _NONSENSE
