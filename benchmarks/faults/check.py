"""The verdict: the store against what the instrument says it sent, and what the outbox had."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from benchmarks.faults.wire import SentPoint, sent_points
from labctl.errors import LabctlError
from labctl.store.reading import open_store
from labctl.store.sqlite import SqliteStore
from labctl.stream.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path

    from labctl.store.reading import StoredRun

_IMPEDANCE = ("frequency_hz", "z_real_ohm", "z_imag_ohm", "amplitude_v_rms", "bias_v")
_COLUMNS = {"ocp": ("elapsed_s", "potential_v"), "eis": _IMPEDANCE}

Point = tuple[float, ...]

MAX_IN_FLIGHT_MS = 200.0
"""How old the first point that no outbox had may be when a process is killed.

A group commit takes some 5 ms and a disk's time; the rest is for a machine that is busy otherwise.
"""

MAX_IN_FLIGHT = 200
"""How many of them there may be at one kill, at 1,000 points a second."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the points of one run, or of several together.

    Attributes:
        n_sent: points that left the instrument.
        n_stored: points in the store.
        n_lost: points that the outbox had, or should have had, and the store has not.
        n_duplicated: points that the store has more often than the instrument sent them.
        n_altered: points in the store that the instrument never sent.
        is_in_order: whether the stored points stand in the order in which they were sent.
        n_in_flight: points sent that no outbox had committed when the process was killed.
        most_in_flight: those of the kill that cost most of them.
        in_flight_ms: how much older the first of them is than the process's last sign of life.
        n_refused: points sent after the outbox could take no more, which the run said aloud.
        unmet: what else should have been and was not, in words; "" if all was.
    """

    n_sent: int = 0
    n_stored: int = 0
    n_lost: int = 0
    n_duplicated: int = 0
    n_altered: int = 0
    is_in_order: bool = True
    n_in_flight: int = 0
    most_in_flight: int = 0
    in_flight_ms: float = 0.0
    n_refused: int = 0
    unmet: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, doubled, altered, disordered, or kept too late."""
        is_whole = not (self.n_lost or self.n_duplicated or self.n_altered or self.unmet)
        return self.is_in_order and is_whole and self.is_prompt

    @property
    def is_prompt(self) -> bool:
        """Whether the outbox had committed all but the last moment of what was sent."""
        is_young = self.in_flight_ms <= MAX_IN_FLIGHT_MS
        return is_young and self.most_in_flight <= MAX_IN_FLIGHT

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            n_sent=self.n_sent + other.n_sent,
            n_stored=self.n_stored + other.n_stored,
            n_lost=self.n_lost + other.n_lost,
            n_duplicated=self.n_duplicated + other.n_duplicated,
            n_altered=self.n_altered + other.n_altered,
            is_in_order=self.is_in_order and other.is_in_order,
            n_in_flight=self.n_in_flight + other.n_in_flight,
            most_in_flight=max(self.most_in_flight, other.most_in_flight),
            in_flight_ms=max(self.in_flight_ms, other.in_flight_ms),
            n_refused=self.n_refused + other.n_refused,
            unmet="; ".join(filter(None, (self.unmet, other.unmet))),
        )


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What an outbox had when its process was killed or ended, read from a copy of its file."""

    last_seq: int


def committed(outbox: Path, run_id: str) -> Committed:
    """Return what the outbox of a process that is gone holds; the file is left as it is."""
    copy = outbox.with_name(f"copy-{run_id}.sqlite")
    for suffix in ("", "-wal"):
        source = outbox.with_name(outbox.name + suffix)
        if source.exists():
            shutil.copyfile(source, copy.with_name(copy.name + suffix))
    with closing(Outbox(copy, rig="")) as opened:
        return Committed(last_seq=opened.last_seq(run_id))


def judge(
    journal: Path,
    store: Path,
    run_id: str,
    *,
    at_kill: Committed | None = None,
    at_refusal: Committed | None = None,
) -> Verdict:
    """Return what became of one run's points.

    Only the last points sent can be excused, and only if everything that the outbox had committed
    is stored: those in flight when the process was killed, or those that a run which said that it
    could keep no more had to leave out.

    Args:
        journal: the wire of this run.
        store: the store's file.
        run_id: the run.
        at_kill: what the outbox had when the run was killed; None for a run that ended by itself.
        at_refusal: what the outbox had of a run that failed because nothing more could be kept, and
            said so; None for any other run.
    """
    sent = sent_points(journal) if journal.exists() else []
    values = [each.values for each in sent]
    stored = _stored_points(store, run_id)
    lacking, extra = Counter(values), Counter(stored)
    lacking.subtract(stored)
    extra.subtract(values)
    known = set(values)
    n_doubled = sum(n for point, n in extra.items() if n > 0 and point in known)
    n_lacking = (+lacking).total()
    tail = sent[len(stored) :] if stored == values[: len(stored)] else []
    watermark = _watermark(store, run_id)
    is_cut = at_kill is not None and watermark >= at_kill.last_seq
    is_refused = at_refusal is not None and watermark >= at_refusal.last_seq
    n_excused = len(tail) if is_cut or is_refused else 0
    return Verdict(
        n_sent=len(sent),
        n_stored=len(stored),
        n_lost=n_lacking - n_excused,
        n_duplicated=n_doubled,
        n_altered=(+extra).total() - n_doubled,
        is_in_order=_is_in_order(values, [point for point in stored if point in known]),
        n_in_flight=n_excused if is_cut else 0,
        most_in_flight=n_excused if is_cut else 0,
        in_flight_ms=_span_ms(tail) if is_cut else 0.0,
        n_refused=n_excused if is_refused else 0,
    )


def outcome(store: Path, run_id: str) -> str:
    """Return how the store says that a run ended."""
    try:
        return str(open_store(store).run(run_id).outcome)
    except LabctlError:
        return "nothing is stored"


def _stored_points(store: Path, run_id: str) -> list[Point]:
    """Return the points of a run as a user of the data gets them, in order of seq."""
    try:
        run = open_store(store).run(run_id)
    except LabctlError:
        return []
    rows = [row for stream in run.streams() if stream in _COLUMNS for row in _rows(run, stream)]
    return [point for _, point in sorted(rows, key=itemgetter(0))]


def _rows(run: StoredRun, stream: str) -> list[tuple[float, Point]]:
    columns = run.columns(stream)
    points = zip(*(columns[name].tolist() for name in _COLUMNS[stream]), strict=True)
    return list(zip(columns["seq"].tolist(), points, strict=True))


def _watermark(store: Path, run_id: str) -> int:
    with closing(SqliteStore(store)) as opened:
        return opened.watermark(run_id)


def _is_in_order(sent: list[Point], stored: list[Point]) -> bool:
    """Return whether the stored points come in the order of those sent, some left out or not."""
    remaining = iter(sent)
    return all(any(each == point for each in remaining) for point in stored)


def _span_ms(tail: list[SentPoint]) -> float:
    """Return how much older the first of the last points is than the last one."""
    return (tail[-1].at_ns - tail[0].at_ns) / 1e6 if tail else 0.0
