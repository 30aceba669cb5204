"""How fast a backlog of documents reaches the store, one to a message and a hundred to a message.

python docs/explanations/decisions/evidence/bundles.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

from labctl.documents import Document, Kind, encode
from labctl.instruments.techniques import Eis
from labctl.stream.link import Link

_N_DOCUMENTS = 3000
_COLUMNS = {name: [12345.678] for name in ("time_s", "step", *Eis.UNITS)}


def _point(seq: int) -> Document:
    """Return a frame of one point, as an EmStat4 HR's spectrum gives them."""
    body = {"stream": "eis", "n_points": 1, "columns": _COLUMNS}
    return Document("backlog", seq, Kind.EVENT_PAGE, body)


async def _carry(link: Link) -> float:
    """Return the seconds until a backlog is in the store."""
    began_s = perf_counter()
    for seq in range(_N_DOCUMENTS):
        await link.put(_point(seq))
    left = await link.drain(120.0)
    if left:
        raise RuntimeError(f"{left} documents are left")
    return perf_counter() - began_s


def _measure(max_documents: int) -> float:
    """Return the seconds that the backlog takes with so many documents to a message."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("labctl.stream.transfer.MAX_DOCUMENTS", max_documents),
        patch("labctl.stream.transfer.MAX_DOCUMENTS", max_documents),
        Link(
            outbox_path=Path(folder, "outbox.sqlite"),
            rig="bench",
            store_path=Path(folder, "labctl.sqlite"),
        ) as link,
    ):
        return asyncio.run(_carry(link))


def main() -> None:
    """Print one line for each size of message."""
    sys.stdout.write(f"a point of {len(_COLUMNS)} columns: {len(encode(_point(1000)))} bytes\n")
    for max_documents in (1, 100):
        seconds = _measure(max_documents)
        sys.stdout.write(
            f"{max_documents:3d} to a message: {_N_DOCUMENTS} documents in {seconds:.2f} s, "
            f"{_N_DOCUMENTS / seconds:.0f} per s\n"
        )


if __name__ == "__main__":
    main()
