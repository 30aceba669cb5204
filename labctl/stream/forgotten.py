"""The answer to a recorder that asks for what no outbox keeps any more.

It travels among the documents, in their order, as one line of its own:

    {"forgotten":99,"run_id":"r1","crc32":"..."}

"Of what has a seq up to 99 I shall never send what you lack." It is heard only with its seal: on
its word a recorder lets its watermark pass a gap.
"""

from __future__ import annotations

import re

import orjson

from labctl.documents import check_seal, sealed

_LINE = re.compile(rb'\{"forgotten":(\d{1,18}),"run_id":("[^\n]*"),"crc32":"[0-9a-f]{8}"\}')


def forgotten_line(run_id: str, up_to_seq: int) -> bytes:
    """Return the line that says that nothing up to a seq is sent again."""
    return sealed(orjson.dumps({"forgotten": up_to_seq, "run_id": run_id}))


def forgotten_in(line: bytes) -> tuple[str, int] | None:
    """Return the run and the seq that such a line names; None if a line is none.

    Raises:
        DocumentError: it was damaged on its way.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    check_seal(line)
    return orjson.loads(found[2]), int(found[1])
