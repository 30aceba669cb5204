"""How many points a second reach the store, how soon each one, and what each stage takes.

    python -m benchmarks.streaming [--quick] [--json] [--peers] [--write]

A run's documents go from `Sink.put` through outbox, Mosquitto and a recorder in a process of its
own into the store; every commit waits for the disk. The clock stops when the run's process knows
that the last point is committed. `--peers` puts the same frames through what pymeasure, QCoDeS and
bluesky record with, and `--write` puts what it prints into docs/explanations/speed.md:

    uv run --no-default-groups --group bench python -m benchmarks.streaming --peers --write
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from benchmarks.stream_parts import (
    RECORDER_ID,
    RUN_ID,
    documents,
    fsync_rate,
    mosquitto,
    recorder,
    resident_megabytes,
    slow_down_commits,
)
from benchmarks.stream_table import PEERS, text, write_page
from labctl.documents import decode
from labctl.store.sqlite import SqliteStore
from labctl.stream.link import Link
from labctl.stream.mqtt import broker_address, connected
from labctl.stream.outbox import Outbox, entry_of
from labctl.stream.topics import watermark_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from labctl.documents import Document
    from labctl.stream.outbox import Entry

PAGE = Path(__file__).parents[1] / "docs" / "explanations" / "speed.md"

_RIG = "benchmark"
_SLOW_DISK_S = 0.005
_POINTS_PER_S = 1000
_PATIENCE_S = 600.0


def _spent_s(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _groups(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def stages(folder: Path, *, n_frames: int, n_points: int) -> dict[str, float]:
    """Return the points/s of each stage alone, in one thread, in groups as under load."""
    run = list(documents(n_frames, n_points))
    entries: list[Entry] = []
    with (
        closing(Outbox(folder / "stage-outbox.sqlite", rig=_RIG)) as outbox,
        closing(SqliteStore(folder / "stage-store.sqlite")) as store,
    ):
        spent_s = {
            "encode": _spent_s(lambda: entries.extend(map(entry_of, run))),
            "outbox": _spent_s(lambda: [outbox.append(part) for part in _groups(entries, 20)]),
            "decode": _spent_s(lambda: [decode(entry.line) for entry in entries]),
            "store": _spent_s(lambda: [store.add(part) for part in _groups(run, 20)]),
        }
    return {name: n_frames * n_points / time_s for name, time_s in spent_s.items()}


def end_to_end(
    folder: Path, *, n_frames: int, n_points: int, extra_s: float = 0.0
) -> dict[str, float]:
    """Return points/s from the first put to the last commit, and what memory it took."""
    folder.mkdir()
    with mosquitto(folder) as url, recorder(url, folder, extra_s=extra_s) as process:
        link = Link(
            outbox_path=folder / "outbox.sqlite", rig=_RIG, mqtt=url, recorders=[RECORDER_ID]
        )
        with link:
            began_s = time.perf_counter()
            memory = asyncio.run(_send(link, documents(n_frames, n_points), process.pid, n_frames))
            spent_s = time.perf_counter() - began_s
    n_all = n_frames * n_points
    return {"points": n_all, "points_per_s": n_all / spent_s, **memory}


async def _send(
    link: Link, run: Iterator[Document], recorder_pid: int, n_frames: int
) -> dict[str, float]:
    """Put a run's documents and wait until they are committed; return the memory that took."""
    memory: dict[str, float] = {}
    for number, document in enumerate(run):
        await link.put(document)
        if number == n_frames // 10:
            memory |= _memory("after a tenth", recorder_pid)
    left = await link.drain(_PATIENCE_S)
    if left:
        raise RuntimeError(f"{left} documents are not recorded")
    return memory | _memory("at the end", recorder_pid)


def _memory(when: str, recorder_pid: int) -> dict[str, float]:
    return {
        f"publisher_mb, {when}": resident_megabytes(os.getpid()),
        f"recorder_mb, {when}": resident_megabytes(recorder_pid),
    }


def drain(folder: Path, *, n_frames: int, n_points: int) -> dict[str, float]:
    """Return how long an outbox takes to empty once broker and recorder are there."""
    folder.mkdir()
    with closing(Outbox(folder / "outbox.sqlite", rig=_RIG)) as outbox:
        for part in _groups(list(documents(n_frames, n_points)), 100):
            outbox.append([entry_of(document) for document in part])
    with mosquitto(folder) as url, recorder(url, folder, extra_s=0.0):
        began_s = time.perf_counter()
        link = Link(
            outbox_path=folder / "outbox.sqlite", rig=_RIG, mqtt=url, recorders=[RECORDER_ID]
        )
        with link:
            left = asyncio.run(link.drain(_PATIENCE_S))
        spent_s = time.perf_counter() - began_s
    return {"points": n_frames * n_points, "left": left, "seconds": spent_s}


def latency(folder: Path, *, duration_s: float, extra_s: float = 0.0) -> dict[str, float]:
    """Return how long after its put a point is known to be committed, at 1,000 points/s."""
    folder.mkdir()
    with mosquitto(folder) as url, recorder(url, folder, extra_s=extra_s):
        link = Link(
            outbox_path=folder / "outbox.sqlite", rig=_RIG, mqtt=url, recorders=[RECORDER_ID]
        )
        with link:
            waits_s = asyncio.run(_latencies_s(link, url, n_frames=int(duration_s * _POINTS_PER_S)))
    p50, p99 = np.percentile(waits_s, [50, 99]) * 1000
    return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(max(waits_s)) * 1000}


async def _latencies_s(link: Link, url: str, *, n_frames: int) -> list[float]:
    """Put a point every millisecond; return each one's time until a watermark covers it."""
    put_s: list[float] = []
    async with connected(broker_address(url)) as connection:
        await connection.subscribe(watermark_topic(_RIG, RUN_ID))
        loop = asyncio.get_running_loop()

        async def put_all() -> None:
            begin_s = loop.time()
            for number, document in enumerate(documents(n_frames, 1)):
                await asyncio.sleep(begin_s + number / _POINTS_PER_S - loop.time())
                put_s.append(loop.time())
                await link.put(document)

        putting = asyncio.create_task(put_all())
        waits_s: list[float] = []
        while len(waits_s) < n_frames + 2:
            messages = await connection.receive(100)
            now_s = loop.time()
            committed = max(orjson.loads(message.payload)["committed"] for message in messages)
            waits_s += [now_s - put_s[seq] for seq in range(len(waits_s), committed + 1)]
            for message in messages:
                connection.acknowledge(message)
        await putting
    return waits_s


def measure(*, quick: bool, with_peers: bool) -> dict[str, Any]:
    """Return all figures."""
    share = 20 if quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, Any] = {"is_quick": quick, "fsync_per_s": fsync_rate(folder)}
        if with_peers:  # first: one that is not installed is told at once
            from benchmarks.stream_peers import peers

            figures[PEERS] = peers(n_frames=2_000 // share, n_points=100)
        for n_points, n_frames in ((100, 20_000), (1000, 4_000), (1, 20_000)):
            load = {"n_points": n_points, "n_frames": n_frames // share}
            figures[f"frames of {n_points}"] = {
                "stages alone, points/s": stages(_in(folder), **load),
                "end to end": end_to_end(folder / f"whole-{n_points}", **load),
            }
        figures["latency at 1,000 points/s"] = latency(folder / "late", duration_s=40 / share)
        figures["drain of an outbox"] = drain(
            folder / "drain", n_frames=10_000 // share, n_points=100
        )
        figures["10 million points in frames of 1000"] = end_to_end(
            folder / "long", n_frames=10_000 // share, n_points=1000
        )
        figures["with 5 ms more for each commit"] = _on_a_slow_disk(folder, share)
    return figures


def _on_a_slow_disk(folder: Path, share: int) -> dict[str, Any]:
    slow_down_commits(_SLOW_DISK_S)
    loads = {
        "frames of 100": (100, 10_000),
        "frames of 1000": (1000, 2_000),
        "frames of 1": (1, 10_000),
    }
    whole = {
        title: end_to_end(
            folder / f"slow-{n_points}",
            n_points=n_points,
            n_frames=n_frames // share,
            extra_s=_SLOW_DISK_S,
        )["points_per_s"]
        for title, (n_points, n_frames) in loads.items()
    }
    late = latency(folder / "slow-late", duration_s=20 / share, extra_s=_SLOW_DISK_S)
    return {"end to end, points/s": whole, "latency at 1,000 points/s": late}


def _in(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", action="store_true", help="the same through other frameworks")
    parser.add_argument("--write", action="store_true", help=f"renew the figures in {PAGE.name}")
    options = parser.parse_args()
    figures = measure(quick=options.quick, with_peers=options.peers)
    print(json.dumps(figures, indent=2) if options.json else text(figures))
    if options.write:
        write_page(PAGE, figures)


if __name__ == "__main__":
    main()
