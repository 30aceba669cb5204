"""Who records what a data folder's outbox holds: this process, another, a recorder elsewhere."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.errors import BadInputError, StoreTakenError
from labctl.store.lease import lessee_of
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
    lessee = lessee_of(store_path)
    if lessee is None or not lessee.is_alive:
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
            f"{store_path}: {lessee} records into this store; name its broker with --mqtt,"
            " or another folder with --data"
        )
    required = [*recorders, lessee.recorder_id]
    link = _link_to_others(outbox_path, rig, mqtt, required, limits)
    _log.warning("the recording into %s is left to %s", store_path, lessee)
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
    """How many documents wait in an outbox, and of which rigs; None stands for an unknown one."""

    n_documents: int
    rigs: list[str | None]


def waiting_in(folder: Path) -> Waiting:
    """Return what waits in a data folder's outbox.

    Raises:
        StreamError: another process holds the outbox, or it cannot be read.
    """
    path = folder / OUTBOX_NAME
    if not path.is_file():
        return Waiting(0, [])
    with closing(Outbox(path, rig="")) as outbox:
        return Waiting(outbox.pending(), outbox.rigs_pending())
