"""What the streaming benchmark is made of: a workload, a broker, a recorder in its own process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labctl.documents import Document, Kind
from labctl.store import database as database_module
from labctl.store.database import transaction
from labctl.store.sqlite import STORE_NAME, SqliteStore
from labctl.stream.mqtt import broker_address
from labctl.stream.recorder import Recorder

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Iterator

RUN_ID = "benchmark"
RECORDER_ID = "benchmark-recorder"
COLUMNS = ("time_s", "frequency_hz", "z_real_ohm", "z_imag_ohm", "amplitude_v_rms", "step")
_POOL = 50
_READY = "recording"


def documents(n_frames: int, n_points: int) -> Iterator[Document]:
    """Give a run of frames of six columns, numbers of full length as instruments give them."""
    rng = np.random.default_rng(1)
    pool = [
        {name: rng.normal(size=n_points).tolist() for name in COLUMNS}
        for _ in range(min(_POOL, n_frames))
    ]
    start = {"time": "2026-01-01T00:00:00+00:00", "protocol": "", "parameters": {}, "sample": {}}
    yield Document(RUN_ID, 0, Kind.RUN_START, start)
    units = dict.fromkeys(COLUMNS, "1")
    yield Document(RUN_ID, 1, Kind.DESCRIPTOR, {"stream": "eis", "units": units})
    for number in range(n_frames):
        body = {"stream": "eis", "n_points": n_points, "columns": pool[number % len(pool)]}
        yield Document(RUN_ID, 2 + number, Kind.EVENT_PAGE, body)


def fsync_rate(folder: Path, *, duration_s: float = 1.0) -> float:
    """Return how often a second the disk brings 4 kB to safety."""
    n_done, began_s = 0, time.perf_counter()
    with (folder / "fsync").open("wb") as file:
        while time.perf_counter() - began_s < duration_s:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            n_done += 1
    return n_done / (time.perf_counter() - began_s)


def slow_down_commits(extra_s: float) -> None:
    """Make each commit that waits for the disk wait so much longer, in this process."""

    @contextmanager
    def slowed(connection: sqlite3.Connection) -> Generator[None]:
        with transaction(connection):
            yield
            (level,) = connection.execute("PRAGMA synchronous").fetchone()
            if level == 2:  # FULL
                time.sleep(extra_s)  # noqa: TID251 - stands in for a slow disk

    database_module.transaction = slowed


@contextmanager
def mosquitto(folder: Path) -> Generator[str]:
    """Run a Mosquitto of our own; give its URL.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise FileNotFoundError("the program mosquitto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n")
    with subprocess.Popen(
        [program, "-c", str(config)], stderr=subprocess.PIPE, text=True
    ) as broker:
        assert broker.stderr is not None  # noqa: S101
        while "running" not in broker.stderr.readline():
            pass
        try:
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            broker.kill()


@contextmanager
def recorder(url: str, folder: Path, *, extra_s: float) -> Generator[subprocess.Popen[str]]:
    """Run a recorder in a process of its own, into a store in a folder."""
    command = [sys.executable, "-m", "benchmarks.stream_parts", url, str(folder), str(extra_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101
        if process.stdout.readline().strip() != _READY:
            raise RuntimeError("the recorder does not start")
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def resident_megabytes(pid: int) -> float:
    """Return how much memory a process holds; NaN where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _record(url: str, folder: Path) -> None:
    with closing(SqliteStore(folder / STORE_NAME)) as store:
        service = Recorder(store, broker_address(url), recorder_id=RECORDER_ID)
        recording = asyncio.create_task(service.run())
        await service.ready.wait()
        print(_READY, flush=True)
        await recording


def _main() -> None:
    """Be the recorder's process."""
    url, folder, extra_s = sys.argv[1:]
    slow_down_commits(float(extra_s))
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_record(url, Path(folder)))


if __name__ == "__main__":
    _main()
