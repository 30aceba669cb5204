"""The ledger of commands: which ones were received, on disk before anything is done about them."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from labctl.errors import StreamError
from labctl.store.transaction import transaction

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LEDGER_NAME = "commands.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE command (
    cmd_id      TEXT PRIMARY KEY,
    received_at TEXT NOT NULL,  -- UTC ISO 8601
    keep_until  REAL NOT NULL,  -- UTC, s since 1970
    answer      BLOB            -- the last one given; NULL while there is none
) WITHOUT ROWID
"""


class Received(NamedTuple):
    """A command that was received before."""

    received_at: datetime
    answer: bytes | None


class Ledger:
    """Remembers the ids of commands; used from the thread that made it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StreamError(f"{path}: cannot open the ledger of commands: {error}") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connection.close()

    def find(self, cmd_id: str) -> Received | None:
        """Return what is known of a command that was received before; None if it was not."""
        with self._as_stream_error():
            row = self._connection.execute(
                "SELECT received_at, answer FROM command WHERE cmd_id = ?", (cmd_id,)
            ).fetchone()
        return None if row is None else Received(datetime.fromisoformat(row[0]), row[1])

    def remember(
        self,
        cmd_id: str,
        *,
        received_at: datetime,
        keep_until: datetime,
        answer: bytes | None = None,
    ) -> None:
        """Remember a new command, on disk when this returns; forget those whose time is over.

        Raises:
            StreamError: it cannot be remembered, so nothing may be done about it.
        """
        row = (cmd_id, received_at.isoformat(), keep_until.timestamp(), answer)
        with self._transaction():
            self._connection.execute(
                "DELETE FROM command WHERE keep_until < ?", (received_at.timestamp(),)
            )
            self._connection.execute("INSERT INTO command VALUES (?, ?, ?, ?)", row)

    def note_answer(self, cmd_id: str, answer: bytes) -> None:
        """Keep the answer that was given to a command."""
        with self._transaction():
            self._connection.execute(
                "UPDATE command SET answer = ? WHERE cmd_id = ?", (answer, cmd_id)
            )

    def _prepare(self) -> None:
        with self._as_stream_error():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise StreamError(f"{self.path}: ledger version {version}, expected {_VERSION}")
            if version == 0:
                self._connection.execute(_SCHEMA)
                self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Commit what the body does, or nothing of it."""
        with self._as_stream_error(), transaction(self._connection):
            yield

    @contextmanager
    def _as_stream_error(self) -> Generator[None]:
        """Turn SQLite's errors into StreamError."""
        try:
            yield
        except sqlite3.Error as error:
            raise StreamError(f"{self.path}: ledger of commands: {error}") from error
