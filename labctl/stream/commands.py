"""The reader of commands: takes them from the broker, checks them, has them carried out, answers.

Each is refused unless it is fresh, meant for this session and not seen before; its id is on disk
before anything is done. A command that was cut off by a crash is refused when it comes again: it
may have been carried out, and nobody knows.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections import deque
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from labctl.clock import utc_now
from labctl.errors import LabctlError, StreamError
from labctl.stream.envelope import (
    UNREADABLE,
    Command,
    Reply,
    ReplyState,
    keep_until,
    objection,
    open_envelope,
)
from labctl.stream.reconnect import Reconnector
from labctl.stream.topics import ANY, command_topic, reply_topic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from labctl.stream.ledger import Ledger, Received
    from labctl.stream.mqtt import BrokerAddress, Connection, Message

_log = logging.getLogger(__name__)

_MAX_MESSAGES = 20
_MAX_REPLIES = 1000

RETAINED = "retained: the broker would deliver it again to every new session"

Handler = Callable[[Command], Awaitable[dict[str, Any]]]
"""Carries out one verb and returns its result; a LabctlError is the reason why it failed."""


class CommandReader:
    """Reads the commands of one rig; lives on the MQTT thread.

    `ready` is set once it has subscribed.

    Args:
        handlers: Who carries out which verb; `ping` is there already.
        now: The wall clock's time, UTC.
    """

    def __init__(
        self,
        ledger: Ledger,
        address: BrokerAddress,
        *,
        rig: str,
        session_id: str,
        handlers: Mapping[str, Handler],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.ready = asyncio.Event()
        ledger.forget_old(now())
        self._ledger = ledger
        self._rig = rig
        self._session_id = session_id
        self._handlers: dict[str, Handler] = {"ping": self._ping, **handlers}
        self._now = now
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._replies: deque[tuple[str, bytes]] = deque(maxlen=_MAX_REPLIES)
        self._has_replies = asyncio.Event()
        self._reconnector = Reconnector("commands", address)

    @property
    def problem(self) -> str | None:
        """Why no command can be heard now; None while the broker is there."""
        return self._reconnector.problem

    async def run(self) -> NoReturn:
        """Take commands for ever; what is under way goes on when the broker is lost."""
        try:
            await self._reconnector.keep(self._session)
        finally:
            under_way = list(self._under_way.values())
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _session(self, connection: Connection) -> None:
        """Listen and answer until the connection breaks."""
        await connection.subscribe(command_topic(self._rig, ANY))
        self.ready.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(connection))
            group.create_task(self._speak(connection))

    async def _listen(self, connection: Connection) -> None:
        while True:
            for message in await connection.receive(_MAX_MESSAGES):
                self._take(message)
                connection.acknowledge(message)

    async def _speak(self, connection: Connection) -> None:
        """Publish the replies; one that meets a broken connection waits for the next."""
        while True:
            self._has_replies.clear()
            while self._replies:
                topic, payload = self._replies.popleft()
                try:
                    await connection.publish(topic, payload)
                except BaseException:
                    self._replies.appendleft((topic, payload))
                    raise
            await self._has_replies.wait()

    def _take(self, message: Message) -> None:
        """Deal with one message: refuse it, or have it carried out."""
        verb = message.topic.rpartition("/")[2]
        if not message.payload:  # how a retained message is deleted
            return
        opened = open_envelope(message.payload)
        if opened.command is None:
            self._refuse(opened.cmd_id, verb, opened.problem)
            return
        try:
            self._judge(opened.command, verb, is_retained=message.is_retained)
        except StreamError as error:
            self._refuse(opened.cmd_id, verb, f"it cannot be remembered: {error}")

    def _judge(self, command: Command, verb: str, *, is_retained: bool) -> None:
        """Accept a command, refuse it, or repeat the answer that it has had."""
        received = self._ledger.find(command.cmd_id)
        if received is not None and not is_retained:
            self._repeat(command.cmd_id, verb, received)
            return
        now = self._now()
        problem = RETAINED if is_retained else self._problem(command, verb, now)
        reply = self._reply(
            command.cmd_id,
            verb,
            ReplyState.REFUSED if problem else ReplyState.ACCEPTED,
            reason=problem,
        )
        if received is None:
            # Refusals, too: the first answer to an id is final.
            self._ledger.remember(
                command.cmd_id,
                received_at=now,
                keep_until=keep_until(command, now),
                answer=reply.wire() if problem else None,
            )
        self._say(reply)
        if not problem:
            self._begin(command, verb)

    def _problem(self, command: Command, verb: str, now: datetime) -> str:
        """Return why a new command may not be carried out; "" if it may."""
        if verb not in self._handlers:
            return f"unknown verb {verb!r}; there are: {', '.join(sorted(self._handlers))}"
        return objection(command, session_id=self._session_id, now=now)

    def _begin(self, command: Command, verb: str) -> None:
        """Begin to carry a command out, beside whatever else is under way."""
        task = asyncio.create_task(self._carry_out(command, verb))
        self._under_way[command.cmd_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(command.cmd_id))

    async def _carry_out(self, command: Command, verb: str) -> None:
        """Carry a command out, keep what came of it, and say so."""
        reply = await self._outcome(command, verb)
        try:
            self._ledger.note_answer(command.cmd_id, reply.wire())
        except StreamError as error:
            _log.error("command %s %s: %s", verb, command.cmd_id, error)
        self._say(reply)

    async def _outcome(self, command: Command, verb: str) -> Reply:
        """Return what came of carrying a command out."""
        try:
            result = await self._handlers[verb](command)
            reply = self._reply(command.cmd_id, verb, ReplyState.DONE, result=result)
            reply.wire()  # a result that is no JSON is an error of the handler's
        except LabctlError as error:
            return self._reply(command.cmd_id, verb, ReplyState.FAILED, reason=str(error))
        except Exception as error:  # noqa: BLE001 - no command's fault may end a run
            _log.exception("command %s %s", verb, command.cmd_id)
            return self._reply(command.cmd_id, verb, ReplyState.FAILED, reason=repr(error))
        return reply

    def _repeat(self, cmd_id: str, verb: str, received: Received) -> None:
        """Answer a command that has come again with the answer it has had, if that is known."""
        _log.warning("command %s %s: received before, not carried out again", verb, cmd_id)
        if received.answer is not None:
            reply = Reply.model_validate_json(received.answer)
        elif cmd_id in self._under_way:
            reply = self._reply(cmd_id, verb, ReplyState.ACCEPTED)
        else:
            problem = (
                f"received before, at {received.received_at.isoformat(timespec='milliseconds')};"
                " whether it was carried out then is not known, so it is not carried out now"
            )
            reply = self._reply(cmd_id, verb, ReplyState.REFUSED, reason=problem)
        self._say(reply.model_copy(update={"is_repeat": True}))

    def _refuse(self, cmd_id: str | None, verb: str, problem: str) -> None:
        self._say(self._reply(cmd_id, verb, ReplyState.REFUSED, reason=problem))

    def _say(self, reply: Reply) -> None:
        """Log a reply and have it published."""
        level = logging.WARNING if reply.reason else logging.INFO
        said = f"{reply.state}: {reply.reason}" if reply.reason else reply.state
        _log.log(level, "command %s %s: %s", reply.verb, reply.cmd_id, said)
        self._replies.append((reply_topic(self._rig, reply.cmd_id or UNREADABLE), reply.wire()))
        self._has_replies.set()

    def _reply(
        self,
        cmd_id: str | None,
        verb: str,
        state: ReplyState,
        *,
        reason: str = "",
        result: Mapping[str, Any] | None = None,
    ) -> Reply:
        return Reply(
            cmd_id=cmd_id,
            verb=verb,
            state=state,
            reason=reason,
            result=dict(result or {}),
            session=self._session_id,
            time=self._now(),
        )

    async def _ping(self, command: Command) -> dict[str, Any]:
        """Say who is there: versions, session, time."""
        return {
            "labctl_version": version("labctl-electrochem"),
            "python_version": platform.python_version(),
            "session": self._session_id,
            "time": self._now().isoformat(),
        }
