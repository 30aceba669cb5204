"""Who records what a data folder's outbox holds: this process, another, a recorder elsewhere."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.documents import Kind, decode
from labctl.errors import BadInputError, StoreError, StoreTakenError
from labctl.store.lease import holder_of
from labctl.store.reading import open_store
from labctl.store.sqlite import STORE_NAME
from labctl.stream.link import Link
from labctl.stream.outbox import Outbox, OutboxLimits

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from labctl.stream.mqtt import BrokerAddress

_log = logging.getLogger(__name__)

OUTBOX_NAME = "outbox.sqlite"
"""The outbox's file name in a data directory."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A link, not started yet, and who records what it carries.

    `elsewhere` names who does if the data do not come into the folder's own store; "" if they do.
    """

    link: Link
    elsewhere: str


def delivery_from(
    folder: Path,
    *,
    rig: str,
    mqtt: str | BrokerAddress | None,
    is_recording: bool = True,
    recorders: Collection[str] = (),
    limits: OutboxLimits = OutboxLimits(),  # noqa: B008 - it is frozen
) -> Delivery:
    """Return how what is put into a data folder's outbox gets to a store.

    Where another process records into the folder's store already, it is left to it: that it has a
    document counts as our own recorder's word.

    Args:
        folder: The data folder.
        rig: The rig's name in the topics.
        mqtt: A broker's address, or its URL; None for an embedded broker.
        is_recording: Record into the folder's store; else that is left to a recorder elsewhere.
        recorders: The recorders that must have a document before it may be forgotten.
        limits: How large the outbox may grow.

    Raises:
        BadInputError: without a broker nobody else can hear of the data.
        StoreTakenError: likewise, and another process records into the folder's store.
    """
    outbox_path, store_path = folder / OUTBOX_NAME, folder / STORE_NAME
    if not is_recording:
        return Delivery(
            link=_link_to_others(outbox_path, rig, mqtt, recorders, limits),
            elsewhere="recorder " + ", ".join(recorders) if recorders else "a recorder elsewhere",
        )
    holder = holder_of(store_path)
    if holder is None or not holder.is_alive:
        link = Link(
            outbox_path=outbox_path,
            rig=rig,
            mqtt=mqtt,
            store_path=store_path,
            recorders=recorders,
            limits=limits,
        )
        return Delivery(link=link, elsewhere="")
    if mqtt is None:
        raise StoreTakenError(
            f"{store_path}: {holder} records into this store; name its broker with --mqtt,"
            " or another folder with --data"
        )
    required = [*recorders, holder.recorder_id]
    link = _link_to_others(outbox_path, rig, mqtt, required, limits)
    _log.warning("the recording into %s is left to %s", store_path, holder)
    return Delivery(link=link, elsewhere="")


def _link_to_others(
    outbox_path: Path,
    rig: str,
    mqtt: str | BrokerAddress | None,
    recorders: Collection[str],
    limits: OutboxLimits,
) -> Link:
    if mqtt is None:
        raise BadInputError(
            "mqtt.record = false: a recorder elsewhere needs a broker: mqtt.url in the rig file,"
            " or --mqtt"
        )
    return Link(outbox_path=outbox_path, rig=rig, mqtt=mqtt, recorders=recorders, limits=limits)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many documents wait in an outbox, and of which rig; None if that cannot be told."""

    n_documents: int
    rig: str | None


def waiting_in(folder: Path) -> Waiting:
    """Return what waits in a data folder's outbox.

    Raises:
        StreamError: another process holds the outbox, or it cannot be read.
    """
    path = folder / OUTBOX_NAME
    if not path.is_file():
        return Waiting(0, None)
    with closing(Outbox(path)) as outbox:
        runs = outbox.runs_pending()
        rigs = [_rig_in(outbox, run_id) or _rig_stored(folder, run_id) for run_id in runs]
        return Waiting(outbox.pending(), next(filter(None, rigs), None))


def _rig_in(outbox: Outbox, run_id: str) -> str | None:
    """Return the rig that a waiting run_start names."""
    with closing(outbox.unacknowledged(run_id, after_seq=-1)) as entries:
        first = next(entries, None)
    if first is None:
        return None
    document = decode(first.line)
    return document.body.get("rig") if document.kind is Kind.RUN_START else None


def _rig_stored(folder: Path, run_id: str) -> str | None:
    """Return the rig that a run_start in the folder's own store names."""
    try:
        return open_store(folder).run(run_id).start.get("rig")
    except (BadInputError, StoreError):  # it is not stored here
        return None
