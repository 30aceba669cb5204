"""The campaign: which faults there are, and what one of them gives."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.faults import faults_of_machines as machines
from benchmarks.faults import faults_of_networks as networks
from benchmarks.faults import faults_of_processes as processes
from benchmarks.faults.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.faults.check import Verdict

FAULTS: dict[str, Callable[[Bench], Verdict]] = {
    "broker-killed": processes.broker_killed,
    "persistent-broker-killed": processes.persistent_broker_killed,
    "embedded-broker-killed": processes.embedded_broker_killed,
    "recorder-killed": processes.recorder_killed,
    "run-killed": processes.run_killed,
    "everything-in-one-killed": processes.everything_in_one_killed,
    "all-killed-at-once": processes.all_killed_at_once,
    "network-cut": networks.network_cut,
    "half-open": networks.half_open,
    "slow-and-torn": networks.slow_and_torn,
    "damaged-documents": networks.damaged_documents,
    "credentials-refused": networks.credentials_refused,
    "two-recorders": networks.two_recorders,
    "two-days-offline": networks.two_days_offline,
    "outbox-disk-full": machines.outbox_disk_full,
    "store-disk-full": machines.store_disk_full,
    "clock-set-back": machines.clock_set_back,
}
QUICK_POINTS = 2000
FULL_POINTS = 100_000

_PLACE = re.compile(r"(?<!\w)(?:/[\w.-]+)+/(?=[\w.-]+)")
_FUNCTION = re.compile(r"\(\d+, <function.*?>\)")
_RUN = re.compile(r"(?<!/)\brun-\d+\b")
_PORT = re.compile(r"(127\.0\.0\.1):\d+")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a fault came to.

    Attributes:
        name: the fault.
        what: what was done, in words.
        seed: what its random moments came from.
        n_points: how many points it was meant to see.
        verdict: what became of the points.
        words: what a user saw, without ports and folders.
        notes: what happened that a reader should know.
        duration_s: how long it took.
    """

    name: str
    what: str
    seed: int
    n_points: int
    verdict: Verdict
    words: list[str]
    notes: list[str]
    duration_s: float


def inflict(name: str, *, n_points: int, seed: int, is_quick: bool) -> Result:
    """Return what a fault came to.

    Raises:
        MissingProgramError: this machine lacks what the fault needs.
    """
    fault = FAULTS[name]
    begun_s = perf_counter()
    with tempfile.TemporaryDirectory(prefix="labctl-faults-") as folder:
        bench = Bench(
            folder=Path(folder), n_points=n_points, seed=f"{seed}-{name}", is_quick=is_quick
        )
        try:
            verdict = fault(bench)
        finally:
            bench.close()
    return Result(
        name=name,
        what=(fault.__doc__ or "").strip().rstrip("."),
        seed=seed,
        n_points=n_points,
        verdict=verdict,
        words=list(dict.fromkeys(_neutral(each) for each in bench.seen)),
        notes=[_neutral(note) for note in bench.notes],
        duration_s=perf_counter() - begun_s,
    )


def _neutral(message: str) -> str:
    """Return a message without repetitions and what differs from one campaign to the next."""
    parts = dict.fromkeys(message.split("; "))
    message = _FUNCTION.sub("", "; ".join(parts))
    return _RUN.sub("a run", _PORT.sub(r"\1", _PLACE.sub("", message)))
