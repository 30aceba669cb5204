"""What a person beside the rig is told while a run lasts, and that telling is all it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from labctl import assembly
from labctl.documents import Reason

if TYPE_CHECKING:
    from labctl.run.check import CheckedStep
    from labctl.run.progress import Progress

COOLING = {"temperatures": ["60 degC", "30 degC"], "ramp_rate": "5 K/min", "cooling_branch": True}
SKIPPING = {
    "temperatures": ["60 degC", "90 degC", "120 degC"],
    "settle_timeout": "300 s",
    "on_settle_timeout": "skip",
}


def first_seen(progress: list[Progress]) -> dict[str, Progress]:
    """Return what was told when each step began."""
    seen: dict[str, Progress] = {}
    for each in progress:
        seen.setdefault(each.step, each)
    return seen


def checked(bench, parameters: dict[str, Any]) -> list[CheckedStep]:
    """Return what `labctl check` says of a run."""
    request = assembly.RunRequest(
        protocol="temperature_eis",
        rig=bench.folder / "rig.toml",
        sample=None,
        parameters=parameters,
        data=bench.folder,
    )
    return assembly.check(request)


def test_the_time_left_counts_passive_cooling_as_the_check_does(bench, quick) -> None:
    parameters = {**quick, **COOLING}
    told = bench.run(parameters, at={60.0: lambda run: run.cancel()}).progress
    steps = checked(bench, parameters)
    assert any(step.note == "limited by passive cooling" for step in steps)
    planned_s = steps[-1].begins_s + steps[-1].duration_s
    assert first_seen(told)[steps[0].key].time_left_s == pytest.approx(planned_s)


def test_a_step_that_is_skipped_counts_as_done_and_takes_no_time(bench, quick) -> None:
    parameters = {**quick, **SKIPPING}
    result = bench.run(parameters)
    assert result.ending.reason is Reason.TRUNCATED
    seen = first_seen(result.progress)
    settles = [each for key, each in seen.items() if key.endswith("/settle")]
    assert [each.steps_done for each in settles] == [0, 2, 4]
    last_two = checked(bench, parameters)[-2:]
    assert settles[-1].time_left_s == pytest.approx(sum(step.duration_s for step in last_two))
    last = result.progress[-1]
    assert (last.steps_done, last.steps_total, last.time_left_s) == (6, 6, 0.0)


@pytest.mark.parametrize("error", [ValueError("no column"), OSError(32, "Broken pipe"), SystemExit])
def test_a_display_that_fails_does_not_end_the_measurement(bench, quick, caplog, error) -> None:
    told = []

    def fail(progress: Progress) -> None:
        told.append(progress)
        if progress.temperature_k is not None:
            raise error

    result = bench.run(quick, observer=fail)
    assert result.ending.reason is Reason.COMPLETED
    assert result.told.points()["eis"] == 30
    assert told[-1].elapsed_s < 60.0
    assert caplog.text.count("the display of the progress has failed") == 1
