"""What the simulated instrument sent, written down at the wire and read without the driver.

The journal is written by the harness, between simulator and transport: no document, outbox or
broker has any part in it. Each transmission is one write of its own: a mark with the instant
(`@` and ns of the machine's monotonic clock), then the bytes as they went over the wire.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from labctl.instruments.in_process import WireDevice

_POLL_S = 0.02
_MARK = b"@"
_OFFSET = 1 << 27
_EXPONENTS = dict(zip("afpnum kMGTPE", range(-18, 19, 3), strict=True))
_NAN = "     nan"


class JournalledDevice:
    """A simulated instrument whose every byte is written down before the host has it.

    The host fetches bytes every 20 ms of the instrument's time, as a USB host does at its leisure.

    Args:
        device: the simulator.
        path: the journal; what it holds already stays.
        sent: called with the number of packets sent so far, after each transmission.
    """

    def __init__(self, device: WireDevice, path: Path, sent: Callable[[int], None]) -> None:
        self._device = device
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._sent = sent
        self._n_packets = 0

    @property
    def hung_up(self) -> bool:
        """Return whether the line is cut."""
        return self._device.hung_up

    def connect(self, now_s: float) -> None:
        """Take note that a client opened the line."""
        self._device.connect(now_s)

    def disconnect(self, now_s: float) -> None:
        """Take note that the client closed it."""
        self._device.disconnect(now_s)

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the client."""
        self._device.receive(data, now_s)

    def next_due_s(self) -> float | None:
        """Return when the host fetches the next byte; None if none is due."""
        due_s = self._device.next_due_s()
        return None if due_s is None else math.ceil(due_s / _POLL_S) * _POLL_S

    def transmit(self, now_s: float) -> bytes:
        """Return the bytes due by now, each once, after writing them down."""
        data = self._device.transmit(now_s)
        if data:
            os.write(self._file, b"%s%d\n%s" % (_MARK, perf_counter_ns(), data))
            self._n_packets += data.count(b"\nP") + data.startswith(b"P")
            self._sent(self._n_packets)
        return data


@dataclass(frozen=True, slots=True)
class SentPoint:
    """One packet as the instrument sent it.

    Attributes:
        kind: the first variable's type: `cg` or `dc` begins a point of impedance.
        values: its variables in SI units.
        at_ns: when it left, on the machine's monotonic clock.
    """

    kind: str
    values: tuple[float, ...]
    at_ns: int


def sent_points(path: Path) -> list[SentPoint]:
    """Return the packets of a journal in order; without its last line if a kill has cut it."""
    points: list[SentPoint] = []
    at_ns = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if line.startswith(_MARK):
            at_ns = int(line[1:])
        elif line.startswith(b"P") and line.endswith(b"\n"):
            points.append(_point(line.decode("ascii")[1:-1], at_ns))
    return points


def _point(packet: str, at_ns: int) -> SentPoint:
    variables = packet.split(";")
    return SentPoint(variables[0][:2], tuple(_number(each[2:10]) for each in variables), at_ns)


def _number(field: str) -> float:
    """Return the number in eight characters; decoded here once more, apart from the driver."""
    if field == _NAN:
        return math.nan
    return float(f"{int(field[:7], 16) - _OFFSET}e{_EXPONENTS[field[7]]}")
