"""What a rig and its channels say about themselves, retained, and when a reader may believe it.

A broker keeps the last status of a channel whatever becomes of the process that said it, and has
only one last will for each connection: it makes the rig `offline`, not the channels. So every
status names the session that said it, and `believed_state` is the one rule for all readers.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class RigState(StrEnum):
    """Whether somebody speaks for a rig; `degraded` works, but something is wrong."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


class ChannelState(StrEnum):
    """What a channel is doing; `unknown` is never said, only concluded by a reader."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    UNKNOWN = "unknown"


def _finite(value: object) -> object:
    """Return a number; None for one that is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _share(value: object) -> object:
    """Return a share between 0 and 1; 0 for a number that is none."""
    if isinstance(value, int | float) and math.isfinite(value):
        return min(max(float(value), 0.0), 1.0)
    return _finite(value) or 0.0


_Number = Annotated[float | None, BeforeValidator(_finite)]
_Seconds = Annotated[Annotated[float, Field(ge=0, le=1e12)] | None, BeforeValidator(_finite)]
_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Status(BaseModel):
    """Base of what is said: frozen; what a later version adds is no error."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def wire(self) -> bytes:
        """Return the payload, one JSON object; a number that is none as null."""
        return self.model_dump_json().encode()


class RigStatus(_Status):
    """The payload of `labctl/<rig>/status`.

    Attributes:
        state: online, degraded or offline.
        session: the process that says it; another one after each start.
        reason: what is wrong, or why it is offline; "" if nothing is.
        time: when it was said; None in a last will, which is written before the death.
    """

    state: RigState
    session: str
    reason: str = ""
    time: AwareDatetime | None = None


class ChannelStatus(_Status):
    """The payload of `labctl/<rig>/channel/<name>/status`: the channel's present or last run.

    Attributes:
        state: running, paused or ended.
        outcome: how the run ended (completed, aborted, failed, truncated); "" before.
        message: why, in a sentence.
        run_id: the run.
        protocol: its protocol.
        sample: its sample.
        step: number of the step under way, from 1.
        steps: how many steps are planned.
        step_key: the step's key.
        note: what the step is doing.
        progress: share of the run's time that is over, 0 to 1.
        elapsed_s: run time so far; None if that is not known.
        time_left_s: run time still to come; None if that is not known.
        temperature_k: the stage's last reading.
        setpoint_k: its setpoint.
        last_point: newest point of the technique under way.
        session: as in the rig's status.
        time: when it was said.
    """

    state: ChannelState
    outcome: str = ""
    message: str = ""
    run_id: str
    protocol: str = ""
    sample: str = ""
    step: _Count = 0
    steps: _Count = 0
    step_key: str = ""
    note: str = ""
    progress: Annotated[float, BeforeValidator(_share)] = 0.0
    elapsed_s: _Seconds = 0.0
    time_left_s: _Seconds = 0.0
    temperature_k: _Number = None
    setpoint_k: _Number = None
    last_point: dict[str, _Number] = {}
    session: str = ""
    time: AwareDatetime | None = None


_AnyStatus = TypeVar("_AnyStatus", bound=_Status)


def read_status(kind: type[_AnyStatus], payload: bytes) -> _AnyStatus | None:
    """Return the status in a payload; None if there is none (anybody may publish anything)."""
    try:
        return kind.model_validate_json(payload)
    except ValidationError:
        return None


def believed_state(channel: ChannelStatus, rig: RigStatus | None) -> ChannelState:
    """Return what a channel is doing, as far as a reader can know.

    `ended` is final: it stays true after the rig has gone. Anything else is true only while the
    rig is not offline and the session that said it is the rig's present one.
    """
    if channel.state is ChannelState.ENDED:
        return ChannelState.ENDED
    if rig is None or rig.state is RigState.OFFLINE or rig.session != channel.session:
        return ChannelState.UNKNOWN
    return channel.state
