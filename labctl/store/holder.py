"""Who holds a data folder: the one process at work there now, and which run it carries out.

The word of a file is not enough, since a process that was killed leaves it behind. So its holder
keeps a lock of the operating system, which ends with the process however that ends; the file only
says who that is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from labctl.clock import utc_now
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_LOCK_NAME = "run.lock"
_ABOUT_NAME = "run.json"
_ATTEMPTS, _BETWEEN_S = 10, 0.02
_HELD = (BlockingIOError, PermissionError)  # what a lock that somebody has looks like

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int, *, is_shared: bool) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # it knows no shared lock
else:
    import fcntl

    def _lock(file: int, *, is_shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a data folder: its number, its run, and since when (UTC ISO 8601).

    The run_id is "" for a process that carries out none, but delivers what one has left.
    """

    pid: int
    run_id: str
    since: str


def this_process(*, run_id: str) -> Holder:
    """Return this process as a holder, from now on."""
    return Holder(pid=os.getpid(), run_id=run_id, since=utc_now().isoformat())


@contextmanager
def held_folder(folder: Path, holder: Holder) -> Generator[None]:
    """Hold a data folder for one run, or to deliver its documents.

    Raises:
        BadInputError: another process holds it; says which.
    """
    with _opened(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT) as file:
        try:
            _lock_at_last(file)
        except _HELD as error:
            raise BadInputError(f"{folder}: {_who(folder)} uses this data folder") from error
        except OSError as error:
            raise BadInputError(f"{folder}: cannot be locked: {error.strerror}") from error
        about = folder / _ABOUT_NAME
        _write(about, holder)
        try:
            yield
        finally:
            about.unlink(missing_ok=True)


def holder_of(folder: Path) -> Holder | None:
    """Return who holds a data folder now; None if nobody does.

    A process that was killed holds nothing. Of a holder that has only just begun, or cannot be read
    about, the pid is 0.
    """
    if not _is_locked(folder / _LOCK_NAME):
        return None
    try:
        return Holder(**json.loads((folder / _ABOUT_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder(pid=0, run_id="", since="")


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock; the question needs no right to write."""
    try:
        with _opened(path, os.O_RDONLY) as file:
            _lock(file, is_shared=True)
    except FileNotFoundError:
        return False
    except _HELD:
        return True
    except OSError:  # a file system that knows no locks cannot tell
        return False
    return False


def _lock_at_last(file: int) -> None:
    """Take the lock; whoever only asks about it has it for an instant, too.

    Raises:
        OSError: another process keeps it.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _lock(file, is_shared=False)
        except OSError:
            threading.Event().wait(_BETWEEN_S)
    return _lock(file, is_shared=False)


@contextmanager
def _opened(path: Path, flags: int) -> Generator[int]:
    """Give a file's number; closing it ends the lock. No child process inherits it."""
    file = os.open(path, flags, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def _write(path: Path, holder: Holder) -> None:
    """Write who holds the folder, all at once; a full disk is the run's affair, not ours."""
    draft = path.with_suffix(".draft")
    with suppress(OSError):
        path.unlink(missing_ok=True)  # of a run that was killed
        draft.write_text(json.dumps(asdict(holder)), encoding="utf-8")
        draft.replace(path)


def _who(folder: Path) -> str:
    holder = holder_of(folder)
    if holder is None or not holder.pid:
        return "another process"
    doing = f"run {holder.run_id}" if holder.run_id else "`labctl drain`"
    return f"{doing} (process {holder.pid}, since {holder.since[:19]} UTC)"
