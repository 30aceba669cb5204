"""The MQTT topics: documents and their watermarks, retained states, commands and replies."""

from __future__ import annotations

from typing import Literal

ANY = "+"
"""Stands for every rig, run, channel or verb in a topic to subscribe to."""

PROBE_MARK = b"probe "
"""How the payload of a probe begins; a document or a watermark begins with a brace."""

_PROBE_RIG = "probe"
_PROBE_RUNS = {"publish": "probe-publish", "read": "probe-read"}


def is_topic_part(name: str) -> bool:
    """Return whether a name can be one level of a topic."""
    return bool(name) and not set(name) & set("/+#\0")


def document_topic(rig: str, run_id: str) -> str:
    """Return where the documents of a run are published."""
    return f"labctl/{rig}/run/{run_id}/doc"


def watermark_topic(rig: str, run_id: str) -> str:
    """Return where recorders publish the watermark of a run."""
    return f"labctl/{rig}/run/{run_id}/ack"


def resend_topic(rig: str, run_id: str) -> str:
    """Return where a recorder that has a gap asks for what a run has sent since its watermark."""
    return f"labctl/{rig}/run/{run_id}/resend"


def status_topic(rig: str) -> str:
    """Return where a rig says, retained, whether it is online."""
    return f"labctl/{rig}/status"


def channel_status_topic(rig: str, channel: str) -> str:
    """Return where a rig says, retained, what one of its channels is doing."""
    return f"labctl/{rig}/channel/{channel}/status"


def command_topic(rig: str, verb: str) -> str:
    """Return where a rig takes commands."""
    return f"labctl/{rig}/cmd/{verb}"


def reply_topic(rig: str, cmd_id: str) -> str:
    """Return where a rig answers a command."""
    return f"labctl/{rig}/reply/{cmd_id}"


def rig_and_run(topic: str) -> tuple[str, str]:
    """Return the rig and the run that a document, watermark or resend topic names."""
    _, rig, _, run_id, _ = topic.split("/")
    return rig, run_id


def probe_topic(topic: str, tried: Literal["publish", "read"]) -> str:
    """Return where to try whether one may publish to, or read, a topic of any run.

    A run for each: who may publish a probe of reading may not therefore publish anything else.
    """
    labctl, rig, *run, _, kind = topic.split("/")
    rig = _PROBE_RIG if rig == ANY else rig
    return "/".join([labctl, rig, *run, _PROBE_RUNS[tried], kind])


def is_probe(topic: str, payload: bytes) -> bool:
    """Return whether a message only tried a permission; nobody need deal with it."""
    return payload.startswith(PROBE_MARK) and any(
        f"/run/{run}/" in topic for run in _PROBE_RUNS.values()
    )
