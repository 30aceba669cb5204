"""What the client is known to do wrong and a Connection does not, on both versions of MQTT."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from labctl.stream.link import Link
from labctl.stream.mqtt import (
    BrokerLostError,
    LastWill,
    PublishRefusedError,
    broker_address,
    connected,
)

VERSIONS = pytest.mark.parametrize("version", ["3.1.1", "5"])


@pytest.fixture
def address(free_port):
    return broker_address(f"mqtt://127.0.0.1:{free_port}")


@pytest.mark.server
async def test_a_publish_that_the_access_list_denies_is_an_error_where_the_broker_says_so(
    mosquitto, address
):
    with mosquitto(may_publish=False):
        async with connected(replace(address, version="5")) as connection:
            with pytest.raises(PublishRefusedError, match=r"a publish to a: Not authorized"):
                await connection.publish("a", b"x")
        async with connected(address) as connection:
            await connection.publish("a", b"x")  # 3.1.1 has no word for it


@pytest.mark.server
async def test_a_publish_without_a_subscriber_is_no_error(mosquitto, address):
    with mosquitto():
        async with connected(replace(address, version="5")) as connection:
            await connection.publish("a", b"x")


@pytest.mark.server
@VERSIONS
async def test_what_is_not_acknowledged_holds_the_broker_back(mosquitto, address, version):
    address = replace(address, version=version)
    with mosquitto():
        async with connected(address) as listener, connected(address) as speaker:
            await listener.subscribe("a")
            for number in range(21):
                await speaker.publish("a", b"%d" % number)
            received = []
            while len(received) < 20:
                received += await listener.receive(1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.receive(1), timeout=0.1)
            for message in received:
                listener.acknowledge(message)
            [last] = await listener.receive(1)
    assert last.payload == b"20"


@pytest.mark.server
@VERSIONS
async def test_a_hundred_publishes_at_once_are_answered_each(mosquitto, address, version):
    address = replace(address, version=version)
    with mosquitto():
        async with connected(address) as listener, connected(address) as speaker:
            await listener.subscribe("a")
            async with asyncio.TaskGroup() as group:
                for number in range(100):
                    group.create_task(speaker.publish("a", b"%d" % number, qos=number % 2))
            received = []
            while len(received) < 100:
                for message in await listener.receive(100):
                    listener.acknowledge(message)
                    received.append(message.payload)
    assert {int(payload) for payload in received} == set(range(100))


@pytest.mark.server
@VERSIONS
async def test_a_rig_s_status_is_retained(mosquitto, address, version, outbox_path, store_path):
    address = replace(address, version=version)
    states = []
    with mosquitto():
        async with connected(address) as watcher:
            await watcher.subscribe("labctl/bench/status")
            with Link(outbox_path=outbox_path, rig="bench", mqtt=address, store_path=store_path):
                states += await watcher.receive(1)
            states += await watcher.receive(1)
        async with connected(address) as late:
            await late.subscribe("labctl/bench/status")
            states += await late.receive(1)
    assert [b"offline" in state.payload for state in states] == [False, True, True]


@pytest.mark.server
@VERSIONS
async def test_who_goes_without_a_goodbye_leaves_a_last_will(mosquitto, address, version):
    address = replace(address, version=version)
    with mosquitto():
        with suppress(BrokerLostError):
            async with connected(address, will=LastWill("a", b"gone")) as connection:
                connection._client._client.socket().shutdown(socket.SHUT_RDWR)
                await connection.receive(1)
        async with connected(address) as late:
            await late.subscribe("a")
            [will] = await late.receive(1)
    assert will.payload == b"gone"


@pytest.mark.server
@VERSIONS
async def test_each_connection_asks_for_its_messages_again(
    mosquitto, address, version, outbox_path, store_path, points
):
    address = replace(address, version=version)
    with Link(outbox_path=outbox_path, rig="bench", mqtt=address, store_path=store_path) as link:
        for part in range(3):
            with mosquitto():
                for document in points(20, first=20 * part):
                    await link.put(document)
                assert await link.drain(20) == 0


@pytest.mark.server
@VERSIONS
async def test_a_publish_under_way_when_the_broker_dies_fails_at_once(mosquitto, address, version):
    with mosquitto() as process:
        async with asyncio.timeout(5):
            with pytest.raises(BrokerLostError):  # noqa: PT012
                async with connected(replace(address, version=version)) as connection:
                    await connection.subscribe("a")
                    process.kill()
                    while True:
                        await connection.publish("a", b"x")


class Greeting:
    """A server that takes one connection, keeps what the client says first, and hangs up."""

    def __init__(self) -> None:
        self.packet = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.packet = await reader.read(1000)
        writer.close()
        await writer.wait_closed()


@VERSIONS
async def test_a_broker_that_hangs_up_on_the_greeting_is_told_at_once(version):
    async with await asyncio.start_server(Greeting(), "127.0.0.1", 0) as server:
        address = broker_address(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with asyncio.timeout(5):
            with pytest.raises(BrokerLostError, match="hung up on our greeting"):
                async with connected(replace(address, version=version)):
                    pass


async def test_topic_aliases_are_never_asked_for():
    greeting = Greeting()
    async with await asyncio.start_server(greeting, "127.0.0.1", 0) as server:
        address = broker_address(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(BrokerLostError):
            async with connected(replace(address, version="5")):
                pass
    header = greeting.packet[2:]
    assert header[:7] == b"\x00\x04MQTT\x05"
    assert header[10] == 0, "properties in CONNECT, where the default of a topic alias is none"


def test_the_mqtt_thread_has_a_selector_loop_whatever_the_policy(
    outbox_path, store_path, monkeypatch
):
    def refuse() -> asyncio.AbstractEventLoop:
        raise AssertionError("the policy's own kind of loop: on Windows a proactor")

    monkeypatch.setattr(asyncio.get_event_loop_policy(), "new_event_loop", refuse)
    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        assert isinstance(link._running().loop, asyncio.SelectorEventLoop)
        assert "labctl-mqtt" in [thread.name for thread in threading.enumerate()]
