"""A TCP proxy before the broker: the network that is cut, slow, half open or turns bytes over."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from concurrent.futures import Future
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Self

from benchmarks.faults.mqtt_frames import Frames, damaged, payload_of

if TYPE_CHECKING:
    from collections.abc import Callable

_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: closing sends a reset instead of a goodbye
_CHUNK = 65536


class _Line:
    """One client's connection through the proxy, both ways."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.flows = asyncio.Event()
        self.flows.set()

    def reset(self) -> None:
        """Break the connection at both ends, without a goodbye."""
        self.flows.set()
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Forwards a port of this machine to another one; its faults are switched while it works.

    Attributes:
        delay_s: how long every piece of data is held back.
        largest_piece: data go on in pieces of 1 to so many bytes; 0 leaves them whole.
        share_damaged: which share of the documents' and watermarks' messages is damaged.
        n_damaged: how many messages have been damaged, by the last part of their topic.
    """

    def __init__(self, target_port: int, *, seed: str) -> None:
        self.delay_s = 0.0
        self.largest_piece = 0
        self.share_damaged = 0.0
        self.n_damaged = {"doc": 0, "ack": 0}
        self.port = 0
        self._random = Random(seed)  # noqa: S311 - moments of faults, no secrets
        self._target_port = target_port
        self._lines: set[_Line] = set()
        self._clients: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self._thread = threading.Thread(target=self._serve_until_told, name="faults-proxy")
        self._started: Future[None] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def cut(self) -> None:
        """Cut the network: connections are reset, new ones too."""
        self._is_cut = True
        self.reset()

    def mend(self) -> None:
        """Let new connections through again."""
        self._is_cut = False

    def reset(self) -> None:
        """Reset every connection."""
        self._do(lambda line: line.reset())

    def freeze(self) -> None:
        """Leave every connection half open: it stays, and nothing comes through any more."""
        self._do(lambda line: line.flows.clear())

    def _do(self, act: Callable[[_Line], None]) -> None:
        """Do something to every connection, on the proxy's loop, and return when it is done."""
        done: Future[None] = Future()

        def now() -> None:
            for line in list(self._lines):
                act(line)
            done.set_result(None)

        self._loop.call_soon_threadsafe(now)
        done.result()

    def _serve_until_told(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set_result(None)
        await self._stopping.wait()
        server.close()
        for line in list(self._lines):
            line.reset()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's bytes both ways until either side hangs up."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        line = _Line((writer, far_writer))
        self._lines.add(line)
        if self._is_cut:
            line.reset()
        ways = [self._carry(line, reader, far_writer), self._carry(line, far_reader, writer)]
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await line.flows.wait()  # the far side of a half-open line never learns of the end
        line.reset()
        await asyncio.wait(tasks)
        self._lines.discard(line)

    async def _carry(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward one direction; a frozen line takes what comes and lets nothing out."""
        frames = Frames()
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await line.flows.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                for piece in self._pieces(self._through(frames, data)):
                    writer.write(piece)
                    await writer.drain()

    def _through(self, frames: Frames, data: bytes) -> bytes:
        """Return the whole packets that may go on: some damaged, if that is asked for."""
        return b"".join(self._maybe_damaged(packet) for packet in frames.feed(data))

    def _maybe_damaged(self, packet: bytes) -> bytes:
        if not self.share_damaged:
            return packet
        found = payload_of(packet)
        kind = found[0].rpartition(b"/")[2].decode() if found else ""
        if kind not in self.n_damaged or self._random.random() >= self.share_damaged:
            return packet
        self.n_damaged[kind] += 1
        return damaged(packet, self._random)

    def _pieces(self, data: bytes) -> list[bytes]:
        """Return data in the pieces in which they go on."""
        if not self.largest_piece:
            return [data]
        pieces: list[bytes] = []
        while data:
            size = self._random.randint(1, self.largest_piece)
            pieces.append(data[:size])
            data = data[size:]
        return pieces
