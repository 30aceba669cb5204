"""A service of the MQTT thread, kept at work: one that breaks begins again, and says so meanwhile.

Whatever breaks beside the outbox costs time, not documents: those wait on disk.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn

from labctl.errors import LabctlError
from labctl.stream.mqtt import in_a_task
from labctl.stream.reconnect import leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
_SOUND_AFTER_S = 10.0
"""For how long a service must have been at work before its last fault is forgotten."""


class Service:
    """Runs some work that should never end, again and again.

    `problem` says what it has broken on; None once it has been at work for a while since.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self.problem: str | None = None
        self.name = name
        self._work = work
        self._wait_s = _FIRST_WAIT_S

    async def run(self) -> NoReturn:
        """Work for ever; only a cancellation ends it."""
        loop = asyncio.get_running_loop()
        while True:
            becoming_sound = loop.call_later(_SOUND_AFTER_S, self._note_sound)
            try:
                await in_a_task(self._work())
            except Exception as error:  # noqa: BLE001 - no fault of a service may end a run
                self._note(error)
            finally:
                becoming_sound.cancel()
            await asyncio.sleep(self._wait_s)
            self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _note_sound(self) -> None:
        self.problem, self._wait_s = None, _FIRST_WAIT_S

    def _note(self, error: Exception) -> None:
        """Keep what went wrong; log it once, with where it came from if nobody foresaw it."""
        cause = leaves(error)[0]
        is_foreseen = isinstance(cause, LabctlError)
        problem = str(cause) if is_foreseen else f"has broken: {cause!r}"
        if problem != self.problem:
            _log.warning(
                "%s: %s; trying again", self.name, problem, exc_info=None if is_foreseen else error
            )
        self.problem = problem
