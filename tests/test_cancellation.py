"""Work that is carried to its end, whoever cancels it meanwhile."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from labctl.cancellation import to_the_end, whatever_comes
from labctl.clock import VirtualTimeLoop, run_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    import pytest


async def work() -> str:
    await asyncio.sleep(10.0)
    return "done"


def cancelled_twice(carry: Callable[[Coroutine[None, None, str]], Awaitable[str]]) -> str:
    """Return what comes of some work whose caller is cancelled after 1 s and after 2 s."""

    async def main() -> str:
        loop = asyncio.get_running_loop()

        async def caller() -> str:
            try:
                return await carry(work())
            except asyncio.CancelledError:
                return f"cancelled after {loop.time():g} s"

        task = asyncio.create_task(caller())
        for _ in range(2):
            await asyncio.sleep(1.0)
            task.cancel()
        return await task

    return run_on(VirtualTimeLoop(), main())


def test_a_cancellation_takes_its_course_once_the_work_is_done() -> None:
    heard: list[str] = []
    carry = partial(to_the_end, at_cancellation=lambda: heard.append("cancelled"))
    assert cancelled_twice(carry) == "cancelled after 10 s"
    assert heard == ["cancelled"] * 2


def test_a_run_s_end_says_to_each_cancellation_that_it_is_under_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert cancelled_twice(partial(whatever_comes, said="please wait")) == "done"
    assert caplog.text.count("please wait") == 2
