"""How a person lets a paused run go on: a file in its data folder, which needs no broker.

The run writes the file when it only waits for a person's word, and goes on once it is gone.
`labctl resume` takes it away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from labctl.errors import BadInputError
from labctl.store.holder import holder_of

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "paused"
_LOOK_EVERY_S = 1.0


async def persons_word(data: Path, run_id: str) -> None:
    """Return when a person has let the run of this data folder go on."""
    file = data / _NAME
    while not _written(file, run_id):  # noqa: ASYNC110 - a full disk: nobody can speak yet
        await asyncio.sleep(_LOOK_EVERY_S)
    try:
        while file.exists():  # noqa: ASYNC110 - another process takes it away
            await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        file.unlink(missing_ok=True)


def _written(file: Path, run_id: str) -> bool:
    """Write the file; return whether the disk took it."""
    try:
        file.write_text(run_id, encoding="utf-8")
    except OSError:
        return False
    return True


def let_go_on(data: Path) -> str:
    """Let the paused run of a data folder go on; return its id.

    Raises:
        BadInputError: no run there waits for that.
    """
    file = data / _NAME
    try:
        run_id = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInputError(f"{data}: no run there waits to be resumed") from error
    holder = holder_of(data)
    if holder is None or holder.run_id != run_id:
        raise BadInputError(f"{data}: run {run_id} waits no more: its process is gone")
    file.unlink(missing_ok=True)
    return run_id
