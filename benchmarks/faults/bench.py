"""The bench of one fault: a broker, a recorder, runs one after the other, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.faults.check import Committed, Verdict, committed, judge, outcome
from benchmarks.faults.children import Child, python_child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RIG = "bench"
DRAIN_S = 240.0
RESERVE_BYTES = 1_500_000


@dataclass
class RunChild:
    """A run process and how it went."""

    run_id: str
    child: Child
    journal: Path
    at_kill: Committed | None = None


@dataclass
class Bench:
    """Folder, random moments and children of one fault.

    Attributes:
        folder: of this fault alone.
        n_points: how many points the instrument shall send altogether.
        seed: what the random moments come from, the fault's name in it.
        is_quick: whether the children wait fractions of the real times.
        notes: what happened that a reader should know.
        environment: of the children, beside the parent's own.
        seen: what users had seen when the last run had ended.
        may_refuse: whether a run may fail because nothing more could be kept.
    """

    folder: Path
    n_points: int
    seed: str
    is_quick: bool
    outbox: Path = field(init=False)
    store: Path = field(init=False)
    random: Random = field(init=False)
    runs: list[RunChild] = field(default_factory=list[RunChild])
    recorders: list[Child] = field(default_factory=list[Child])
    notes: list[str] = field(default_factory=list[str])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    may_refuse: bool = False
    seen: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.outbox = self.folder / "outbox.sqlite"
        self.store = self.folder / "labctl.sqlite"
        self.random = Random(self.seed)  # noqa: S311 - moments of faults, no secrets

    def moments(self, n: int, *, of: int | None = None) -> list[int]:
        """Return n random points of a run, in order, neither at its very start nor its end."""
        last = of or self.n_points
        return sorted(self.random.sample(range(last // 20, last * 9 // 10), n))

    def gap(self) -> int:
        """Return for how many points a fault lasts."""
        return self.random.randrange(self.n_points // 50, self.n_points // 10)

    def n_points_left(self) -> int:
        """Return how many points the last run has to send so that all were sent; 5 % at least."""
        n_sent = sum(run.child.facts.get("sent", 0) for run in self.runs)
        return max(self.n_points // 20, self.n_points - n_sent)

    def start_run(self, url: str | None, **changes: Any) -> RunChild:
        """Start the next run process on the same outbox."""
        run_id = f"run-{len(self.runs) + 1}"
        journal = self.folder / f"wire-{run_id}"
        arguments: dict[str, Any] = {
            "run_id": run_id,
            "rig": RIG,
            "url": url,
            "n_points": self.n_points,
            "interval_s": 1e-3,
            "pace_s": 0.0,
            "telemetry_interval_s": 60.0,
            "journal": str(journal),
            "outbox": str(self.outbox),
            "store": None,
            "recorders": ["recorder-1"] if url else [],
            "reserve_bytes": RESERVE_BYTES,
            "drain_s": DRAIN_S,
            "is_impatient": self.is_quick,
            **changes,
        }
        run = RunChild(run_id, python_child("run_process", arguments, **self.environment), journal)
        self.runs.append(run)
        return run

    def start_recorder(self, url: str, *, number: int = 1, store: Path | None = None) -> Child:
        """Start a recorder process; return without waiting for the broker."""
        arguments = {
            "store": str(store or self.store),
            "url": url,
            "recorder_id": f"recorder-{number}",
            "rig": RIG,
            "is_impatient": self.is_quick,
        }
        child = python_child("recorder_process", arguments, **self.environment)
        self.recorders.append(child)
        child.until("opened")
        return child

    def kill_run(self, run: RunChild) -> None:
        """Kill a run process and note what its outbox had at that instant."""
        run.child.kill()
        run.at_kill = committed(self.outbox, run.run_id)

    def close(self) -> None:
        """Kill whatever is left."""
        for child in (*(run.child for run in self.runs), *self.recorders):
            child.kill()

    def verdict(self, stores: Sequence[Path] = ()) -> Verdict:
        """Return what became of the points of every run, in the store or in each of several."""
        total = Verdict()
        for run in self.runs:
            if run.at_kill is not None:
                self.seen.append(f"{run.run_id}: {outcome(self.store, run.run_id)}")
            is_refused = self.may_refuse and run.child.facts.get("ended") == "failed"
            for store in stores or (self.store,):
                total += judge(
                    run.journal,
                    store,
                    run.run_id,
                    at_kill=run.at_kill,
                    at_refusal=committed(self.outbox, run.run_id) if is_refused else None,
                )
        return total

    def words(self) -> list[str]:
        """Return what users have seen so far, each message once, in order of first appearance."""
        children = (*(run.child for run in self.runs), *self.recorders)
        return list(dict.fromkeys(each for child in children for each in child.logged()))


def finish(bench: Bench, run: RunChild) -> None:
    """Wait until a run has ended and its outbox is empty; what users saw is complete then."""
    begun_s = perf_counter()
    run.child.until_ended()
    bench.notes.append(f"all recorded {perf_counter() - begun_s:.0f} s after the last fault")
    if run.child.facts.get("left") != 0:
        bench.notes.append(f"{run.run_id}: not drained: {run.child.facts.get('error')}")
    bench.seen = bench.words()
