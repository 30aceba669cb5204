"""Signals: whatever asks the process to end cancels the run, which then ends in the safe state.

SIGHUP is a closed terminal or a lost ssh session. Python's own handling would raise
KeyboardInterrupt at the second Ctrl-C, in the middle of making the rig safe.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")  # where the system has it


class Signals:
    """The handler of all those signals: it cancels a task, now or as soon as there is one.

    Once the task has ended they change nothing: what is left is to say how it ended.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._is_asked = False

    def __call__(self, *_: object) -> None:
        """Take a signal."""
        self._is_asked = True
        if self._task is not None and not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """From now on cancel this task; at once if a signal has come already."""
        self._task = task
        if self._is_asked:
            task.cancel()


@contextmanager
def held_signals() -> Generator[Signals]:
    """Keep the signals from ending the process; where a caller does so already, share that.

    Only a process's first thread can have handlers; on any other nothing changes.
    """
    held = signal.getsignal(signal.SIGTERM)
    if isinstance(held, Signals):
        yield held
        return
    signals = Signals()
    with _handled_by(signals):
        yield signals


@contextmanager
def signals_call(end: Callable[[], object]) -> Generator[None]:
    """Call `end` on the running loop at each of those signals."""
    loop = asyncio.get_running_loop()

    def asked(*_: object) -> None:
        loop.call_soon_threadsafe(end)

    with _handled_by(asked):
        yield


@contextmanager
def _handled_by(handler: Callable[..., None]) -> Generator[None]:
    """Let a handler have the signals; who had them before has them again afterwards."""
    before = {number: signal.signal(number, handler) for number in _numbers()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _numbers() -> list[signal.Signals]:
    """Return the signals to handle; nohup's wish to outlive the terminal is respected."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    return [number for number in numbers if not _is_nohup(number)]


def _is_nohup(number: signal.Signals) -> bool:
    return number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
