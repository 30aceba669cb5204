"""Signals that ask a process to end, turned into an orderly end."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")  # where the system has it


@contextmanager
def signals_call(end: Callable[[], object]) -> Generator[None]:
    """Call `end` on the running loop at every signal that asks a process to end.

    SIGHUP is a closed terminal or a lost ssh session. Python's own handling would raise
    KeyboardInterrupt at the second Ctrl-C, in the middle of the end.
    """
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in _ENDING_SIGNALS if hasattr(signal, name)]

    def asked(*_: object) -> None:
        loop.call_soon_threadsafe(end)

    before = {number: signal.signal(number, asked) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_abort() -> Generator[None]:
    """Cancel the task at every signal that asks a process to end: a run ends in the safe state."""
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("no task to cancel")
    with signals_call(task.cancel):
        yield
