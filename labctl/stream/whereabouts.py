"""Where a run's broker is, for whoever wants to look on from the same data folder.

The embedded broker has another port and password each time. While a run goes on they stand in a
file beside its outbox, which only its owner may read; the credentials of a broker that is not ours
are not written down.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import orjson

from labctl.errors import BadInputError
from labctl.stream.mqtt import BrokerAddress, broker_address

if TYPE_CHECKING:
    from pathlib import Path

BROKER_FILE = "broker.json"


class Whereabouts(NamedTuple):
    """Which rig is running, and on which broker."""

    rig: str
    address: BrokerAddress


def write_whereabouts(folder: Path, where: Whereabouts, *, with_credentials: bool) -> None:
    """Write the file, readable by its owner only, in one go.

    Raises:
        OSError: the disk does not take it.
    """
    known = where.address if with_credentials else None
    body = {
        "rig": where.rig,
        "url": str(where.address),
        "username": known and known.username,
        "password": known and known.password,
    }
    part = folder / f".{BROKER_FILE}.part"
    part.unlink(missing_ok=True)
    # The mode counts from the file's first moment on; Windows leaves it to the folder's rights.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(body))
        part.replace(folder / BROKER_FILE)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def remove_whereabouts(folder: Path) -> None:
    """Remove the file; nothing happens if there is none."""
    (folder / BROKER_FILE).unlink(missing_ok=True)


def read_whereabouts(folder: Path) -> Whereabouts | None:
    """Return what the file says; None if there is none: no run goes on in this folder.

    Raises:
        BadInputError: it is no such file.
    """
    path = folder / BROKER_FILE
    try:
        body = orjson.loads(path.read_bytes())
        address = broker_address(str(body["url"]))
        own = {key: body[key] for key in ("username", "password") if body[key] is not None}
        return Whereabouts(str(body["rig"]), replace(address, **own))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path}: cannot be read: {error}") from error
