"""The ledger of commands: which ones were received, on disk before anything is done about them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from labctl.errors import StreamError
from labctl.store.database import Database

if TYPE_CHECKING:
    from pathlib import Path

LEDGER_NAME = "commands.sqlite"
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
        self._database = Database(path, "ledger of commands", error=StreamError)
        self._connection = self._database.connection
        try:
            self._database.make_durable()
            self._database.bring_up([_SCHEMA])
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._database.close()

    def find(self, cmd_id: str) -> Received | None:
        """Return what is known of a command that was received before; None if it was not."""
        rows = self._database.rows(
            "SELECT received_at, answer FROM command WHERE cmd_id = ?", (cmd_id,)
        )
        return Received(datetime.fromisoformat(rows[0][0]), rows[0][1]) if rows else None

    def remember(
        self,
        cmd_id: str,
        *,
        received_at: datetime,
        keep_until: datetime,
        answer: bytes | None = None,
    ) -> None:
        """Remember a new command, on disk when this returns.

        Raises:
            StreamError: it cannot be remembered, so nothing may be done about it.
        """
        row = (cmd_id, received_at.isoformat(), keep_until.timestamp(), answer)
        with self._database.transaction():
            self._connection.execute("INSERT INTO command VALUES (?, ?, ?, ?)", row)

    def forget_old(self, now: datetime) -> None:
        """Forget the commands whose time is over, before a session takes its first one.

        Never within a session: a clock that stands wrong for a moment would let one of its commands
        be carried out again. Those of earlier sessions are refused anyway.
        """
        with self._database.transaction():
            self._connection.execute("DELETE FROM command WHERE keep_until < ?", (now.timestamp(),))

    def note_answer(self, cmd_id: str, answer: bytes) -> None:
        """Keep the answer that was given to a command."""
        with self._database.transaction():
            self._connection.execute(
                "UPDATE command SET answer = ? WHERE cmd_id = ?", (answer, cmd_id)
            )
