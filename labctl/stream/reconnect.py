"""Being connected to a broker for as long as the process lives, whatever the broker does."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from labctl.errors import StoreError, StreamError
from labctl.stream.mqtt import (
    BrokerAddress,
    Connection,
    LastWill,
    connected,
    in_a_task,
)
from labctl.stream.permissions import Needs, prove

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

_log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0


class Reconnector:
    """Opens a session on a broker, and another one when it ends.

    `problem` says why there is no session now; None while there is one.

    Args:
        name: Who connects, for the log.
        address: The broker.
        will: What the broker says of a client that is gone without a goodbye.
        client_id: The name under which the broker keeps the session; None for a session that ends
            with its connection.
        needs: What the broker's access list must allow before a session begins.
        tell: Hears of every change, in a line.
    """

    def __init__(
        self,
        name: str,
        address: BrokerAddress,
        *,
        will: LastWill | None = None,
        client_id: str | None = None,
        needs: Needs | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.problem: str | None = f"not connected to {address} yet"
        self._name = name
        self._address = address
        self._will = will
        self._client_id = client_id
        self._needs = needs
        self._tell = tell
        self._random = secrets.SystemRandom()

    async def keep(self, session: Callable[[Connection], Awaitable[None]]) -> NoReturn:
        """Run a session on a new connection whenever the last one has ended; never returns."""
        wait_s = _FIRST_WAIT_S
        loop = asyncio.get_running_loop()
        while True:
            begun_s = loop.time()
            await in_a_task(self._attempt(session))
            if loop.time() - begun_s > _LONGEST_WAIT_S:
                wait_s = _FIRST_WAIT_S
            # Jitter: the clients of one broker that came back must not all knock at once.
            await asyncio.sleep(wait_s * self._random.uniform(0.5, 1.5))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _attempt(self, session: Callable[[Connection], Awaitable[None]]) -> None:
        """Connect and run a session; report why it ended."""
        try:
            await self._prove_beforehand()
            async with self._connected() as connection:
                if self._needs is not None and self._client_id is None:
                    await prove(connection, self._needs, self._address)
                self._report(None)
                await session(connection)
        # Also a store or an outbox that fails, on a full disk say: told, and tried again.
        except* (StreamError, StoreError) as group:
            self._report(_said_by(leaves(group)))

    async def _prove_beforehand(self) -> None:
        """Prove permissions on a connection of their own, where ours brings back what was kept.

        Documents that the broker has kept for the session would arrive among the probes.
        """
        if self._needs is None or self._client_id is None:
            return
        async with connected(self._address) as connection:
            await prove(connection, self._needs, self._address)

    def _connected(self) -> AbstractAsyncContextManager[Connection]:
        return connected(self._address, will=self._will, client_id=self._client_id)

    def _report(self, problem: str | None) -> None:
        """Log what has changed, once."""
        if problem is None:
            _log.info("%s: connected to %s", self._name, self._address)
            self._tell(f"connected to {self._address}")
        elif problem != self.problem:
            _log.warning("%s: %s; trying again", self._name, problem)
            self._tell(f"not connected: {problem}; trying again")
        self.problem = problem


def _said_by(errors: Iterable[BaseException]) -> str:
    """Return what errors say, each once and with how often: every message under way has its own."""
    counts = Counter(str(error) for error in errors)
    return "; ".join(said if n == 1 else f"{said} ({n} times)" for said, n in counts.items())


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors in a group of groups; of an error that is none, that error."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves(each)]
