"""Recording into a store: the lease on it, its one writer, recorders and the Parquet files."""

from __future__ import annotations

import asyncio
import hashlib
import platform
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NoReturn

from labctl.store.lease import lease
from labctl.store.sqlite import SqliteStore
from labctl.stream.archive import FOLDER, Archive
from labctl.stream.recorder import Recorder
from labctl.stream.topics import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping
    from pathlib import Path

    from labctl.stream.mqtt import BrokerAddress


class Recording:
    """Recorders at work on a store, by rig, and the files that they leave; on the MQTT thread."""

    def __init__(self, recorders: Mapping[str, Recorder], archive: Archive) -> None:
        self.recorders = recorders
        self.archive = archive

    @property
    def problem(self) -> str | None:
        """Why not everything is being recorded now; None while it is."""
        return next(filter(None, (each.problem for each in self.recorders.values())), None)

    async def run(self) -> NoReturn:
        """Record, and write Parquet files, for ever."""
        async with asyncio.TaskGroup() as group:
            for recorder in self.recorders.values():
                group.create_task(recorder.run())
            group.create_task(self.archive.run())
        raise AssertionError("neither ends by itself")


@contextmanager
def recording(
    store_path: Path,
    address: BrokerAddress,
    *,
    recorder_id: str,
    rigs: Collection[str] = (ANY,),
    client_id: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Generator[Recording]:
    """Give a recording into a store that is this process's alone; arguments as for `Recorder`.

    Each rig has a recorder of its own: one that the broker does not let read holds up no other.
    With a `client_id` there must be a single one.

    Raises:
        StoreTakenError: another process records into the store.
        StoreError: the store cannot be opened.
    """
    source = str(address) if ANY in rigs else f"{address}, rig {', '.join(rigs)}"
    with (
        lease(store_path, recorder_id=recorder_id, source=source),
        closing(SqliteStore(store_path)) as store,
    ):
        archive = Archive(store, store_path.parent / FOLDER, tell=tell)
        recorders = {
            rig: Recorder(
                store,
                address,
                recorder_id=recorder_id,
                rig=rig,
                client_id=client_id,
                tell=tell,
                run_is_whole=archive.ask,
            )
            for rig in rigs
        }
        yield Recording(recorders, archive)


def recorder_id_of(store_path: Path) -> str:
    """Return the name of the recorder of a store: the same for every process that opens it."""
    place = f"{platform.node()}:{store_path.resolve()}"
    return f"store-{hashlib.sha256(place.encode()).hexdigest()[:12]}"


async def record_until(stopping: asyncio.Event, work: Recording) -> None:
    """Record until told to stop; first write the Parquet files that an earlier process owes."""
    work.archive.ask()
    working = asyncio.create_task(work.run())
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait({working, waiting})
    if not working.cancelled():
        working.result()
