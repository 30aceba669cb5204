"""SQLite files as store, lease, outbox and ledger have them: durable, their errors told as ours."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from labctl.errors import LabctlError

_PAGES_PER_CHECKPOINT = 4000  # 16 MB
_NO_KINDS: Mapping[str, type[LabctlError]] = {}


class Database:
    """One SQLite file; used from the thread that made it.

    `connection` opens no transactions of its own: `transaction` does.

    Args:
        path: The file; it and its folder are made if they are not there.
        name: What it is, for errors: "outbox".
        error: What SQLite's errors, and the system's, are told as.
        kinds: What some of them are told as, by SQLite's name for them ("SQLITE_FULL").
        timeout_s: How long to wait for another process that writes.

    Raises:
        LabctlError: of the type `error`: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        error: type[LabctlError],
        kinds: Mapping[str, type[LabctlError]] = _NO_KINDS,
        timeout_s: float = 5.0,
    ) -> None:
        self.path = path
        self._name = name
        self._error = error
        self._kinds = kinds
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
        except (OSError, sqlite3.Error) as failure:
            raise error(f"{path}: cannot open the {name}: {failure}") from failure

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.connection.close()

    def make_durable(self) -> None:
        """Let every commit be on disk when it returns, and readers read meanwhile."""
        with self.errors():
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_PER_CHECKPOINT}")

    def bring_up(self, scripts: Sequence[str]) -> None:
        """Make the tables, or bring those of an older version up, in one transaction.

        Args:
            scripts: What makes version 1 of an empty file, version 2 of that, and so on.

        Raises:
            LabctlError: the file is of a later version.
        """
        with self.transaction():
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            if not 0 <= version <= len(scripts):
                raise self._error(
                    f"{self.path}: {self._name} version {version}, expected {len(scripts)}"
                )
            for script in scripts[version:]:
                run_script(self.connection, script)
            if version < len(scripts):
                self.connection.execute(f"PRAGMA user_version = {len(scripts)}")

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Return everything that a query gives."""
        with self.errors():
            return self.connection.execute(query, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit what the body does, or nothing of it."""
        with self.errors(), transaction(self.connection):
            yield

    @contextmanager
    def errors(self) -> Generator[None]:
        """Tell SQLite's errors, and the system's, as ours."""
        try:
            yield
        except (OSError, sqlite3.Error) as failure:
            code = sqlite_name(failure)
            said = f"another process holds this {self._name}"
            if code != "SQLITE_BUSY":
                said = f"{self._name}: {failure}"
            raise self._kinds.get(code, self._error)(f"{self.path}: {said}") from failure


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Commit what the body does, or nothing of it.

    Args:
        connection: one that does not open transactions of its own (`isolation_level=None`).

    Raises:
        sqlite3.Error: as SQLite says; nothing has happened.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Execute statements one by one: sqlite3's executescript would commit first."""
    for statement in script.split(";\n"):
        connection.execute(statement)


def sqlite_name(error: Exception) -> str:
    """Return SQLite's name for an error, such as SQLITE_BUSY; "" if it is none of SQLite's."""
    return getattr(error, "sqlite_errorname", "")
