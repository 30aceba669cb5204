"""The connection to an MQTT broker; the one place that knows aiomqtt and paho.

MQTT 3.1.1 or 5, clean sessions: what a broker remembers or forgets does not matter, because
documents are sent until a recorder's watermark covers them. Some traits of the client (aiomqtt 2.5,
paho 2.1) shape this module: it acknowledges a message before anyone has processed it, so manual
acknowledgement is on, which also makes the broker wait for a slow reader; it drops the reason with
which MQTT 5 refuses a publish, so that is heard here; it waits for its whole timeout when a broker
hangs up on the greeting; and it needs a selector event loop. Topic aliases stay off, as long as
nobody asks for them when connecting.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast

import aiomqtt
from paho.mqtt.enums import LogLevel
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from labctl.errors import StreamError
from labctl.stream.address import BrokerAddress, broker_address
from labctl.stream.credentials import said_by_tls, tls_context
from labctl.stream.topics import is_probe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator

__all__ = [
    "BrokerAddress",
    "BrokerLostError",
    "Connection",
    "LastWill",
    "Message",
    "PublishRefusedError",
    "broker_address",
    "connected",
    "in_a_task",
]

_T = TypeVar("_T")

# What the client has to say comes as an exception, too; the log has the answers to calls that were
# cancelled meanwhile.
_client_log = logging.getLogger(f"{__name__}.client")
_client_log.setLevel(logging.CRITICAL)

_PROTOCOLS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}
_TIMEOUT_S = 10.0
_KEEPALIVE_S = 20
_KEPT_S = 86400  # how long a broker shall keep a session whose client is away (MQTT 5)
_CONNECT_S = 6.0  # paho gives a connection 5 s


class BrokerLostError(StreamError):
    """The broker cannot be reached, refuses the client, or the connection has broken."""


class PublishRefusedError(BrokerLostError):
    """The broker says that it does not take a message; only MQTT 5 can say so."""


class Message(NamedTuple):
    """A message as it came: its topic, its bytes and what is needed to acknowledge it."""

    topic: str
    payload: bytes
    number: int
    qos: int
    is_retained: bool = False
    """Whether the broker had kept it: it is older than the subscription."""


class LastWill(NamedTuple):
    """What the broker publishes, retained, once the client is gone without a goodbye."""

    topic: str
    payload: bytes


def _session_options(version: str, *, is_kept: bool) -> dict[str, Any]:
    """Return what asks a broker to keep, or not to keep, a session without its connection."""
    if version == "3.1.1":
        return {"clean_session": not is_kept}
    if not is_kept:
        return {"clean_start": True}
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = _KEPT_S
    return {"clean_start": False, "properties": properties}


class _Client(aiomqtt.Client):
    """aiomqtt's client, mended: what paho has and aiomqtt hides, and what it does not tell."""

    def __init__(
        self,
        address: BrokerAddress,
        will: LastWill | None,
        tls: ssl.SSLContext | None,
        client_id: str | None,
    ) -> None:
        super().__init__(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            protocol=_PROTOCOLS[address.version],
            identifier=client_id,
            **_session_options(address.version, is_kept=client_id is not None),
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True) if will else None,
            tls_context=tls,
            timeout=_TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            logger=_client_log,
            # Else a small packet waits 40 ms for the other side's delayed TCP acknowledgement.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._client.manual_ack_set(on=True)
        self._client.on_log = self._note_complaint
        self._complaint = ""
        self._last_answer_s = -math.inf
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}

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
        finally:
            self._client.on_log = None

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*cast("Any", error))
        finally:
            # Else asyncio complains on stderr of a break that nobody has asked about.
            if self._disconnected.done() and not self._disconnected.cancelled():
                self._disconnected.exception()

    async def answered_publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool
    ) -> ReasonCode | None:
        """Publish, and return what the broker answers; at QoS 0 nobody answers.

        aiomqtt's own `publish` drops the answer.
        """
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != 0:
            raise aiomqtt.MqttCodeError(info.rc, "could not publish")
        if info.is_published():
            return None
        answer = self._answers[info.mid] = self._loop.create_future()
        try:
            return await self._in_time(answer)
        finally:
            del self._answers[info.mid]

    async def _in_time(self, answer: asyncio.Future[ReasonCode]) -> ReasonCode:
        """Wait for an answer for as long as any come: on a slow line messages queue for long."""
        begun_s = self._loop.time()
        while not answer.done():
            left_s = max(begun_s, self._last_answer_s) + self.timeout - self._loop.time()
            if left_s <= 0:
                raise aiomqtt.MqttError("no answer to a publish")
            await asyncio.wait({answer}, timeout=left_s)
        return answer.result()

    def acknowledge(self, number: int, qos: int) -> None:
        self._client.ack(number, qos)

    def _on_publish(
        self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any
    ) -> None:
        self._last_answer_s = self._loop.time()
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)

    def _on_disconnect(
        self,
        client: Any,
        userdata: Any,
        flags: Any,
        reason_code: ReasonCode,
        properties: Any = None,
    ) -> None:
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        # paho may call this from the thread that connects.
        self._loop.call_soon_threadsafe(self._end_waits)

    def _end_waits(self) -> None:
        """Let everybody who waits for an answer know that none will come."""
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(_why_hung_up(self._complaint)))
            self._connected.exception()  # nobody may be waiting any more
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # likewise
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(aiomqtt.MqttError("disconnected"))

    def _note_complaint(self, client: Any, userdata: Any, level: int, text: str) -> None:
        """Keep what paho logs of an error: it is told nowhere else."""
        if level == LogLevel.MQTT_LOG_ERR:
            self._complaint = text


def _why_hung_up(complaint: str) -> str:
    """Return why a broker hung up on the greeting, as far as TLS has said so."""
    alert = re.search(r"alert (.+?)(?: \(_ssl|$)", complaint)
    if alert is not None:
        return f"the broker refuses our certificate, or that we have none: {alert[1]}"
    return "the broker hung up on our greeting; does it ask for TLS or for a client certificate?"


class Connection:
    """An open connection; every method raises BrokerLostError once it is broken."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._messages = client.messages

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish; at QoS 1 returns when the broker says it has the message. It may lie.

        Raises:
            PublishRefusedError: the broker says it does not take the message.
        """
        with _as_broker_lost():
            answer = await self._client.answered_publish(topic, payload, qos=qos, retain=retain)
        if answer is not None and answer.is_failure:
            raise PublishRefusedError(f"the broker refuses a publish to {topic}: {answer}")

    async def subscribe(self, topic: str, *, qos: int = 1) -> None:
        """Ask for the messages of a topic.

        Raises:
            BrokerLostError: the broker refuses.
        """
        with _as_broker_lost():
            granted = await in_a_task(self._client.subscribe(topic, qos=qos))
        if any(isinstance(code, ReasonCode) and code.is_failure for code in granted):
            raise BrokerLostError(f"the broker refuses a subscription to {topic}")

    async def receive(self, limit: int) -> list[Message]:
        """Wait for a message; return it and up to `limit` in all that have come by then.

        Probes of permissions are left out, whoever sent them.
        """
        wanted: list[Message] = []
        while not wanted:
            for message in await self.receive_all(limit):
                if is_probe(message.topic, message.payload):
                    self.acknowledge(message)
                else:
                    wanted.append(message)
        return wanted

    async def receive_all(self, limit: int) -> list[Message]:
        """Wait for messages as `receive` does; probes are messages, too."""
        received: list[Message] = []
        with _as_broker_lost():
            while not received or (len(received) < limit and len(self._messages)):
                message = await anext(self._messages)
                received.append(
                    Message(
                        str(message.topic),
                        _bytes(message),
                        message.mid,
                        message.qos,
                        message.retain,
                    )
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
    address: BrokerAddress, *, will: LastWill | None = None, client_id: str | None = None
) -> AsyncGenerator[Connection]:
    """Give a connection to a broker.

    With a client id the broker is asked to keep the session, and what comes for it, while there
    is no connection.

    Raises:
        BrokerLostError: there is none to be had.
    """
    try:
        tls = tls_context(address.tls) if address.is_encrypted else None
    except OSError as error:
        raise BrokerLostError(f"{address}: TLS files: {said_by_tls(error)}") from error
    client = _Client(address, will, tls, client_id)
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
        cause = error.__context__
        said = str(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            said = f"the broker's certificate is not to be trusted: {said_by_tls(cause)}"
        raise BrokerLostError(f"{address or 'broker'}: {said}") from error
