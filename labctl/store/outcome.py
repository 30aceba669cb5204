"""How a run ended, judged from what is stored; the one place that decides it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from labctl.documents import ExitStatus, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


class Outcome(StrEnum):
    """How a run ended; the reasons of run_stop, and `interrupted` for a run without one."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"
    TRUNCATED = "truncated"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ending:
    """An outcome and the sentence that says why."""

    outcome: Outcome
    sentence: str


def judge_ending(
    stop: Mapping[str, Any] | None, *, stored_points: Mapping[str, int], n_missing: int
) -> Ending:
    """Return how a run ended.

    Args:
        stop: The body of the run_stop that closes the run; None if the run is open.
        stored_points: Stream name to the number of points that are stored.
        n_missing: How many documents before the last stored one are not stored.
    """
    if stop is None:
        return Ending(
            Outcome.INTERRUPTED,
            "No run_stop is stored: the run was interrupted, or it is still running.",
        )
    if stop["exit_status"] != ExitStatus.SUCCESS:
        return Ending(_reason(stop), _sentence(stop))
    differences = _differences(stop["actual_points"], stored_points)
    if n_missing:
        differences.append(f"{n_missing} documents before the run_stop are not stored")
    if differences:
        return Ending(
            Outcome.TRUNCATED, "The run says success, but " + "; ".join(differences) + "."
        )
    return Ending(Outcome.COMPLETED, _sentence(stop))


def _differences(measured: Mapping[str, int], stored: Mapping[str, int]) -> list[str]:
    """Return one clause for each stream whose stored points are not those measured."""
    return [
        f"stream {name} holds {stored.get(name, 0)} of {count} points"
        for name, count in measured.items()
        if stored.get(name, 0) != count
    ]


def _reason(stop: Mapping[str, Any]) -> Outcome:
    """Return the outcome that a run_stop without success names."""
    if stop["reason"] in (Reason.ABORTED, Reason.FAILED, Reason.TRUNCATED):
        return Outcome(stop["reason"])
    return Outcome.ABORTED if stop["exit_status"] == ExitStatus.ABORT else Outcome.FAILED


def _sentence(stop: Mapping[str, Any]) -> str:
    """Return the run_stop's own words, or its reason."""
    return str(stop.get("message") or f"The run ended: {stop['reason']}.")
