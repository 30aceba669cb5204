"""Faults of the machine: a full disk, a clock that is set back."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.faults.bench import finish
from benchmarks.faults.brokers import MissingProgramError, Mosquitto

if TYPE_CHECKING:
    from collections.abc import Generator

    from benchmarks.faults.bench import Bench
    from benchmarks.faults.check import Verdict

_BYTES_PER_POINT = 400
_SMALLEST_DISK = 1_000_000
_HOUR = timedelta(hours=1)


@contextmanager
def _small_disk(bench: Bench, size: int) -> Generator[Path]:
    """Give a file system of so many bytes: once it is full, SQLite meets a real ENOSPC.

    Raises:
        MissingProgramError: mounting is not allowed here.
    """
    folder = bench.folder / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise MissingProgramError(f"a small tmpfs cannot be mounted: {said}".strip()) from error
    try:
        yield folder
    finally:
        bench.close()
        command = ["umount", str(folder)]
        subprocess.run(command, check=True, capture_output=True)


def outbox_disk_full(bench: Bench) -> Verdict:
    """Fill the disk of an outbox without a reserve, and no broker there; then mend both."""
    size = max(_SMALLEST_DISK, bench.n_points * _BYTES_PER_POINT // 2)
    with _small_disk(bench, 2 * size) as disk:
        bench.outbox = disk / "outbox.sqlite"
        bench.may_refuse = True
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(size))
        broker = Mosquitto(bench.folder)
        run = bench.start_run(broker.url, reserve_bytes=0)
        run.child.until_logged("full", "room", "space")
        bench.notes.append(f"full at {run.child.facts.get('sent')} points")
        ballast.unlink()
        with broker:
            bench.start_recorder(broker.url)
            finish(bench, run)
            if run.child.facts.get("left") != 0:
                n_left = bench.n_points_left()
                finish(bench, bench.start_run(broker.url, n_points=n_left, reserve_bytes=0))
        return bench.verdict()


def store_disk_full(bench: Bench) -> Verdict:
    """Fill the store's disk in the middle of a run; then make room."""
    size = max(_SMALLEST_DISK, bench.n_points * _BYTES_PER_POINT // 2)
    with _small_disk(bench, 4 * size) as disk, Mosquitto(bench.folder) as broker:
        bench.store = disk / "labctl.sqlite"
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(4 * size - size // 2))
        recorder = bench.start_recorder(broker.url)
        run = bench.start_run(broker.url)
        recorder.until("log")
        bench.notes.append(f"full at {recorder.facts.get('recorded')} documents")
        run.child.until("ended")
        ballast.unlink()
        finish(bench, run)
        return bench.verdict()


def clock_set_back(bench: Bench) -> Verdict:
    """Set the wall clock of run, recorder and broker back an hour while the instrument sends."""
    step = bench.folder / "step"
    step.write_bytes(struct.pack("l", 0))
    bench.environment = {
        "LD_PRELOAD": str(_clock_shim(bench.folder)),
        "FAULTS_CLOCK_STEP": str(step),
    }
    broker = Mosquitto(bench.folder)
    broker.environment = bench.environment
    with broker:
        bench.start_recorder(broker.url).until("ready")
        run = bench.start_run(broker.url)
        run.child.until("sent", bench.moments(1)[0])
        with step.open("r+b") as file:
            file.write(struct.pack("l", -round(_HOUR.total_seconds())))
        finish(bench, run)
    bench.notes.append(f"its clock went back by {run.child.clock_step}")
    return bench.verdict()


def _clock_shim(folder: Path) -> Path:
    """Return a library, built now, that steps the clock of what it is preloaded into."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise MissingProgramError("a clock is stepped on Linux only, with a C compiler")
    library = folder / "clock_step.so"
    source = Path(__file__).with_name("clock_step.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library
