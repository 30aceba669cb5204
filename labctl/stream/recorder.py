"""The recorder: brings documents from the broker into the store and says how far it has got.

A message is acknowledged to the broker only after its documents are committed; what the publisher
trusts is the watermark published after that, never the broker. Documents that come again, or in
another order, change nothing. A line that is no document is kept in the store's quarantine. Where
documents are missing, the recorder asks the publisher to send again; what that keeps no more is
noted as lost, and the watermark passes it, lest all that follows wait for ever.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import orjson

from labctl.documents import Document, decode, sealed
from labctl.errors import DocumentError
from labctl.store.ranges import shown_ranges
from labctl.stream.forgotten import forgotten_in
from labctl.stream.gaps import Gap, Gaps
from labctl.stream.permissions import recorder_needs
from labctl.stream.reconnect import Reconnector
from labctl.stream.topics import ANY, document_topic, resend_topic, rig_and_run, watermark_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labctl.store.sqlite import Progress, SqliteStore
    from labctl.stream.mqtt import BrokerAddress, Connection, Message

_log = logging.getLogger(__name__)

_MESSAGES_PER_COMMIT = 20


class Recorder:
    """Records the runs of one rig, or of every rig, into a store; lives on the MQTT thread.

    `ready` is set once it has subscribed; `n_bad_lines` counts what went to the quarantine.

    Args:
        store: Where to.
        address: The broker.
        recorder_id: The name that its watermarks bear.
        rig: The rig whose runs it records.
        client_id: The name under which the broker keeps what comes while the recorder is away;
            None asks for no such thing.
        tell: Hears, in a line, of each thing that a person may want to see.
        run_is_whole: Called when a run has ended and everything of it is stored.
    """

    def __init__(
        self,
        store: SqliteStore,
        address: BrokerAddress,
        *,
        recorder_id: str,
        rig: str = ANY,
        client_id: str | None = None,
        tell: Callable[[str], None] = lambda _: None,
        run_is_whole: Callable[[], None] = lambda: None,
    ) -> None:
        self.ready = asyncio.Event()
        self.n_bad_lines = 0
        self._store = store
        self._recorder_id = recorder_id
        self._rig = rig
        self._tell = tell
        self._run_is_whole = run_is_whole
        self._reconnector = Reconnector(
            "recorder", address, client_id=client_id, needs=recorder_needs(rig), tell=tell
        )
        self._seen: dict[str, Progress] = {}
        self._rig_of: dict[str, str] = {}
        self._losses: dict[str, str] = {}
        self._gaps = Gaps()
        self._gaps_changed = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """Why nothing is being recorded now, or what is lost for good; None while all is well."""
        return self._reconnector.problem or next(iter(self._losses.values()), None)

    async def run(self) -> NoReturn:
        """Record for ever, through every loss of the broker and every failure of the store."""
        await self._reconnector.keep(self._session)

    async def _session(self, connection: Connection) -> None:
        """Record what comes until the connection breaks or the store fails."""
        await connection.subscribe(document_topic(self._rig, ANY))
        self.ready.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record_all(connection))
            group.create_task(self._ask_for_gaps(connection))

    async def _record_all(self, connection: Connection) -> None:
        """Commit what comes, then acknowledge it.

        A failing store ends the session: the broker drops what was not acknowledged, and the
        publisher sends it again.
        """
        while True:
            messages = await connection.receive(_MESSAGES_PER_COMMIT)
            # An empty message is how a retained one is deleted, and brokers pass that on without
            # the retained flag. It cannot be told from a document that lost all its bytes, and
            # needs not be: it holds no byte to keep in the quarantine, and a document is sent
            # until a watermark covers it.
            spoken = [message for message in messages if message.payload]
            self._record(spoken)
            self._store.check_file()
            for message in messages:
                connection.acknowledge(message)
            for topic in dict.fromkeys(message.topic for message in spoken):
                await self._publish_progress(connection, topic)

    def _record(self, messages: Sequence[Message]) -> None:
        """Commit the documents of some messages, all at once if all are good."""
        said = [
            (message.topic, line) for message in messages for line in message.payload.split(b"\n")
        ]
        losses = [(place, _loss_in(*place)) for place in said]
        lines = [place for place, loss in losses if loss is None]
        documents = [self._decoded(topic, line) for topic, line in lines]
        try:
            self._add([document for document in documents if document is not None])
        except DocumentError:
            for (topic, line), document in zip(lines, documents, strict=True):
                self._add_alone(topic, line, document)
        for loss in (loss for _, loss in losses if loss is not None):
            self._give_up(*loss)

    def _give_up(self, run_id: str, up_to_seq: int) -> None:
        """Let the watermark pass what a run keeps no more."""
        ranges = self._store.give_up(run_id, up_to_seq)
        if ranges:
            problem = f"run {run_id}: lost: document {shown_ranges(ranges)}, no outbox has it"
            self._losses[run_id] = problem
            self._warn(problem)

    def _add(self, documents: Sequence[Document]) -> None:
        for problem in self._store.add(documents):
            self._warn(problem)

    def _decoded(self, topic: str, line: bytes) -> Document | None:
        """Return the document in a line; None, and quarantined, if there is none."""
        try:
            document = decode(line)
        except DocumentError as error:
            self._quarantine(topic, line, str(error))
            return None
        if document.run_id != rig_and_run(topic)[1]:
            self._quarantine(topic, line, f"run_id {document.run_id!r:.80} is not the topic's")
            return None
        return document

    def _add_alone(self, topic: str, line: bytes, document: Document | None) -> None:
        """Store one document of a batch that holds one the store cannot take."""
        try:
            self._add([document] if document is not None else [])
        except DocumentError as error:
            self._quarantine(topic, line, str(error))

    def _quarantine(self, topic: str, line: bytes, problem: str) -> None:
        is_new = self._store.quarantine(topic, line, problem)
        self.n_bad_lines += 1
        if is_new:
            self._warn(f"quarantined a line from {topic}: {problem:.200}")

    async def _publish_progress(self, connection: Connection, topic: str) -> None:
        """Publish how far a run is stored. QoS 0: a lost watermark is followed by a resend."""
        rig, run_id = rig_and_run(topic)
        progress = self._store.progress(run_id)
        self._note(rig, run_id, progress)
        watermark = {"recorder_id": self._recorder_id, "committed": progress.watermark}
        payload = sealed(orjson.dumps(watermark))
        await connection.publish(watermark_topic(rig, run_id), payload, qos=0)

    def _note(self, rig: str, run_id: str, progress: Progress) -> None:
        """Tell what has changed about a run."""
        before = self._seen.get(run_id)
        if progress == before or progress.last_seq < 0:
            return
        self._seen[run_id], self._rig_of[run_id] = progress, rig
        if before is None and progress.stop is None:
            self._inform(f"run {run_id} is being recorded")
        now_s = asyncio.get_running_loop().time()
        is_filled = self._gaps.note(run_id, progress.watermark, progress.last_seq, now_s)
        if is_filled and run_id not in self._losses:
            self._inform(f"run {run_id}: the gap is filled")
        self._gaps_changed.set()
        if progress.is_whole and progress.stop is not None:
            reason = orjson.loads(progress.stop)["reason"]
            self._inform(f"run {run_id} ended: {reason}, {progress.last_seq + 1} documents")
            self._run_is_whole()

    async def _ask_for_gaps(self, connection: Connection) -> None:
        """Ask for what is missing whenever a gap has stood for too long."""
        while True:
            self._gaps_changed.clear()
            for run_id, gap in self._gaps.due(asyncio.get_running_loop().time()):
                await self._ask_for(connection, run_id, gap)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._gaps.next_s()):
                    await self._gaps_changed.wait()

    async def _ask_for(self, connection: Connection, run_id: str, gap: Gap) -> None:
        if gap.n_tries == 1:
            self._warn(
                f"run {run_id}: document {gap.watermark + 1} is missing, {gap.last_seq} is stored;"
                " asking for it again"
            )
        wanted = {"recorder_id": self._recorder_id, "after_seq": gap.watermark}
        topic = resend_topic(self._rig_of[run_id], run_id)
        await connection.publish(topic, sealed(orjson.dumps(wanted)), qos=0)

    def _inform(self, line: str) -> None:
        _log.info("%s", line)
        self._tell(line)

    def _warn(self, line: str) -> None:
        _log.warning("%s", line)
        self._tell(line)


def _loss_in(topic: str, line: bytes) -> tuple[str, int] | None:
    """Return of which run, and up to where, a line says that it is kept no more; None if not."""
    try:
        said = forgotten_in(line)
    except DocumentError:  # `decode` will say so, too
        return None
    return said if said is not None and said[0] == rig_and_run(topic)[1] else None
