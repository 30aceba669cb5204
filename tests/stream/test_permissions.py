"""What a client finds out about its permissions before data depend on them."""

from __future__ import annotations

import asyncio

import pytest

from labctl.stream.mqtt import connected
from labctl.stream.permissions import (
    Needs,
    PermissionDeniedError,
    prove,
    publisher_needs,
    recorder_needs,
)
from labctl.stream.topics import (
    PROBE_MARK,
    document_topic,
    is_probe,
    probe_topic,
    resend_topic,
    watermark_topic,
)

CLIENTS = {"publisher": publisher_needs, "recorder": recorder_needs}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("rig", ["bench", "+"])
async def test_who_may_do_everything_is_let_begin(broker, client, rig):
    async with connected(broker) as connection:
        await prove(connection, CLIENTS[client](rig), broker)


async def test_many_who_try_at_once_do_not_mistake_each_other(broker):
    async def tried(needs: Needs) -> None:
        async with connected(broker) as connection:
            await prove(connection, needs, broker)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(tried(publisher_needs("bench")))
            group.create_task(tried(recorder_needs("bench")))


async def test_a_probe_of_somebody_else_proves_nothing(broker, monkeypatch):
    monkeypatch.setattr("labctl.stream.permissions._PATIENCE_S", 0.2)
    needs = publisher_needs("bench")
    async with connected(broker) as other, connected(broker) as connection:
        publish = other.publish
        # Ours go astray, and the other's come in their place.
        monkeypatch.setattr(connection, "publish", lambda topic, _: publish(topic, PROBE_MARK))
        with pytest.raises(PermissionDeniedError) as caught:
            await prove(connection, needs, broker)
    for topic in (*needs.publishes, *needs.reads):
        assert topic in str(caught.value)
    assert "user 'labctl'" in str(caught.value)


def test_the_way_of_a_question_for_a_resend_is_proved_at_both_ends():
    assert resend_topic("bench", "+") in publisher_needs("bench").reads
    assert resend_topic("bench", "+") in recorder_needs("bench").publishes


async def test_probes_reach_nobody_who_only_listens(broker):
    async with connected(broker) as listener, connected(broker) as connection:
        await listener.subscribe(document_topic("+", "+"))
        await prove(connection, publisher_needs("bench"), broker)
        await connection.publish(document_topic("bench", "r1"), b"{}")
        [message] = await listener.receive(10)
    assert message.payload == b"{}"


def test_a_probe_is_sent_where_the_same_rule_holds():
    topic = watermark_topic("bench", "+")
    assert probe_topic(topic, "read") == "labctl/bench/run/probe-read/ack"
    assert probe_topic(document_topic("+", "+"), "publish") == "labctl/probe/run/probe-publish/doc"


def test_a_document_of_a_run_that_is_called_probe_is_no_probe():
    topic = document_topic("bench", "probe-read")
    assert is_probe(topic, PROBE_MARK + b"0")
    assert not is_probe(topic, b'{"schema":1}')
    assert not is_probe(document_topic("bench", "r1"), PROBE_MARK + b"0")
    assert not is_probe("a", b"probe x")
