from __future__ import annotations

import asyncio
import gc
from contextlib import closing

import pytest

from labctl.errors import BadInputError
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.credentials import PASSWORD_VARIABLE, USERNAME_VARIABLE
from labctl.stream.mqtt import (
    BrokerAddress,
    BrokerLostError,
    broker_address,
    connected,
)


def test_a_url_gives_host_port_and_credentials():
    address = broker_address("mqtts://anna:p%40ss@broker.lab:8884")
    assert (address.host, address.port, address.is_encrypted) == ("broker.lab", 8884, True)
    assert (address.username, address.password) == ("anna", "p@ss")


@pytest.mark.parametrize(("scheme", "port"), [("mqtt", 1883), ("mqtts", 8883)])
def test_each_scheme_has_its_port(scheme, port):
    assert broker_address(f"{scheme}://localhost").port == port


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:1883",
        "mqtt://",
        "mqtt://localhost:x",
        "mqtt://localhost:99999",
        "mqtt://h/path",
        "mqtt://[::1",
        "mqtt://[x]",
        "mqtt://\u2100.example",
        "mqtts://u:p@broker..example",
        "mqtts://u:p@.example",
        "mqtts://u:p@*.example",
        "mqtts://u:p@bro ker",
        f"mqtts://u:p@{'a' * 64}.example",
        f"mqtts://u:p@{'a.' * 130}example",
    ],
)
def test_what_is_no_broker_url_is_refused(url):
    with pytest.raises(BadInputError, match="expected mqtt://"):
        broker_address(url)


def test_credentials_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(USERNAME_VARIABLE, "anna")
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    address = broker_address("mqtts://broker.lab")
    assert (address.username, address.password) == ("anna", "secret")


@pytest.mark.parametrize(
    "url", ["mqtt://broker.lab", "mqtt://u:p@broker.lab", "mqtts://broker.lab", "mqtt://10.0.0.7"]
)
def test_a_broker_elsewhere_needs_tls_and_a_password(url, monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(BadInputError, match="another machine"):
        broker_address(url)
    assert broker_address(url, allow_insecure=True).port


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_a_broker_on_this_machine_needs_neither(host):
    assert broker_address(f"mqtt://{host}").port == 1883


def test_a_password_is_never_shown():
    address = broker_address("mqtts://u:secret@broker.lab")
    assert "secret" not in f"{address} {address!r}"
    with pytest.raises(BadInputError) as caught:
        broker_address("mqtt://u:secret@broker.lab:port")
    assert "secret" not in str(caught.value)


async def test_no_broker_at_the_address_is_said(free_port):
    with pytest.raises(BrokerLostError, match=str(free_port)):
        async with connected(broker_address(f"mqtt://127.0.0.1:{free_port}")):
            pass


async def test_a_server_that_never_answers_is_given_up_and_hung_up_on(monkeypatch):
    monkeypatch.setattr("labctl.stream.mqtt._TIMEOUT_S", 0.1)
    hung_up = asyncio.Event()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerLostError, match="timed out"):
            async with connected(broker_address(f"mqtt://127.0.0.1:{port}")):
                pass
        await asyncio.wait_for(hung_up.wait(), timeout=5)


async def test_a_cancellation_that_comes_with_the_answer_is_not_swallowed(broker):
    async with connected(broker) as connection:
        subscribing = asyncio.create_task(connection.subscribe("labctl/bench/run/+/doc"))
        client = connection._client._client
        told = client.on_subscribe

        def answered(*arguments) -> None:
            told(*arguments)
            subscribing.cancel()

        client.on_subscribe = answered
        await asyncio.wait({subscribing}, timeout=5)
    assert subscribing.cancelled()


async def test_a_break_that_nobody_asked_about_is_not_complained_of():
    embedded, complaints = EmbeddedBroker(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    async with connected(embedded.start()) as connection:
        embedded.stop()
        await asyncio.wait({connection._client._disconnected}, timeout=5)
    del connection
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


@pytest.mark.parametrize(
    "host", ["broker.lab", "Rig_3.lab.", "10.0.0.7", "[fe80::1]", "b\u00fcro.de"]
)
def test_a_machine_may_be_named_as_networks_name_it(host):
    assert broker_address(f"mqtts://u:p@{host}").port == 8883


class SlowBroker:
    """Takes one message of topic `t` after the other, each in so many seconds; MQTT 3.1.1."""

    def __init__(self, n_answers: int) -> None:
        self._n_answers = n_answers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await self._packet(reader)
            writer.write(b"\x20\x02\x00\x00")
            for _ in range(self._n_answers):
                packet = await self._packet(reader)
                await asyncio.sleep(ANSWER_S)
                writer.write(b"\x40\x02" + packet[3:5])
            await reader.read()

    async def _packet(self, reader: asyncio.StreamReader) -> bytes:
        _, length = await reader.readexactly(2)
        return await reader.readexactly(length)


ANSWER_S = 0.2


@pytest.mark.parametrize(("n_answers", "outcome"), [(8, "sent"), (7, "no answer")])
async def test_a_slow_line_is_no_broken_one(monkeypatch, n_answers, outcome):
    monkeypatch.setattr("labctl.stream.mqtt._TIMEOUT_S", 3 * ANSWER_S)
    server = await asyncio.start_server(SlowBroker(n_answers), "127.0.0.1", 0)
    address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    said = "sent"
    async with server, connected(address) as connection:
        try:
            await asyncio.gather(*(connection.publish("t", b"") for _ in range(8)))
        except BrokerLostError as error:
            said = str(error)
    assert outcome in said
