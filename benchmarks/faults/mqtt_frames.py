"""MQTT packets cut out of a byte stream, and a bit of a payload turned over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_PUBLISH = 3
_LONGEST_LENGTH = 4


class Frames:
    """Collects a stream's bytes into whole MQTT control packets."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are whole now."""
        self._partial += data
        packets: list[bytes] = []
        while (size := _size(self._partial)) is not None and len(self._partial) >= size:
            packets.append(self._partial[:size])
            self._partial = self._partial[size:]
        return packets


def _size(data: bytes) -> int | None:
    """Return the size of the first packet; None while its length has not come whole."""
    length = 0
    for index, byte in enumerate(data[1 : 1 + _LONGEST_LENGTH]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return 2 + index + length
    return None


def payload_of(packet: bytes) -> tuple[bytes, int] | None:
    """Return topic and place of the payload of a PUBLISH; None for any other packet."""
    if packet[0] >> 4 != _PUBLISH:
        return None
    header = 1 + next(i for i, byte in enumerate(packet[1:], 1) if byte < 0x80)
    n_topic = int.from_bytes(packet[header : header + 2], "big")
    topic = packet[header + 2 : header + 2 + n_topic]
    has_number = packet[0] & 0b110
    return topic, header + 2 + n_topic + (2 if has_number else 0)


def damaged(packet: bytes, random: Random) -> bytes:
    """Return a PUBLISH with one bit of its payload turned over; its framing stays whole."""
    found = payload_of(packet)
    if found is None or found[1] >= len(packet):
        return packet
    at = random.randrange(found[1], len(packet))
    other = packet[at] ^ 1 << random.randrange(8)
    return packet[:at] + bytes([other]) + packet[at + 1 :]
