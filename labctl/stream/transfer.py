"""How far one run has got on its way to the recorders: what to send next, what to send again.

No I/O, and time is an argument. Messages go out one behind the other until a window of them waits
for the watermark. If it stands still for 3 s after the broker has the first of them, something is
lost or nobody listens: all that it does not cover is sent again, one message at first, twice as
many with each sign of life. A message that is not full waits until 15 ms after the last one: at an
instrument's pace each document goes at once and alone, a flood of them in bundles, whose cost is
per message.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from labctl.stream.outbox import Entry

MAX_DOCUMENTS = 100
"""How many documents a message carries at most."""

_MAX_BYTES = 64 * 1024
PACE_S = 0.015
FLOOD_PACE_S = 0.1
"""The pace of a run in virtual time: nobody watches its points come in, and each message costs."""

_MAX_WINDOW = 100
_SILENCE_S = 3.0


class Transfer:
    """The progress of one run towards the recorders that must have it.

    Args:
        recorders: Whose watermarks count: the lowest of theirs; with none named, anybody's.
    """

    def __init__(self, recorders: Collection[str] = (), *, pace_s: float = PACE_S) -> None:
        self.watermark = -1
        self.sent_seq = -1
        self._highest_sent = -1
        self._committed = dict.fromkeys(recorders, -1)
        self._is_anybody = not recorders
        self._pace_s = pace_s
        self._in_flight: deque[int] = deque()
        self._window = _MAX_WINDOW
        self._waiting_since_s = 0.0
        self._paced_until_s = 0.0
        self._unconfirmed_since_s: float | None = None

    @property
    def unconfirmed_since_s(self) -> float | None:
        """Since when something that was sent waits and no watermark moves; None if nothing does."""
        return self._unconfirmed_since_s

    @property
    def behind(self) -> list[str]:
        """The recorders, of those named, that have not confirmed everything that was sent."""
        named = [] if self._is_anybody else self._committed.items()
        return [name for name, seq in named if seq < self._highest_sent]

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent now."""
        return len(self._in_flight) < self._window

    @property
    def resend_at_s(self) -> float | None:
        """When silence will have lasted too long; None while nothing is under way."""
        return self._waiting_since_s + _SILENCE_S if self._in_flight else None

    def waits_for_more(self, *, is_full: bool, now_s: float) -> float | None:
        """Return until when a message that is not full shall wait; None if it may go."""
        return self._paced_until_s if not is_full and now_s < self._paced_until_s else None

    def message_sent(self, last_seq: int, now_s: float) -> None:
        """Note that a message that ends with `last_seq` is on its way."""
        if not self._in_flight:
            self._waiting_since_s = now_s
        self._paced_until_s = now_s + self._pace_s
        self._in_flight.append(last_seq)
        self.sent_seq = last_seq
        self._highest_sent = max(self._highest_sent, last_seq)
        if self._unconfirmed_since_s is None:
            self._unconfirmed_since_s = now_s

    def message_taken(self, last_seq: int, now_s: float) -> None:
        """Note that the broker has a message: of the first one that waits, silence counts anew."""
        if self._in_flight and self._in_flight[0] == last_seq:
            self._waiting_since_s = now_s

    def committed(self, recorder_id: str, seq: int, now_s: float) -> bool:
        """Note a recorder's watermark; return whether the outbox may forget more than before.

        A watermark counts only up to what was sent: nobody can have stored the rest.
        """
        name = "" if self._is_anybody else recorder_id
        if self._is_anybody or name in self._committed:
            self._committed[name] = max(seq, self._committed.get(name, -1))
        known = self._committed.values() or (-1,)
        reached = min(max(known) if self._is_anybody else min(known), self._highest_sent)
        if reached <= self.watermark:
            return False
        self.watermark = reached
        self.sent_seq = max(self.sent_seq, reached)
        self._waiting_since_s = now_s
        self._unconfirmed_since_s = now_s if reached < self._highest_sent else None
        self._window = min(2 * self._window, _MAX_WINDOW)
        while self._in_flight and self._in_flight[0] <= reached:
            self._in_flight.popleft()
        return True

    def resend_asked(self, recorder_id: str, after_seq: int) -> bool:
        """Go back to the watermark if a recorder that counts misses something after `after_seq`.

        What lies below the watermark is forgotten, so asking for that changes nothing.
        """
        counts = self._is_anybody or recorder_id in self._committed
        is_asked = counts and self.watermark <= after_seq < self.sent_seq
        if is_asked:
            self.rewind()
        return is_asked

    def rewind_after_silence(self, now_s: float) -> bool:
        """Go back to the watermark if it has stood still for too long; return whether it has."""
        is_silent = self.resend_at_s is not None and now_s >= self.resend_at_s
        if is_silent:
            self.rewind()
            self._window = 1
        return is_silent

    def start_over(self) -> None:
        """Go back to the watermark on a new connection.

        What was lost with the old one is no sign that nobody confirms.
        """
        self.rewind()
        self._unconfirmed_since_s = None

    def rewind(self) -> None:
        """Go back to the watermark: whatever it does not cover may be lost."""
        self.sent_seq = self.watermark
        self._in_flight.clear()


def next_message(entries: Iterable[Entry]) -> tuple[list[Entry], bool]:
    """Return the first entries that fit one message, and whether they fill it.

    They are consecutive, of at most 64 kB unless it is a single one, and no further entry is read
    than tells that it does not fit.
    """
    message: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.line) + 1
        is_next = not message or entry.seq == message[-1].seq + 1
        if not is_next or (message and size > _MAX_BYTES):
            return message, True
        message.append(entry)
        if len(message) == MAX_DOCUMENTS:
            return message, True
    return message, False
