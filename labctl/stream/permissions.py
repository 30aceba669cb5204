"""Permissions, tried before data depend on them.

A broker that denies a publish acknowledges it all the same, as MQTT 3.1.1 has no other answer, and
most grant every subscription and then deliver nothing. So a client sends probes to itself on each
new connection: one through each topic that it must publish to, one through each that it must read.
Probes have run ids of their own, which an access list can name: to see his own probe nobody needs
the right to forge a real watermark, or to read real documents.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from labctl.stream.mqtt import BrokerLostError, PublishRefusedError
from labctl.stream.topics import (
    PROBE_MARK,
    document_topic,
    probe_topic,
    resend_topic,
    watermark_topic,
)

if TYPE_CHECKING:
    from labctl.stream.mqtt import BrokerAddress, Connection

_PATIENCE_S = 5.0
_MAX_PROBES = 100


class PermissionDeniedError(BrokerLostError):
    """The broker's access list does not let a client do its work; an administrator can mend it."""


class Needs(NamedTuple):
    """The topics that a client must be able to publish to and to read, wildcards and all."""

    publishes: tuple[str, ...]
    reads: tuple[str, ...]


def publisher_needs(rig: str) -> Needs:
    """Return what the publisher of a rig must be allowed."""
    return Needs(
        publishes=(document_topic(rig, "+"),),
        reads=(watermark_topic(rig, "+"), resend_topic(rig, "+")),
    )


def recorder_needs(rig: str) -> Needs:
    """Return what a recorder of a rig, or of every rig, must be allowed."""
    return Needs(
        publishes=(watermark_topic(rig, "+"), resend_topic(rig, "+")),
        reads=(document_topic(rig, "+"),),
    )


async def prove(connection: Connection, needs: Needs, address: BrokerAddress) -> None:
    """Return once a client has seen that it may do what it needs to.

    Before any other subscription: a flood of documents would hold the probes up.

    Raises:
        PermissionDeniedError: it may not, or cannot tell; names topics and user.
    """
    probes = {
        **{topic: probe_topic(topic, "publish") for topic in needs.publishes},
        **{topic: probe_topic(topic, "read") for topic in needs.reads},
    }
    doubts = _doubts(needs, probes, _who(address))
    mark = PROBE_MARK + secrets.token_hex(8).encode()
    for probe in probes.values():
        await connection.subscribe(probe)
    for topic, probe in probes.items():
        try:
            await connection.publish(probe, mark)
        except PublishRefusedError as error:  # only MQTT 5 says so
            doubts[topic] = f"{_who(address)}: {error}"
    arrived = await _arrived(connection, set(probes.values()), mark)
    denied = [doubt for topic, doubt in doubts.items() if probes[topic] not in arrived]
    if denied:
        raise PermissionDeniedError(
            f"{address}: no probe came back within {_PATIENCE_S:g} s: {'; '.join(denied)}"
        )


async def _arrived(connection: Connection, expected: set[str], mark: bytes) -> set[str]:
    """Return where our own probes have come back within a bounded time; others' do not count."""
    arrived: set[str] = set()
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while arrived != expected:
                for message in await connection.receive_all(_MAX_PROBES):
                    connection.acknowledge(message)
                    if message.payload == mark:
                        arrived.add(message.topic)
    return arrived


def _doubts(needs: Needs, probes: dict[str, str], who: str) -> dict[str, str]:
    """Return what it means if a probe does not come back, for each topic."""
    unpublished = {
        topic: f"{who} may not publish {topic} (or not read it back: {probes[topic]})"
        for topic in needs.publishes
    }
    unread = {
        topic: f"{who} may not read {topic} (or not publish a probe to it: {probes[topic]})"
        for topic in needs.reads
    }
    return unpublished | unread


def _who(address: BrokerAddress) -> str:
    if address.username is not None:
        return f"user {address.username!r}"
    return "who shows our certificate" if address.tls.cert_file else "who has no user name"
