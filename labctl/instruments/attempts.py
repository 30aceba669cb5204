"""Work on an instrument that is tried again, or bounded in time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from labctl.errors import InstrumentError, ReplyTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

_T = TypeVar("_T")

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
