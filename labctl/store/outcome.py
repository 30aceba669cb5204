"""How a run ended, judged from what is stored; the one place that decides it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from labctl.documents import ExitStatus, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


class Outcome(StrEnum):
    """How a run ended; the reasons of run_stop, and what a run without one is."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"
    TRUNCATED = "truncated"
    INTERRUPTED = "interrupted"
    RUNNING = "running"


_NO_END = (
    "No run_stop is stored: the run was interrupted, unless it goes on on another machine or its"
    " end waits in an outbox (labctl drain). Heater and cell may still be on: nothing says that the"
    " rig is safe."
)


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome and the sentence that says why."""

    outcome: Outcome
    sentence: str


def judge_ending(
    stop: Mapping[str, Any] | None,
    *,
    stored_points: Mapping[str, int],
    n_missing: int,
    is_running: bool = False,
) -> Ending:
    """Return how a run ended.

    Args:
        stop: The body of the run_stop that closes the run; None if the run is open.
        stored_points: Stream name to the number of points that are stored.
        n_missing: How many documents before the last stored one are not stored.
        is_running: Whether a process is known to carry the run out now.
    """
    if is_running:
        return Ending(Outcome.RUNNING, "The run goes on.")
    if stop is None:
        return Ending(Outcome.INTERRUPTED, _NO_END)
    missing = _missing(stop["actual_points"], stored_points, n_missing)
    if stop["exit_status"] != ExitStatus.SUCCESS:
        return Ending(_reason(stop), "; ".join([_sentence(stop), *missing]))
    missing = [*_unmeasured(stop), *missing]
    if missing:
        return Ending(Outcome.TRUNCATED, "The run says success, but " + "; ".join(missing) + ".")
    return Ending(Outcome.COMPLETED, _sentence(stop))


def _missing(measured: Mapping[str, int], stored: Mapping[str, int], n_missing: int) -> list[str]:
    """Return one clause for each thing that was measured and is not stored."""
    said = [
        f"stream {name} holds {stored.get(name, 0)} of {count} points"
        for name, count in measured.items()
        if stored.get(name, 0) != count
    ]
    lost = f"{n_missing} documents before the run_stop are not stored"
    return [*said, lost] if n_missing else said


def _unmeasured(stop: Mapping[str, Any]) -> list[str]:
    """Return one clause for each stream that has not the points it should have."""
    forgone = stop.get("forgone_points") or {}
    wanted = {name: n - forgone.get(name, 0) for name, n in stop["expected_points"].items()}
    return [
        f"{stop['actual_points'].get(name, 0)} of {n_points} {name} points were measured"
        for name, n_points in wanted.items()
        if stop["actual_points"].get(name, 0) != n_points
    ]


def _reason(stop: Mapping[str, Any]) -> Outcome:
    """Return the outcome that a run_stop without success names."""
    if stop["reason"] in (Reason.ABORTED, Reason.FAILED, Reason.TRUNCATED):
        return Outcome(stop["reason"])
    return Outcome.ABORTED if stop["exit_status"] == ExitStatus.ABORT else Outcome.FAILED


def _sentence(stop: Mapping[str, Any]) -> str:
    """Return the run_stop's own words, or its reason."""
    return str(stop.get("message") or f"The run ended: {stop['reason']}.")
