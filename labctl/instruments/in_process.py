"""The in-process face of a simulated instrument: its bytes without a socket, in virtual time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from labctl.errors import UnreachableError
from labctl.instruments.transport import LineTransport, LinkSettings

if TYPE_CHECKING:
    from labctl.clock import ParkingLot, VirtualTimeLoop


# A line takes its time, as a USB port does; and a device that works in steps of microseconds need
# not be asked after each of them.
_LATENCY_S = 1e-3


class WireDevice(Protocol):
    """A sans-IO instrument: bytes in, bytes out, time in s as an argument."""

    @property
    def hung_up(self) -> bool:
        """Return whether the line is cut."""
        ...

    def connect(self, now_s: float) -> None:
        """Take note that a client opened the line."""
        ...

    def disconnect(self, now_s: float) -> None:
        """Take note that the client closed it; whatever runs on the instrument goes on."""
        ...

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the client."""
        ...

    def next_due_s(self) -> float | None:
        """Return when the next byte is due; None if nothing is."""
        ...

    def transmit(self, now_s: float) -> bytes:
        """Return the bytes due by now, each once."""
        ...


class InProcessTransport(LineTransport):
    """A line to a simulated instrument in this process.

    A read that must wait parks its bus thread on the loop's clock, for as long as it takes: an
    interrupt wakes it, so there is no need to wait in slices. Once the line is cut it stays dead,
    as a socket does: only a new one leads to the instrument again. The instrument's own time began
    at `start_s` on the loop's clock.
    """

    max_block_s = math.inf

    def __init__(
        self,
        name: str,
        device: WireDevice,
        link: LinkSettings,
        *,
        loop: VirtualTimeLoop,
        lot: ParkingLot,
        start_s: float = 0.0,
    ) -> None:
        super().__init__(name, link)
        self._device = device
        self._loop = loop
        self._start_s = start_s
        self._lot = lot
        self.connection = self
        device.connect(loop.time() - start_s)
        self._is_open = True

    def close(self) -> None:
        """Close the line; the simulated instrument goes on with what it does."""
        if self._is_open:
            self._is_open = False
            self._device.disconnect(self._loop.time() - self._start_s)

    def _now_s(self) -> float:
        return self._loop.time()

    def _write_bytes(self, content: bytes, **kwargs: Any) -> None:
        self._check_line()
        self._device.receive(content, self._loop.time() - self._start_s)

    def _read_some(self, max_wait_s: float) -> bytes:
        end_s = self._loop.time() + max_wait_s
        while True:
            self._check_line()
            now_s = self._loop.time()
            data = self._device.transmit(now_s - self._start_s)
            if data or now_s >= end_s:
                return data
            due_s = self._device.next_due_s()
            if due_s is None:
                until_s = end_s
            else:
                until_s = min(max(due_s + self._start_s, now_s) + _LATENCY_S, end_s)
            if not self._lot.park(self._loop, until_s):
                return b""

    def _check_line(self) -> None:
        if self._device.hung_up:
            self.close()
        if not self._is_open:
            raise UnreachableError(self.name, "the line is cut")
