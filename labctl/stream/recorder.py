"""The recorder: brings documents from the broker into the store and says how far it has got.

A message is acknowledged to the broker only after its documents are committed; what the publisher
trusts is the watermark published after that, never the broker. Documents that come again, or in
another order, change nothing. A line that is no document is kept in the store's quarantine.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

import orjson

from labctl.documents import Document, decode, sealed
from labctl.errors import DocumentError
from labctl.stream.reconnect import Reconnector
from labctl.stream.topics import ANY, document_topic, rig_and_run, watermark_topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.store.sqlite import SqliteStore
    from labctl.stream.mqtt import BrokerAddress, Connection, Message

_log = logging.getLogger(__name__)

_MESSAGES_PER_COMMIT = 20


class Recorder:
    """Records the runs of one rig, or of every rig, into a store; lives on the MQTT thread.

    `ready` is set once it has subscribed; `n_bad_lines` counts what went to the quarantine.
    """

    def __init__(
        self, store: SqliteStore, address: BrokerAddress, *, recorder_id: str, rig: str = ANY
    ) -> None:
        self.ready = asyncio.Event()
        self.n_bad_lines = 0
        self._store = store
        self._recorder_id = recorder_id
        self._rig = rig
        self._reconnector = Reconnector("recorder", address)

    @property
    def problem(self) -> str | None:
        """Why nothing is being recorded now; None while the broker is there."""
        return self._reconnector.problem

    async def run(self) -> NoReturn:
        """Record for ever, through every loss of the broker and every failure of the store."""
        await self._reconnector.keep(self._session)

    async def _session(self, connection: Connection) -> None:
        """Record what comes until the connection breaks or the store fails.

        A failing store ends the session: the broker drops what was not acknowledged, and the
        publisher sends it again.
        """
        await connection.subscribe(document_topic(self._rig, ANY))
        self.ready.set()
        while True:
            messages = await connection.receive(_MESSAGES_PER_COMMIT)
            self._record(messages)
            for message in messages:
                connection.acknowledge(message)
            for topic in dict.fromkeys(message.topic for message in messages):
                await self._publish_watermark(connection, topic)

    def _record(self, messages: Sequence[Message]) -> None:
        """Commit the documents of some messages, all at once if all are good."""
        lines = [
            (message.topic, line) for message in messages for line in message.payload.split(b"\n")
        ]
        documents = [self._decoded(topic, line) for topic, line in lines]
        try:
            self._store.add([document for document in documents if document is not None])
        except DocumentError:
            for (topic, line), document in zip(lines, documents, strict=True):
                self._add_alone(topic, line, document)

    def _decoded(self, topic: str, line: bytes) -> Document | None:
        """Return the document in a line; None, and quarantined, if there is none."""
        try:
            document = decode(line)
        except DocumentError as error:
            self._quarantine(topic, line, str(error))
            return None
        if document.run_id != rig_and_run(topic)[1]:
            self._quarantine(topic, line, f"run_id {document.run_id!r} is not the topic's")
            return None
        return document

    def _add_alone(self, topic: str, line: bytes, document: Document | None) -> None:
        """Store one document of a batch that holds one the store cannot take."""
        try:
            self._store.add([document] if document is not None else [])
        except DocumentError as error:
            self._quarantine(topic, line, str(error))

    def _quarantine(self, topic: str, line: bytes, problem: str) -> None:
        self._store.quarantine(topic, line, problem)
        self.n_bad_lines += 1
        _log.warning("quarantined a line from %s: %s", topic, problem)

    async def _publish_watermark(self, connection: Connection, topic: str) -> None:
        """Publish how far a run is stored. QoS 0: a lost watermark is followed by a resend."""
        rig, run_id = rig_and_run(topic)
        watermark = {
            "recorder_id": self._recorder_id,
            "committed": self._store.watermark(run_id),
        }
        payload = sealed(orjson.dumps(watermark))
        await connection.publish(watermark_topic(rig, run_id), payload, qos=0)
