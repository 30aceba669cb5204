"""The socket face of a simulated instrument: the same bytes as in process, on TCP."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.instruments.in_process import WireDevice

LOOPBACK = "127.0.0.1"
_READ_SIZE = 65536
_LEAVING_S = 1.0  # how long a client waits for the one before it, whose farewell may be on its way


class DeviceServer:
    """Serves one simulated instrument to one client at a time, as a serial line would.

    Time is the loop's, counted from `start_s`: real on an ordinary loop, faster on a
    `ScaledTimeLoop`.
    """

    def __init__(self, device: WireDevice, *, start_s: float) -> None:
        self._device = device
        self._start_s = start_s
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._line = asyncio.Lock()
        self._news = asyncio.Event()

    async def start(self, port: int = 0) -> int:
        """Listen on loopback and return the port; 0 takes a free one."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Hang up and stop listening."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() - self._start_s

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client; a second one at the same time is turned away."""
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        try:
            async with asyncio.timeout(_LEAVING_S):
                await self._line.acquire()
        except (TimeoutError, asyncio.CancelledError):
            writer.close()
            return
        await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client with the device until either hangs up, then free the line."""
        self._device.connect(self._now_s())
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the server stops
        finally:
            self._device.disconnect(self._now_s())
            self._line.release()
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until either side hangs up."""
        sending = asyncio.create_task(self._send(writer))
        try:
            while data := await self._receive(reader, sending):
                self._device.receive(data, self._now_s())
                self._news.set()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await sending

    async def _receive(self, reader: asyncio.StreamReader, sending: asyncio.Task[None]) -> bytes:
        """Return what the client sent; nothing once either side has hung up."""
        reading = asyncio.create_task(reader.read(_READ_SIZE))
        try:
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            return b"" if sending.done() else reading.result()
        finally:
            reading.cancel()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Send every byte when it is due, until the device cuts the line."""
        while not self._device.hung_up:
            writer.write(self._device.transmit(self._now_s()))
            await writer.drain()
            self._news.clear()
            due_s = self._device.next_due_s()
            wait_s = None if due_s is None else max(0.0, due_s - self._now_s())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
