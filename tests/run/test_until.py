"""A measurement that the script ends early: the cell goes off, and the data say why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from labctl.documents import Kind, Reason
from labctl.instruments.capabilities import CanOcp
from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv, Stop
from labctl.instruments.techniques import Ocp
from labctl.run.protocol import Parameters, PlannedStep, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from labctl.run.run import Measurement, Run

Columns = dict[str, list[float]]
REST = Ocp(duration_s=20.0, interval_s=1.0)


def scripted(script: Callable[[Run, Any], Awaitable[None]]) -> Protocol[Parameters]:
    """Return a protocol that plans one rest of 20 points and does what it likes."""
    rest = PlannedStep(key="rest", kind="ocp", expected_duration_s=20.0, technique=REST)
    return Protocol(
        name="scripted",
        script=script,
        parameters=Parameters,
        plan=lambda _, __: [rest],
        capabilities=(CanOcp,),
        summary="",
    )


def after(n_points: int) -> Callable[[Columns], str]:
    def until(columns: Columns) -> str:
        return "seen enough" if len(columns["potential_v"]) >= n_points else ""

    return until


@pytest.fixture
def rested(bench) -> Callable[..., tuple[Any, list[Measurement]]]:
    """Runs the rest with an `until`, then once more without; gives result and measurements."""

    def run_it(until: Callable[[Columns], str] | None):
        seen: list[Measurement] = []

        async def script(run: Run, _: Parameters) -> None:
            seen.append(await run.ocp(key="rest", parameters=REST, until=until))
            seen.append(await run.ocp(key="again", parameters=REST))

        return bench.run({}, protocol=scripted(script)), seen

    return run_it


def test_what_the_script_ends_is_as_long_as_it_is_and_says_why(rested) -> None:
    result, (ended, whole) = rested(after(7))
    assert (ended.n_points, ended.ended_by) == (7, "seen enough")
    assert (whole.n_points, whole.ended_by) == (20, "")
    assert result.ending.reason is Reason.COMPLETED
    assert result.told.stop["expected_points"] == {"ocp": 27}


def test_the_reason_stands_in_the_step_s_end_document(rested) -> None:
    result, _ = rested(after(7))
    ends = [step for step in result.told.events("step") if step["phase"] == "end"]
    assert [end["result"]["ended_by"] for end in ends] == ["seen enough", ""]
    assert [end["result"]["n_points"] for end in ends] == [7, 20]


def test_every_point_that_the_script_saw_is_stored(rested) -> None:
    result, (ended, _) = rested(after(7))
    stored = [
        value
        for page in result.told.of(Kind.EVENT_PAGE, "ocp")
        if page.body["columns"]["step"][0] == ended.step
        for value in page.body["columns"]["potential_v"]
    ]
    assert stored == list(ended.columns["potential_v"])


def test_a_script_that_says_nothing_ends_nothing(rested) -> None:
    result, (first, second) = rested(lambda _: "")
    assert (first.n_points, first.ended_by) == (second.n_points, second.ended_by) == (20, "")
    assert result.ending.reason is Reason.COMPLETED


def test_the_script_is_asked_once_a_frame_and_sees_all_points_so_far(rested) -> None:
    lengths: list[int] = []
    rested(lambda columns: lengths.append(len(columns["elapsed_s"])) or "")
    assert lengths == list(range(1, 21))


def test_a_criterion_that_fails_fails_the_run_with_the_cell_off(rested, bench) -> None:
    def until(_: Columns) -> str:
        raise ZeroDivisionError("division by zero")

    result, _ = rested(until)
    assert result.ending.reason is Reason.FAILED
    assert not result.cell_is_on
    assert not bench.potentiostat.is_running


HELD = {
    "ca": Ca(potential_v=0.1, duration_s=20.0, interval_s=1.0),
    "cp": Cp(current_a=1e-10, duration_s=20.0, interval_s=1.0),
    "lsv": Lsv(begin_v=0.0, end_v=0.02, step_v=1e-3, rate_v_per_s=1e-3),
    "cv": Cv(begin_v=0.0, vertex_1_v=0.01, vertex_2_v=-0.01, step_v=1e-3, rate_v_per_s=1e-3),
}


@pytest.mark.parametrize("name", HELD)
def test_ending_a_technique_switches_the_cell_off_before_the_next_step(bench, name) -> None:
    cell_on: dict[str, bool] = {}

    def until(columns: Columns) -> str:
        cell_on["while measuring"] = bench.potentiostat.cell_is_on
        return after(5)(columns)

    async def script(run: Run, _: Parameters) -> None:
        ended = await getattr(run, name)(key="held", parameters=HELD[name], until=until)
        cell_on["after it"] = bench.potentiostat.cell_is_on
        assert (ended.n_points, ended.ended_by) == (5, "seen enough")
        await run.ocp(key="rest", parameters=REST)

    result = bench.run({}, protocol=scripted(script))
    assert result.ending.reason is Reason.COMPLETED, result.ending.message
    assert cell_on == {"while measuring": True, "after it": False}
    assert result.told.stop["expected_points"] == {name: 5, "ocp": 20}


def test_a_condition_of_the_instrument_still_says_that_it_was_it(bench) -> None:
    sweep = replace(HELD["lsv"], stop=Stop(potential_above_v=0.0095))
    seen: list[Measurement] = []

    async def script(run: Run, _: Parameters) -> None:
        seen.append(await run.lsv(key="held", parameters=sweep, until=lambda _: ""))
        await run.ocp(key="rest", parameters=REST)

    result = bench.run({}, protocol=scripted(script))
    assert result.ending.reason is Reason.COMPLETED, result.ending.message
    assert seen[0].ended_by == "potential above 0.0095 V"
