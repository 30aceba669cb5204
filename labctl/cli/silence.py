"""A reader that goes away while something is written to it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def falling_silent(stream: TextIO) -> Generator[None, None, None]:
    """Write nothing more to a stream, whatever is written, once nobody takes it any more."""
    try:
        yield
    except OSError:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, stream.fileno())
        os.close(silence)
