"""Success is what was expected, measured and stored; every other ending says what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.store.outcome import Outcome, judge_ending


def stop(status: str, reason: str, *, expected: int, actual: int, **more: Any) -> dict[str, Any]:
    return {
        "exit_status": status,
        "reason": reason,
        "message": "it ended",
        "expected_points": {"eis": expected},
        "actual_points": {"eis": actual},
        **more,
    }


def test_what_was_expected_measured_and_stored_is_complete() -> None:
    said = stop("success", "completed", expected=50, actual=50)
    ending = judge_ending(said, stored_points={"eis": 50}, n_missing=0)
    assert ending.outcome is Outcome.COMPLETED
    assert ending.sentence == "it ended"


def test_a_success_with_fewer_points_than_expected_is_truncated() -> None:
    said = stop("success", "completed", expected=100, actual=50)
    ending = judge_ending(said, stored_points={"eis": 50}, n_missing=0)
    assert ending.outcome is Outcome.TRUNCATED
    assert "50 of 100 eis points were measured" in ending.sentence


def test_points_that_were_forgone_are_not_missed() -> None:
    said = stop("success", "completed", expected=100, actual=50, forgone_points={"eis": 50})
    ending = judge_ending(said, stored_points={"eis": 50}, n_missing=0)
    assert ending.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(("status", "reason"), [("abort", "aborted"), ("fail", "failed")])
def test_another_ending_says_what_is_not_stored(status: str, reason: str) -> None:
    said = stop(status, reason, expected=100, actual=50)
    ending = judge_ending(said, stored_points={"eis": 10}, n_missing=40)
    assert ending.outcome == reason
    assert ending.sentence.startswith("it ended; ")
    assert "stream eis holds 10 of 50 points" in ending.sentence
    assert "40 documents before the run_stop are not stored" in ending.sentence


def test_a_run_without_an_end_is_running_only_if_a_process_is_known_to_carry_it_out() -> None:
    going = judge_ending(None, stored_points={}, n_missing=0, is_running=True)
    assert going.outcome is Outcome.RUNNING
    gone = judge_ending(None, stored_points={}, n_missing=0)
    assert gone.outcome is Outcome.INTERRUPTED
    assert "Heater and cell may still be on" in gone.sentence
