"""Sending a command to a rig and hearing what became of it."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from labctl.clock import utc_now
from labctl.errors import BadInputError, StreamError
from labctl.stream.envelope import MAX_BYTES, Command, Reply, ReplyState
from labctl.stream.mqtt import connected
from labctl.stream.status import RigState, RigStatus, read_status
from labctl.stream.topics import command_topic, reply_topic, status_topic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.stream.mqtt import BrokerAddress, Connection

_MAX_MESSAGES = 20
_FINAL = {ReplyState.REFUSED, ReplyState.DONE, ReplyState.FAILED}


class CommandRefusedError(StreamError):
    """The rig has refused a command, or failed to carry it out; says why."""


class RigSilentError(StreamError, TimeoutError):
    """The rig does not answer: whether it has carried the command out is not known."""


async def send_command(
    address: BrokerAddress,
    rig: str,
    verb: str,
    args: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 10.0,
) -> dict[str, Any]:
    """Have a rig carry a command out; return its result.

    The command expires when the time to wait for it is over.

    Raises:
        CommandRefusedError: the rig refused it, or it failed; the message says why.
        RigSilentError: no status, or no final reply, in time; or the rig is offline.
        BrokerLostError: the broker cannot be reached.
        BadInputError: arguments that are no JSON, or too many.
    """
    async with connected(address) as connection:
        session = await _session_of(connection, rig, timeout_s)
        command = _command(session, args or {}, timeout_s)
        await connection.subscribe(reply_topic(rig, command.cmd_id))
        await connection.publish(command_topic(rig, verb), _payload(command, verb))
        return await _result(connection, f"{rig}: {verb}", command.cmd_id, timeout_s)


def _command(session: str, args: Mapping[str, Any], timeout_s: float) -> Command:
    """Return a new command for a session, valid from now on for so long."""
    now = utc_now()
    return Command(
        cmd_id=secrets.token_hex(8),
        issued_at=now,
        expires_at=now + timedelta(seconds=timeout_s),
        rig_session=session,
        args=dict(args),
    )


def _payload(command: Command, verb: str) -> bytes:
    try:
        payload = command.model_dump_json().encode()
    except ValueError as error:
        raise BadInputError(f"{verb}: arguments that cannot be sent: {error}") from error
    if len(payload) > MAX_BYTES:
        raise BadInputError(f"{verb}: {len(payload)} bytes of arguments: at most {MAX_BYTES}")
    return payload


async def _session_of(connection: Connection, rig: str, timeout_s: float) -> str:
    """Return the present session of a rig, from its retained status."""
    await connection.subscribe(status_topic(rig))
    try:
        async with asyncio.timeout(timeout_s):
            status = None
            while status is None:
                for message in await connection.receive(_MAX_MESSAGES):
                    connection.acknowledge(message)
                    status = read_status(RigStatus, message.payload) or status
    except TimeoutError as error:
        message = f"rig {rig}: no status within {timeout_s:g} s: nothing of that name has been here"
        raise RigSilentError(message) from error
    if status.state is RigState.OFFLINE:
        raise RigSilentError(f"rig {rig} is offline ({status.reason or 'no reason given'})")
    return status.session


async def _result(
    connection: Connection, what: str, cmd_id: str, timeout_s: float
) -> dict[str, Any]:
    """Wait for the final reply and return its result."""
    heard = "no reply"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                for message in await connection.receive(_MAX_MESSAGES):
                    connection.acknowledge(message)
                    reply = _reply_in(message.payload, cmd_id)
                    if reply is not None and reply.state in _FINAL:
                        return _result_of(reply, what)
                    if reply is not None:
                        heard = f"{reply.state}, but no result"
    except TimeoutError as error:
        raise RigSilentError(
            f"{what}: {heard} within {timeout_s:g} s; whether it was carried out is not known"
        ) from error


def _reply_in(payload: bytes, cmd_id: str) -> Reply | None:
    """Return the reply to a command in a payload; None if it is none."""
    try:
        reply = Reply.model_validate_json(payload)
    except ValueError:
        return None
    return reply if reply.cmd_id == cmd_id else None


def _result_of(reply: Reply, what: str) -> dict[str, Any]:
    if reply.state is ReplyState.DONE:
        return reply.result
    raise CommandRefusedError(f"{what}: {reply.state}: {reply.reason}")
