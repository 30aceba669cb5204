"""The connection to an MQTT broker; the one place that knows aiomqtt and paho.

MQTT 3.1.1, clean sessions: what a broker remembers or forgets does not matter, because documents
are sent until a recorder's watermark covers them. Three traits of the client (aiomqtt 2.5, paho
2.1) shape this module: it acknowledges a message before anyone has processed it, so manual
acknowledgement is on; a publish that the broker's access list denies returns like any other, so
nothing here takes a return for a delivery; and it needs a selector event loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from labctl.errors import BadInputError, StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator

_T = TypeVar("_T")

USERNAME_VARIABLE = "LABCTL_MQTT_USERNAME"
PASSWORD_VARIABLE = "LABCTL_MQTT_PASSWORD"  # noqa: S105 (the name of the variable)

# What the client has to say comes as an exception, too; the log has the answers to calls that were
# cancelled meanwhile.
_client_log = logging.getLogger(f"{__name__}.client")
_client_log.setLevel(logging.CRITICAL)

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_TIMEOUT_S = 10.0
_KEEPALIVE_S = 20
_CONNECT_S = 6.0  # paho gives a connection 5 s


class BrokerLostError(StreamError):
    """The broker cannot be reached, refuses the client, or the connection has broken."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens and who we are to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    is_encrypted: bool = False

    def __str__(self) -> str:
        return f"{'mqtts' if self.is_encrypted else 'mqtt'}://{self.host}:{self.port}"


class Message(NamedTuple):
    """A message as it came: its topic, its bytes and what is needed to acknowledge it."""

    topic: str
    payload: bytes
    number: int
    qos: int


class LastWill(NamedTuple):
    """What the broker publishes, retained, once the client is gone without a goodbye."""

    topic: str
    payload: bytes


def broker_address(url: str, *, allow_insecure: bool = False) -> BrokerAddress:
    """Return the broker that a URL names: mqtt://user:password@host:port, or mqtts://.

    Credentials may come from LABCTL_MQTT_USERNAME and LABCTL_MQTT_PASSWORD instead.

    Raises:
        BadInputError: not such a URL; or a broker beyond this machine without TLS and a password,
            unless `allow_insecure` says that this is meant.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{_shown(url)}: expected mqtt://host:port or mqtts://host") from error
    if not parts.hostname or parts.path.strip("/") or parts.query:
        raise BadInputError(f"{_shown(url)}: expected mqtt://host:port or mqtts://host")
    address = BrokerAddress(
        host=parts.hostname,
        port=port,
        username=_credential(parts.username, USERNAME_VARIABLE),
        password=_credential(parts.password, PASSWORD_VARIABLE),
        is_encrypted=parts.scheme == "mqtts",
    )
    if not allow_insecure:
        _check_secure(address)
    return address


def _credential(in_url: str | None, variable: str) -> str | None:
    """Return a credential from the URL, else from the environment."""
    return unquote(in_url) if in_url else os.environ.get(variable)


def _shown(url: str) -> str:
    """Return a URL that may be shown: without its credentials."""
    return url.rpartition("@")[2] if "@" in url else url


def _check_secure(address: BrokerAddress) -> None:
    """Raise BadInputError if documents or a password would cross a network unprotected."""
    if _is_loopback(address.host) or (address.is_encrypted and address.password):
        return
    raise BadInputError(
        f"{address}: a broker on another machine needs mqtts:// and a password"
        f" (in the URL or in {USERNAME_VARIABLE} and {PASSWORD_VARIABLE})"
    )


def _is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Client(aiomqtt.Client):
    """aiomqtt's client with the manual acknowledgement that paho has and aiomqtt hides."""

    async def __aenter__(self) -> Self:
        # aiomqtt connects on another thread, which goes on when this call is cancelled: its socket
        # would open behind our back. So the attempt is let finish first.
        connecting = asyncio.create_task(super().__aenter__())
        try:
            await asyncio.wait({connecting})
            return await connecting
        except BaseException:
            await asyncio.wait({connecting}, timeout=_CONNECT_S)
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            # A broker that took the connection and never answered would keep the socket open.
            self._client.disconnect()
            raise

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*cast("Any", error))
        finally:
            # Else asyncio complains on stderr of a break that nobody has asked about.
            if self._disconnected.done() and not self._disconnected.cancelled():
                self._disconnected.exception()

    def acknowledge_by_hand(self) -> None:
        self._client.manual_ack_set(on=True)

    def acknowledge(self, number: int, qos: int) -> None:
        self._client.ack(number, qos)


class Connection:
    """An open connection; every method raises BrokerLostError once it is broken."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._messages = client.messages

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish; at QoS 1 returns when the broker says it has the message. It may lie."""
        with _as_broker_lost():
            await in_a_task(self._client.publish(topic, payload, qos=qos, retain=retain))

    async def subscribe(self, topic: str) -> None:
        """Ask for the messages of a topic, at QoS 1.

        Raises:
            BrokerLostError: the broker refuses.
        """
        with _as_broker_lost():
            granted = await in_a_task(self._client.subscribe(topic, qos=1))
        if any(isinstance(code, ReasonCode) and code.is_failure for code in granted):
            raise BrokerLostError(f"the broker refuses a subscription to {topic}")

    async def receive(self, limit: int) -> list[Message]:
        """Wait for a message; return it and up to `limit` in all that have come by then."""
        received: list[Message] = []
        with _as_broker_lost():
            while not received or (len(received) < limit and len(self._messages)):
                message = await anext(self._messages)
                received.append(
                    Message(str(message.topic), _bytes(message), message.mid, message.qos)
                )
        return received

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message has been dealt with; until then it counts as open.

        At QoS 0 there is nothing to tell, and Mosquitto hangs up on who does.
        """
        self._client.acknowledge(message.number, message.qos)


async def in_a_task(work: Coroutine[None, None, _T]) -> _T:
    """Return what some work returns, and be cancelled when asked to, whatever the work makes of it.

    Work on a connection swallows cancellations: asyncio.wait_for, which the client uses, forgets
    one that comes together with the answer (before Python 3.12), and a connection that breaks while
    it is being closed raises its own error instead.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})
    return task.result()


@asynccontextmanager
async def connected(
    address: BrokerAddress, *, will: LastWill | None = None
) -> AsyncGenerator[Connection]:
    """Give a connection to a broker.

    Raises:
        BrokerLostError: there is none to be had.
    """
    client = _Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        protocol=aiomqtt.ProtocolVersion.V311,
        clean_session=True,
        will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True) if will else None,
        tls_context=ssl.create_default_context() if address.is_encrypted else None,
        timeout=_TIMEOUT_S,
        keepalive=_KEEPALIVE_S,
        logger=_client_log,
        # Else a small packet waits 40 ms for the other side's delayed TCP acknowledgement.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    client.acknowledge_by_hand()
    with _as_broker_lost(address):
        async with client:
            yield Connection(client)


def _bytes(message: aiomqtt.Message) -> bytes:
    """Return a message's payload; aiomqtt's type allows more than what arrives."""
    return bytes(message.payload)


@contextmanager
def _as_broker_lost(address: BrokerAddress | None = None) -> Generator[None]:
    """Turn the client's errors into BrokerLostError."""
    try:
        yield
    except aiomqtt.MqttError as error:
        raise BrokerLostError(f"{address or 'broker'}: {error}") from error
