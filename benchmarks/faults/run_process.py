"""A child process that measures: simulated instrument, driver, run, outbox, publisher.

    python -m benchmarks.faults.run_process ARGUMENTS_AS_JSON

It tells how many packets the instrument has sent, what the link's problem is, how the run ended and
how many documents are left in the outbox after it has waited for the recorders.
"""

from __future__ import annotations

import threading
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.faults.child import begin, tell
from benchmarks.faults.instrument import Measurement, measure
from labctl.clock import VirtualTimeLoop, run_on
from labctl.errors import LabctlError
from labctl.stream.link import Link
from labctl.stream.outbox import OutboxLimits

if TYPE_CHECKING:
    from labctl.run.progress import Progress


class _Progress:
    """Tells each packet count, and the link's problem when it changes.

    Args:
        pace_s: how long each packet takes at least, in real time: at the machine's own pace nobody
            could tell an outbox that commits late from one that commits in time.
    """

    def __init__(self, link: Link, *, pace_s: float) -> None:
        self._link = link
        self._pace_s = pace_s
        self._next_s = perf_counter()
        self._n_packets = 0
        self._never = threading.Event()
        self._problem: str | None = None

    def __call__(self, n_packets: int) -> None:
        """Tell; called on the bus thread."""
        tell(sent=n_packets)
        self._next_s = max(
            perf_counter(), self._next_s + self._pace_s * (n_packets - self._n_packets)
        )
        self._n_packets = n_packets
        self._never.wait(self._next_s - perf_counter())
        try:
            problem = self._link.problem
        except LabctlError as error:
            problem = str(error)
        if problem != self._problem:
            self._problem = problem
            tell(problem=problem)


def _tell_pauses(progress: Progress) -> None:
    if progress.is_paused:
        tell(paused=progress.note)


def _link(arguments: dict[str, Any]) -> Link:
    return Link(
        outbox_path=Path(arguments["outbox"]),
        rig=arguments["rig"],
        mqtt=arguments["url"],
        store_path=Path(arguments["store"]) if arguments["store"] else None,
        recorders=arguments["recorders"],
        limits=OutboxLimits(reserve_bytes=arguments["reserve_bytes"]),
    )


async def _run(arguments: dict[str, Any], link: Link, loop: VirtualTimeLoop) -> None:
    measurement = Measurement(
        run_id=arguments["run_id"],
        n_points=arguments["n_points"],
        interval_s=arguments["interval_s"],
        telemetry_interval_s=arguments["telemetry_interval_s"],
        journal=Path(arguments["journal"]),
    )
    sent = _Progress(link, pace_s=arguments["pace_s"])
    ending = await measure(measurement, loop, link, sent, _tell_pauses)
    tell(ended=ending.reason.value, message=ending.message, virtual_s=loop.time())
    tell(left=await link.drain(arguments["drain_s"]))


def main() -> None:
    """Measure and drain."""
    arguments = begin()
    loop = VirtualTimeLoop()
    try:
        with _link(arguments) as link:
            tell(opened=True)
            run_on(loop, _run(arguments, link, loop))
    except LabctlError as error:
        tell(error=str(error))


if __name__ == "__main__":
    main()
