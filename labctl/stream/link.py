"""The link between a run and the store: the sink a run writes to, and the MQTT thread behind it.

Whatever is real time lives on the MQTT thread: outbox, publisher, recorder. The run stands on
another loop, which may be a virtual one; each wait for the real world holds that loop's clock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

from labctl.cancellation import to_the_end
from labctl.clock import VirtualTimeLoop, hold_clock
from labctl.errors import BadInputError, StreamError
from labctl.stream.courier import Courier
from labctl.stream.mqtt import BrokerAddress, broker_address
from labctl.stream.outbox import OutboxLimits, entry_of
from labctl.stream.topics import is_topic_part
from labctl.stream.transfer import FLOOD_PACE_S, PACE_S
from labctl.stream.whereabouts import Whereabouts, remove_whereabouts, write_whereabouts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from pathlib import Path
    from types import TracebackType

    from labctl.documents import Document, Room
    from labctl.stream.broker import EmbeddedBroker
    from labctl.stream.status import ChannelStatus

_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_CAPACITY = 1000
"""How many documents may wait for the disk before `put` waits too."""


class Link:
    """Takes a run's documents and answers for them: on disk first, in the store as soon as may be.

    Without a broker's URL it brings its own broker. With a store's path it records, too.

    Args:
        outbox_path: The outbox's file; one process at a time.
        rig: The rig's name in the topics.
        mqtt: A broker's address, or its URL, see `mqtt.broker_address`; None for an embedded one.
        store_path: The store's file to record into; None leaves that to a recorder elsewhere.
        recorders: The ids of the recorders that must have a document before it may be forgotten;
            with none named, any one will do.
        limits: How large the outbox may grow.
        allow_insecure: Talk to a broker on another machine even without TLS or a password.
    """

    def __init__(
        self,
        *,
        outbox_path: Path,
        rig: str,
        mqtt: str | BrokerAddress | None = None,
        store_path: Path | None = None,
        recorders: Collection[str] = (),
        limits: OutboxLimits = OutboxLimits(),  # noqa: B008 - it is frozen
        allow_insecure: bool = False,
    ) -> None:
        if mqtt is None and store_path is None:
            raise BadInputError("without a broker there must be a store to record into")
        if not is_topic_part(rig):
            raise BadInputError(f"rig name {rig!r}: expected text without / + #")
        self._address = (
            broker_address(mqtt, allow_insecure=allow_insecure) if isinstance(mqtt, str) else mqtt
        )
        self._outbox_path = outbox_path
        self._rig = rig
        self._store_path = store_path
        self._recorders = recorders
        self._limits = limits
        self._broker: EmbeddedBroker | None = None
        self._thread: threading.Thread | None = None
        self._courier: Courier | None = None
        self._on_thread: Courier | None = None  # also while it comes to its end
        self._ended: Future[None] = Future()

    @property
    def problem(self) -> str | None:
        """Why documents do not reach the store now; None while they do."""
        return self._running().problem

    def start(self) -> BrokerAddress:
        """Start the MQTT thread, and the broker if it is ours; return where the broker is.

        A broker elsewhere need not be there yet.

        Raises:
            StreamError: outbox or embedded broker cannot be opened.
            StoreError: the store cannot be opened.
        """
        address = self._address or self._start_broker()
        courier = Courier(
            outbox_path=self._outbox_path,
            rig=self._rig,
            address=address,
            store_path=self._store_path,
            recorders=self._recorders,
            limits=self._limits,
            pace_s=FLOOD_PACE_S if _is_on_virtual_time() else PACE_S,
        )
        started: Future[None] = Future()
        self._ended = Future()
        self._thread = threading.Thread(
            target=_run_courier,
            args=(courier, started, self._ended),
            name="labctl-mqtt",
            daemon=True,
        )
        self._thread.start()
        try:
            started.result()
            self._courier = self._on_thread = courier
            # Only now: the outbox is ours, so the file is, too.
            self._tell_where(address)
        except BaseException:
            self._abandon()
            raise
        return address

    def stop(self) -> None:
        """Bring what was put to disk and end the threads; what is not recorded yet waits there.

        Parquet files that are due are written first, for a minute at most. With a loop of one's own
        rather `async with`, whose end does not keep that loop.

        Raises:
            StreamError: some documents could not be kept.
        """
        courier = self._courier
        self._abandon()
        _check_kept(courier)

    def hurry(self) -> None:
        """Write no more Parquet files: the next recorder of the store does."""
        if self._on_thread is not None:
            self._on_thread.hurry()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, while the caller's loop goes on, its clock held; a cancellation makes it hurry."""
        courier = self._leave()
        ended = asyncio.wrap_future(self._ended)
        try:
            with hold_clock(asyncio.get_running_loop()):
                await to_the_end(_until(ended), at_cancellation=self.hurry)
        finally:
            self._end_threads()
        _check_kept(courier)

    async def put(self, document: Document) -> None:
        """Take one document; waits only while too many wait for the disk.

        Raises:
            DocumentError: it is none that a recorder could read; it was not taken.
            StreamError: documents can no longer be kept.
        """
        courier = self._running()
        courier.hand_over(entry_of(document))
        if courier.n_waiting >= _CAPACITY:
            await self._on_courier(Courier.commit)

    async def flush(self) -> None:
        """Return when every document put so far is on disk.

        Raises:
            StreamError: that cannot be.
        """
        await self._on_courier(Courier.commit)

    @property
    def room(self) -> Room:
        """How much room is left in the outbox."""
        return self._running().room

    async def room_again(self) -> None:
        """Return when there is plenty of room.

        Raises:
            StreamError: documents can no longer be kept.
        """
        await self._on_courier(Courier.room_again)

    async def drain(self, timeout_s: float) -> int:
        """Wait until every document is recorded, at most so long in real time.

        Returns:
            How many documents are not; they stay in the outbox.
        """
        return await self._on_courier(Courier.drain, timeout_s)

    async def waiting_of(self, run_id: str) -> int:
        """Return how many documents of a run are not recorded yet."""
        return await self._on_courier(Courier.waiting_of, run_id)

    @property
    def trouble(self) -> str:
        """What has been wrong for more than a second, in words as in the rig's status; "" if none.

        Unlike `problem` also what does not keep documents from the store yet.
        """
        return self._courier.announcer.trouble if self._courier is not None else ""

    def show(self, channel: str, status: ChannelStatus) -> None:
        """Say what a channel is doing, at any rate; published about once a second at most."""
        self._running().announcer.show(channel, status)

    def report_trouble(self, subject: str, reason: str | None) -> None:
        """Say what is wrong with something, which makes the rig degraded; None ends it."""
        self._running().announcer.report_trouble(subject, reason)

    async def last_seq(self, run_id: str) -> int:
        """Return the highest seq of a run that was ever put here, -1 for none: where to resume."""
        return await self._on_courier(Courier.last_seq, run_id)

    def _tell_where(self, address: BrokerAddress) -> None:
        """Write down where the broker is; a disk that cannot take that may need emptying by us."""
        where = Whereabouts(self._rig, address)
        is_ours = self._broker is not None
        try:
            write_whereabouts(self._outbox_path.parent, where, with_credentials=is_ours)
        except OSError as error:
            _log.warning("nobody can look on from this data folder: %s", error)

    def _start_broker(self) -> BrokerAddress:
        # Only here: amqtt takes 0.3 s to import, and a rig with its own broker never needs it.
        from labctl.stream.broker import EmbeddedBroker

        self._broker = EmbeddedBroker()
        return self._broker.start()

    def _abandon(self) -> None:
        """Stop whatever has been started."""
        self._leave()
        self._end_threads()

    def _leave(self) -> Courier | None:
        """Take no more documents and let the MQTT thread come to its end; return who is on it."""
        courier, self._courier = self._courier, None
        if courier is not None:
            with suppress(OSError):
                remove_whereabouts(self._outbox_path.parent)
            courier.stop()
        return courier

    def _end_threads(self) -> None:
        """Wait for the MQTT thread, then stop the embedded broker."""
        if self._thread is not None:
            self._thread.join()
            self._thread = self._on_thread = None
        if self._broker is not None:
            self._broker.stop()
            self._broker = None

    def _running(self) -> Courier:
        """Return the courier if it can take documents."""
        if self._courier is None:
            raise StreamError("the link is not started")
        self._courier.check()
        return self._courier

    async def _on_courier(
        self,
        work: Callable[Concatenate[Courier, _P], Coroutine[None, None, _T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Return what the courier's work on the MQTT thread returns, this loop's clock held."""
        courier = self._running()
        result = asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work(courier, *args, **kwargs), courier.loop)
        )
        with hold_clock(asyncio.get_running_loop()):
            try:
                await asyncio.wait({result})
            finally:
                result.cancel()
        # Its cancellation is not ours: the MQTT thread ended under it.
        if result.cancelled():
            raise StreamError("the link was stopped meanwhile")
        return result.result()


def _is_on_virtual_time() -> bool:
    """Return whether the caller's loop, if there is one, runs in virtual time."""
    try:
        return isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    except RuntimeError:
        return False


def _check_kept(courier: Courier | None) -> None:
    """Raise StreamError if some documents could not be kept."""
    if courier is not None and courier.n_lost:
        raise StreamError(f"{courier.n_lost} documents could not be kept: {courier.failure}")


async def _until(future: asyncio.Future[None]) -> None:
    await asyncio.wait({future})


def _run_courier(courier: Courier, started: Future[None], ended: Future[None]) -> None:
    """The MQTT thread. A selector loop on every system: paho's sockets need one."""
    try:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(courier.serve(started))
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)  # whoever waits for the start must hear of its end
    finally:
        ended.set_result(None)
