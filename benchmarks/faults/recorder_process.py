"""A child process that records: broker to store.

python -m benchmarks.faults.recorder_process ARGUMENTS_AS_JSON
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.faults.child import begin, tell
from labctl.store.sqlite import SqliteStore
from labctl.stream.mqtt import broker_address
from labctl.stream.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labctl.documents import Document


class _TellingStore(SqliteStore):
    """A store that tells how many documents it has been given and has committed."""

    _n_added = 0

    def add(self, documents: Sequence[Document]) -> list[str]:
        """Store, then tell."""
        problems = super().add(documents)
        self._n_added += len(documents)
        tell(recorded=self._n_added)
        return problems


async def _record(arguments: dict[str, Any]) -> None:
    with closing(_TellingStore(Path(arguments["store"]))) as store:
        recorder = Recorder(
            store,
            broker_address(arguments["url"]),
            recorder_id=arguments["recorder_id"],
            rig=arguments["rig"],
        )
        tell(opened=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(recorder.run())
            await recorder.ready.wait()
            tell(ready=True)


def main() -> None:
    """Record until killed."""
    arguments = begin()
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_record(arguments))


if __name__ == "__main__":
    main()
