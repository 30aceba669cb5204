"""What several driver tests start from: a line to a simulated instrument, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from labctl.clock import ParkingLot, VirtualTimeLoop
from labctl.instruments.bus import Connection
from labctl.instruments.in_process import InProcessTransport, WireDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.instruments.transport import LinkSettings


@pytest.fixture
def connection_to() -> Callable[[WireDevice], Connection]:
    """Makes a connection, not open yet, to a simulated instrument."""

    def made(device: WireDevice) -> Connection:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)

        def open_transport(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
            return InProcessTransport("it", device, link, loop=loop, lot=lot)

        return Connection("it", open_transport)

    return made
