"""The emitter: gives a run's documents their gap-free numbers and counts their points."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from labctl.documents import Document, Kind, Reason, points_of
from labctl.errors import DocumentError, StreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.clock import RunClock
    from labctl.documents import Sink


class Emitter:
    """Writes one run's documents to a sink, one after the other, each number once."""

    def __init__(self, run_id: str, sink: Sink, clock: RunClock) -> None:
        self.run_id = run_id
        self._points: Counter[str] = Counter()
        self._sink = sink
        self._clock = clock
        self._seq = 0
        self._described: set[str] = set()
        self._turn = asyncio.Lock()

    @property
    def points(self) -> dict[str, int]:
        """Return how many points each stream has got; a stream without points is left out."""
        return dict(+self._points)

    async def start(self, body: Mapping[str, Any]) -> None:
        """Emit run_start."""
        await self._emit(Kind.RUN_START, {"time": self._clock.timestamp(), **body})

    async def page(
        self, stream: str, columns: Mapping[str, list[float]], units: Mapping[str, str]
    ) -> None:
        """Emit a frame; its stream's descriptor first if this is the first one."""
        if stream not in self._described:
            await self._emit(Kind.DESCRIPTOR, {"stream": stream, "units": dict(units)})
        n_points = len(next(iter(columns.values()), []))
        body = {"stream": stream, "n_points": n_points, "columns": dict(columns)}
        await self._emit(Kind.EVENT_PAGE, body)

    async def event(self, stream: str, data: Mapping[str, Any]) -> None:
        """Emit one thing that happened."""
        body = {"stream": stream, "time": self._clock.timestamp(), "data": dict(data)}
        await self._emit(Kind.EVENT, body)

    async def stop(self, reason: Reason, body: Mapping[str, Any]) -> None:
        """Emit run_stop with the counts of what was emitted, and wait until it is on disk."""
        status = {"exit_status": reason.exit_status.value, "reason": reason.value}
        counts = {"actual_points": self.points}
        await self._emit(
            Kind.RUN_STOP, {"time": self._clock.timestamp(), **status, **counts, **body}
        )
        await self.flush()

    async def flush(self) -> None:
        """Return when every document so far is on disk."""
        await self._sink.flush()

    async def _emit(self, kind: Kind, body: Mapping[str, Any]) -> None:
        # The lock keeps documents in the order of their numbers while the sink is full. A sink has
        # taken a document before it waits, so the number is used up even if the wait is cancelled.
        async with self._turn:
            document = Document(run_id=self.run_id, seq=self._seq, kind=kind, body=body)
            self._count(document, 1)
            try:
                await self._sink.put(document)
            except (DocumentError, StreamError):  # not taken
                self._count(document, -1)
                raise

    def _count(self, document: Document, sign: int) -> None:
        """Count a document that the sink takes, or take that back."""
        self._seq += sign
        self._points[document.stream] += sign * points_of(document)
        if document.kind is Kind.DESCRIPTOR:
            self._described ^= {document.stream}
