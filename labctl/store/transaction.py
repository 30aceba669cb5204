"""A SQLite transaction of store and outbox: on disk when it ends, or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator


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
