"""Work that a cancellation of its caller must not cut short."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def to_the_end(
    work: Coroutine[Any, Any, _T], *, at_cancellation: Callable[[], None] = lambda: None
) -> _T:
    """Return what work returns; a cancellation takes its course once the work is done.

    Args:
        work: What must be done.
        at_cancellation: Called at each cancellation that comes meanwhile.
    """
    task, cancelled = await _done(work, at_cancellation)
    if cancelled is None:
        return task.result()
    failure = task.exception()
    if failure is not None:
        _log.error("%s", failure)
    raise cancelled from failure


async def whatever_comes(work: Coroutine[Any, Any, _T], *, said: str) -> _T:
    """Return what work returns; a cancellation meanwhile is answered in the log, and that is all.

    For the end of a run, which is what a cancellation asks for.
    """
    task, _ = await _done(work, lambda: _log.warning("%s", said))
    return task.result()


async def _done(
    work: Coroutine[Any, Any, _T], at_cancellation: Callable[[], None]
) -> tuple[asyncio.Task[_T], asyncio.CancelledError | None]:
    """Return the work, done, and the last cancellation that came meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
            at_cancellation()
    return task, cancelled
