"""Parquet files of the runs that are whole, written beside the recording and never in its way.

The store remembers how far each run's files go, so that whatever could not be written, for want of
space or because the process ended, is written by the next recorder of that store.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from labctl.cancellation import to_the_end
from labctl.errors import StoreError
from labctl.store.export import GivenUpError, export_parquet
from labctl.store.reading import StoredRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from labctl.store.sqlite import SqliteStore

_log = logging.getLogger(__name__)

FOLDER = "runs"
"""Where the files go in a data folder."""


class Archive:
    """Writes the files, one run after another, each on a worker thread of the loop."""

    def __init__(
        self, store: SqliteStore, folder: Path, *, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._store = store
        self._folder = folder
        self._tell = tell
        self._asked = asyncio.Event()
        self._failed: set[str] = set()
        self._is_given_up = False

    def ask(self) -> None:
        """Say that a run has become whole."""
        self._asked.set()

    def give_up(self) -> None:
        """Write no more, the file under way included: the next recorder of the store does."""
        self._is_given_up = True

    async def run(self) -> NoReturn:
        """Write what is missing whenever asked to."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.write_missing()

    async def write_missing(self) -> None:
        """Write the files of every whole run that lacks them; a failure is told, and that is all.

        It is not tried again by this process.
        """
        try:
            missing = self._store.without_parquet()
        except StoreError as error:
            self._warn(f"no Parquet: {error}; the next start tries again")
            return
        for run_id, last_seq in missing:
            if run_id not in self._failed and not self._is_given_up:
                # Also if cancelled: a file that is written must be noted, or it is written twice.
                await to_the_end(self._write(run_id, last_seq))

    async def _write(self, run_id: str, last_seq: int) -> None:
        run = StoredRun(self._store.path, run_id)
        try:
            await asyncio.to_thread(
                export_parquet, run, self._folder, is_wanted=lambda: not self._is_given_up
            )
            self._store.parquet_written(run_id, last_seq)
        except GivenUpError as error:
            self._warn(f"{error}; all is stored, the next start tries again")
        except Exception as error:  # noqa: BLE001 - a copy; no fault of it may end the recording
            self._failed.add(run_id)
            self._warn(
                f"run {run_id}: no Parquet: {error}; all is stored, the next start tries again"
            )

    def _warn(self, line: str) -> None:
        _log.warning("%s", line)
        self._tell(line)
