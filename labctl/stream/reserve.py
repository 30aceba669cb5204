"""The reserve: disk space set aside beforehand, for when the disk is full.

A run that meets a full disk still has to say how it ended, and to stop in good order. Giving up the
reserve makes room for that.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = bytes(1 << 20)


def reserved_bytes(path: Path) -> int:
    """Return how much a reserve's file holds; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class Reserve:
    """A file of so many bytes, really taken from the disk; with 0 bytes there is none."""

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path = path
        self._n_bytes = n_bytes

    @property
    def is_there(self) -> bool:
        """Whether the space is set aside; a smaller file is what another rig file asked for."""
        return self._n_bytes == 0 or reserved_bytes(self._path) >= self._n_bytes

    def take(self) -> bool:
        """Set the space aside if it is not yet; return whether it is now.

        Only where as much again is free: else the file would bring about what it is there for.
        """
        if self.is_there:
            return True
        try:
            if shutil.disk_usage(self._path.parent).free < 2 * self._n_bytes:
                return False
            self._write()
        except OSError:
            self._remove()
            return False
        return True

    def give_up(self) -> bool:
        """Give the space back to the disk; return whether there was any."""
        return self._n_bytes > 0 and self._path.exists() and self._remove()

    def _remove(self) -> bool:
        """Remove the file; return whether that could be."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _write(self) -> None:
        """Write the file; a hole in it would hold no space."""
        with self._path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self._n_bytes)
                return
            for begin in range(0, self._n_bytes, len(_CHUNK)):
                file.write(_CHUNK[: self._n_bytes - begin])
