"""The envelope of commands and replies: what is in it, and why a command is refused. No I/O.

A command is JSON on `labctl/<rig>/cmd/<verb>`; its replies go to `labctl/<rig>/reply/<cmd_id>`.
What a broker may do to a command (keep it, deliver it late, twice, or to the next process) shall
not make an instrument act: hence the id, the two times and the session.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

MAX_BYTES = 64 * 1024
"""The largest command that is read."""

CLOCK_TOLERANCE_S = 30.0
"""How far in the future a command may have been issued: two clocks are never the same."""

MAX_LIFETIME_S = 24 * 3600.0
"""How long after its issue a command may expire at most; its id is kept for that long."""

KEPT_AFTER_EXPIRY_S = 3600.0
"""How long an id is remembered after its command has expired and is refused for that."""

UNREADABLE = "unreadable"
"""Where a message is answered that names no usable cmd_id."""

_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class Command(BaseModel):
    """A command as it is sent.

    Attributes:
        cmd_id: names it for ever; letters, digits, _ and -, at most 64.
        issued_at: when it was sent, ISO 8601 with its offset from UTC.
        expires_at: from when on it shall not be carried out any more.
        rig_session: the session it is meant for, from the rig's retained status.
        args: what the verb takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cmd_id: Annotated[str, Field(pattern=_ID)]
    issued_at: Annotated[AwareDatetime, Field(strict=True)]
    expires_at: Annotated[AwareDatetime, Field(strict=True)]
    rig_session: str
    args: dict[str, Any] = {}


class ReplyState(StrEnum):
    """What became of a command so far; `accepted` is followed by `done` or `failed`."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"


class Reply(BaseModel):
    """The answer to a command.

    Attributes:
        cmd_id: the command's; None if none could be read.
        verb: the command's.
        state: accepted, refused, done or failed.
        reason: why it was refused or has failed, in words.
        result: what the verb gives, once done.
        is_repeat: whether the command had been received before, and this is the answer of then.
        session: the session that answers.
        time: when.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cmd_id: str | None
    verb: str
    state: ReplyState
    reason: str = ""
    result: dict[str, Any] = {}
    is_repeat: bool = False
    session: str
    time: AwareDatetime

    def wire(self) -> bytes:
        """Return the payload, one JSON object."""
        return self.model_dump_json().encode()


class Opened(NamedTuple):
    """What was found in an envelope: a command, or why there is none and whom to tell."""

    command: Command | None
    cmd_id: str | None
    problem: str


def open_envelope(payload: bytes) -> Opened:
    """Return the command in a payload, or what is wrong with it."""
    if len(payload) > MAX_BYTES:
        return Opened(None, None, f"too large: {len(payload)} bytes, at most {MAX_BYTES} are read")
    try:
        command = Command.model_validate_json(payload)
    except ValidationError as error:
        return Opened(None, _id_in(payload), _complaint(error))
    return Opened(command, command.cmd_id, "")


def _id_in(payload: bytes) -> str | None:
    """Return a usable cmd_id of a command that is otherwise wrong."""
    import re

    try:
        body = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    cmd_id = body.get("cmd_id") if isinstance(body, dict) else None
    return cmd_id if isinstance(cmd_id, str) and re.fullmatch(_ID, cmd_id) else None


def _complaint(error: ValidationError) -> str:
    """Return what is wrong, in one line."""
    said: list[str] = []
    for each in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in each["loc"])
        said.append(f"{where}: {each['msg']}" if where else str(each["msg"]))
    return "; ".join(said)


def objection(command: Command, *, session_id: str, now: datetime) -> str:
    """Return why a command may not be carried out by this session now; "" if it may."""
    if command.rig_session != session_id:
        return f"meant for session {command.rig_session}; the rig's present one is {session_id}"
    if now >= command.expires_at:
        return f"expired at {_at(command.expires_at)}; it is {_at(now)} at the rig"
    if command.issued_at > now + timedelta(seconds=CLOCK_TOLERANCE_S):
        return (
            f"issued in the future, at {_at(command.issued_at)}; it is {_at(now)} at the rig, and"
            f" clocks may differ by {CLOCK_TOLERANCE_S:.0f} s"
        )
    if command.expires_at - command.issued_at > timedelta(seconds=MAX_LIFETIME_S):
        return (
            f"valid for too long: at most {MAX_LIFETIME_S / 3600:.0f} h may lie between its times"
        )
    return ""


def keep_until(command: Command, now: datetime) -> datetime:
    """Return until when the id of a command must be remembered: bounded, whatever it claims."""
    latest = now + timedelta(seconds=MAX_LIFETIME_S + CLOCK_TOLERANCE_S)
    return min(max(command.expires_at, now), latest) + timedelta(seconds=KEPT_AFTER_EXPIRY_S)


def _at(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
