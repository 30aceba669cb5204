"""What a connection has been given and the broker has not taken yet: it lies in memory.

No I/O. Bounded over all runs: a hundred that wait, on a slow line, must not fill the memory.
"""

from __future__ import annotations

from collections import Counter

_MAX_MESSAGES = 20
"""As many as an MQTT client has in flight anyway; more would only queue."""

_MAX_BYTES = 2_000_000


class UnderWay:
    """The messages of one connection that are on their way to the broker, by run."""

    def __init__(self) -> None:
        self._n_messages: Counter[str] = Counter()
        self._n_bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether another message may set out; a single one may always, however large it is."""
        return self._n_messages.total() < _MAX_MESSAGES and self._n_bytes < _MAX_BYTES

    def __contains__(self, run_id: str) -> bool:
        """Return whether something of a run is under way."""
        return self._n_messages[run_id] > 0

    def set_out(self, run_id: str, n_bytes: int) -> None:
        """Note that a message sets out."""
        self._n_messages[run_id] += 1
        self._n_bytes += n_bytes

    def arrive(self, run_id: str, n_bytes: int) -> None:
        """Note that the broker has taken it, or never will."""
        self._n_messages[run_id] -= 1
        self._n_messages += Counter()  # drops what has come to nothing
        self._n_bytes -= n_bytes

    def clear(self) -> None:
        """Forget everything: the connection is a new one."""
        self._n_messages.clear()
        self._n_bytes = 0
