"""Gaps in what a recorder has: documents missing below others that came.

No I/O, and time is an argument. Bundles of one run may pass each other on a reconnect, so a gap
counts once it has stood for 0.3 s; then its run's publisher is asked to send again. The question
may get lost, and what lies in no outbox any more never comes: it is asked five times, ever more
rarely, and again when the run has come further.
"""

from __future__ import annotations

from dataclasses import dataclass

_PATIENCE_S = 0.3
_FIRST_WAIT_S = 1.0
_MAX_TRIES = 5


@dataclass(slots=True)
class Gap:
    """A run's first gap: what comes after `watermark` is missing, `last_seq` is there."""

    watermark: int
    last_seq: int
    ask_at_s: float
    n_tries: int = 0

    @property
    def may_ask(self) -> bool:
        """Whether asking again makes sense."""
        return self.n_tries < _MAX_TRIES


class Gaps:
    """The runs that have a gap, and when to ask for what is missing."""

    def __init__(self) -> None:
        self._gaps: dict[str, Gap] = {}

    def note(self, run_id: str, watermark: int, last_seq: int, now_s: float) -> bool:
        """Note how far a run is stored; return whether a gap that was told of is filled now."""
        gap = self._gaps.get(run_id)
        if watermark == last_seq:
            self._gaps.pop(run_id, None)
            return gap is not None and gap.n_tries > 0
        if gap is None or watermark > gap.watermark:
            # What moves fills up by itself; only what stands still is asked for.
            tries = 0 if gap is None else min(gap.n_tries, 1)
            self._gaps[run_id] = Gap(watermark, last_seq, now_s + _PATIENCE_S, tries)
        elif last_seq > gap.last_seq:
            gap.last_seq = last_seq
            if not gap.may_ask:
                gap.n_tries, gap.ask_at_s = 1, now_s
        return False

    def due(self, now_s: float) -> list[tuple[str, Gap]]:
        """Return the gaps to ask about now; each counts as asked."""
        found = [
            (run_id, gap)
            for run_id, gap in self._gaps.items()
            if gap.may_ask and gap.ask_at_s <= now_s
        ]
        for _, gap in found:
            gap.ask_at_s = now_s + _FIRST_WAIT_S * 2**gap.n_tries
            gap.n_tries += 1
        return found

    def next_s(self) -> float | None:
        """Return when the next gap will be due; None for never."""
        return min((gap.ask_at_s for gap in self._gaps.values() if gap.may_ask), default=None)
