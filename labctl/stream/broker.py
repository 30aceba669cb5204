"""The embedded MQTT broker, for a single rig, a demonstration or CI: amqtt on its own thread.

It listens on this machine only and lets in only who knows the password made at its start. It
forgets everything when it ends and, now and then, a message; the outbox does not.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import BrokerError
from amqtt.plugins.base import BaseAuthPlugin

from labctl.errors import StreamError
from labctl.stream.mqtt import BrokerAddress

if TYPE_CHECKING:
    from amqtt.session import Session

_HOST = "127.0.0.1"
_USERNAME = "labctl"
_GOODBYE_S = 10.0

_log = logging.getLogger(__name__)

# amqtt tells every connection and every late acknowledgement; what matters of it is noticed, and
# told, by publisher and recorder.
logging.getLogger("amqtt").setLevel(logging.CRITICAL)
logging.getLogger("transitions").setLevel(logging.WARNING)


class PasswordPlugin(BaseAuthPlugin):
    """Lets in the clients that know the password; amqtt finds it by its dotted name."""

    @dataclass
    class Config(BaseAuthPlugin.Config):
        """What amqtt hands over."""

        username: str
        password: str

    async def authenticate(self, *, session: Session) -> bool:
        """Return whether a session brings the right name and password."""
        config: Any = self.config
        given = f"{session.username}:{session.password}".encode()
        return hmac.compare_digest(given, f"{config.username}:{config.password}".encode())


class _Broker(Broker):
    """amqtt's broker, and two things that it gets wrong (0.12)."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one client and hang up, however that ends.

        amqtt keeps the socket of a client that leaves at a bad moment.
        """
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            writer.close()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send what is retained to a client that has asked for it.

        amqtt sends a new client what any other has asked for, too.
        """
        subscribed = self._subscriptions.get(subscription[0], [])
        if any(subscriber is session for subscriber, _ in subscribed):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class EmbeddedBroker:
    """A broker on a port of the loopback interface; port 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._password = secrets.token_urlsafe()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> BrokerAddress:
        """Start to listen; return where, with the credentials.

        Raises:
            StreamError: it cannot (the port is taken).
        """
        port: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(port,), name="labctl-broker", daemon=True
        )
        self._thread.start()
        try:
            return BrokerAddress(_HOST, port.result(), _USERNAME, self._password)
        except BaseException:
            self._thread.join()  # it ends by itself, having said why
            self._thread = None
            raise

    def stop(self) -> None:
        """Drop all clients and messages, and end the thread; a second call does nothing."""
        if self._thread is None:
            return
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_GOODBYE_S)
        if self._thread.is_alive():
            _log.warning("the embedded broker does not end; the process will end it")
        self._thread = None
        self._loop = None

    def _run(self, port: Future[int]) -> None:
        """The thread: serve until told to stop."""
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            try:
                runner.run(self._serve(port))
            except BaseException as error:
                if port.done():
                    raise
                port.set_exception(error)  # whoever waits for the start must hear of its end

    async def _serve(self, port: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        broker = _Broker(self._config())
        try:
            await broker.start()
        except BrokerError as error:
            raise StreamError(f"embedded broker on port {self._port}: {error}") from error
        port.set_result(_port_of(broker))
        await self._stopping.wait()
        await broker.shutdown()

    def _config(self) -> BrokerConfig:
        """Return amqtt's configuration: one listener, one way in."""
        plugin = f"{PasswordPlugin.__module__}.{PasswordPlugin.__qualname__}"
        listener = ListenerConfig(type=ListenerType.TCP, bind=f"{_HOST}:{self._port}")
        return BrokerConfig(
            listeners={"default": listener},
            plugins={plugin: {"username": _USERNAME, "password": self._password}},
        )


def _port_of(broker: Broker) -> int:
    """Return the port that a broker listens on; amqtt keeps it to itself."""
    server: Any = broker._servers["default"].instance  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return int(server.sockets[0].getsockname()[1])
