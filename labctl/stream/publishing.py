"""Publishing an outbox: a publisher for our own rig, and one for each other whose runs wait there.

What a run of another rig has left goes out under that rig's topics, on a connection of its own:
whatever its broker makes of it, our own documents are not held up.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from labctl.stream.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Collection

    from labctl.stream.mqtt import BrokerAddress
    from labctl.stream.outbox import Outbox


class Publishing:
    """The publishers of one outbox; lives on the MQTT thread.

    `publishers` are those by rig, our own first. Args as for `Publisher`.
    """

    def __init__(
        self,
        outbox: Outbox,
        address: BrokerAddress,
        *,
        rig: str,
        recorders: Collection[str],
        pace_s: float,
    ) -> None:
        self._outbox = outbox
        self._has_progressed = asyncio.Event()
        self.publishers = {
            each: Publisher(
                outbox,
                address,
                rig=each,
                recorders=recorders,
                pace_s=pace_s,
                name="publisher" if each == rig else f"publisher of {each}",
                progressed=self._has_progressed.set,
            )
            for each in dict.fromkeys([rig, *filter(None, outbox.rigs_pending())])
        }

    @property
    def problem(self) -> str | None:
        """Why documents do not leave the outbox now; None while they do."""
        return next(filter(None, self.problems().values()), None)

    def problems(self) -> dict[str, str | None]:
        """Return the problem of each publisher, by its name."""
        return {each.name: each.problem for each in self.publishers.values()}

    def documents_added(self) -> None:
        """Say that the outbox holds something new; only our own rig's can be."""
        next(iter(self.publishers.values())).documents_added()

    async def drained(self, timeout_s: float) -> int:
        """Wait until the outbox is empty, or so long; return how many documents are left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._outbox.pending():
                    await self.progressed(timeout_s)
        return self._outbox.pending()

    async def progressed(self, timeout_s: float) -> None:
        """Wait for the next watermark, at most so long."""
        self._has_progressed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_progressed.wait()
