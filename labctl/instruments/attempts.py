"""Work on an instrument that is tried again, bounded in time, or carried to its end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.errors import InstrumentError, ReplyTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

ATTEMPTS = 3


async def again(
    work: Callable[[], Awaitable[_T]], *, after: tuple[type[InstrumentError], ...]
) -> _T:
    """Return what `work` returns, tried three times where it ends with an error named in `after`.

    For what does no harm when it is done twice, and nothing else.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(*after):
            return await work()
    return await work()


@asynccontextmanager
async def within(duration_s: float, name: str) -> AsyncGenerator[None, None]:
    """Bound what is inside in time; ReplyTimeoutError of the instrument `name` where it is not."""
    scope = asyncio.timeout(duration_s)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise ReplyTimeoutError(name, f"not done within {duration_s:g} s") from error


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that a cancellation of the caller must not stop; then let it take its course."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    failure = task.exception()
    if failure is not None:
        _log.error("%s", failure)
    raise cancelled from failure
