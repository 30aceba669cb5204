"""A run whose sink has no room pauses: cell off, temperature held, nothing lost."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from labctl.documents import Kind, Reason, Room
from labctl.errors import BadInputError
from labctl.run.resumption import let_go_on, persons_word
from labctl.store.holder import held_folder, this_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL_S, EMPTY_S = 60.0, 4000.0  # while the stage settles for the first time; long afterwards


@pytest.fixture
def crowded(sink):
    """A sink without room for an hour, and what brings that about."""
    taking = sink()

    def set_room(room: Room) -> Callable[[object], None]:
        return lambda _: setattr(taking, "room", room)

    return taking, {FULL_S: set_room(Room.NONE), EMPTY_S: set_room(Room.PLENTY)}


def pauses(told) -> list[tuple[str, float]]:
    """Return phase and time of each pause event, in s since the run's start."""
    start = told.documents[0].body["time"]
    events = [each.body for each in told.of(Kind.EVENT, "pause")]
    return [(each["data"]["phase"], seconds(start, each["time"])) for each in events]


def seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def test_a_run_without_room_pauses_at_its_next_step_and_loses_nothing(bench, quick, crowded):
    sink, at = crowded
    result = bench.run(quick, sink=sink, at=at)
    assert result.ending.reason is Reason.COMPLETED
    assert result.ending.message.endswith("pauses: 1")
    result.told.check_order()
    (began, begin_s), (ended, end_s) = pauses(result.told)
    assert (began, ended) == ("begin", "end")
    assert begin_s > FULL_S
    assert EMPTY_S <= end_s < EMPTY_S + 61
    steps = [event for event in result.told.events("step") if event["phase"] == "start"]
    assert [step["kind"] for step in steps] == ["settle", "eis", "settle", "eis"]


def test_while_it_is_paused_the_cell_is_off_and_the_temperature_held(bench, quick, crowded):
    sink, at = crowded
    seen = []

    def look(_: object) -> None:
        now_s = asyncio.get_running_loop().time()
        sample_k = bench.world.stage("stage").sample_temperature_k(now_s)
        seen.append((bench.potentiostat.cell_is_on, sample_k))

    at[EMPTY_S - 1] = look
    bench.run(quick, sink=sink, at=at)
    [(cell_is_on, temperature_k)] = seen
    assert not cell_is_on
    assert temperature_k == pytest.approx(26 + 273.15, abs=0.1)


def test_while_it_is_paused_nothing_is_recorded(bench, quick, crowded):
    sink, at = crowded
    told = bench.run(quick, sink=sink, at=at).told
    (_, begin_s), (_, end_s) = pauses(told)
    pages = told.of(Kind.EVENT_PAGE, "temperature")
    times = [page.body["columns"]["time_s"][0] for page in pages]
    assert not [time_s for time_s in times if begin_s < time_s < end_s]
    assert [time_s for time_s in times if time_s > end_s]


def test_a_paused_run_waits_for_a_persons_word(bench, quick, crowded):
    sink, at = crowded
    spoken = asyncio.Event()
    at[EMPTY_S + 5000] = lambda _: spoken.set()
    told = bench.run(quick, sink=sink, at=at, may_resume=lambda: wait(spoken)).told
    assert pauses(told)[-1] == ("end", pytest.approx(EMPTY_S + 5000))


async def wait(event: asyncio.Event) -> None:
    await event.wait()


def test_a_paused_run_can_be_aborted_and_is_safe(bench, quick, crowded):
    sink, at = crowded
    at[EMPTY_S - 1] = lambda task: task.cancel()
    result = bench.run(quick, sink=sink, at=at)
    assert result.ending.reason is Reason.ABORTED
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)


def test_a_person_is_told_that_the_run_is_paused_and_why(bench, quick, crowded):
    sink, at = crowded
    notes = [progress.note for progress in bench.run(quick, sink=sink, at=at).progress]
    assert any("PAUSED" in note and "no room in the outbox" in note for note in notes)


def test_progress_says_that_the_run_is_paused_and_for_how_long(bench, quick, crowded):
    sink, at = crowded
    seen = bench.run(quick, sink=sink, at=at).progress
    paused = [progress.elapsed_s for progress in seen if progress.is_paused]
    assert paused[0] > FULL_S
    assert paused[-1] == pytest.approx(EMPTY_S, abs=61)
    assert not seen[-1].is_paused


async def test_a_persons_word_lets_the_run_of_a_data_folder_go_on(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("labctl.run.resumption._LOOK_EVERY_S", 0.01)
    with held_folder(tmp_path, this_process(run_id="run-1")):
        waiting = asyncio.create_task(persons_word(tmp_path, "run-1"))
        await asyncio.sleep(0)
        assert let_go_on(tmp_path) == "run-1"
        await asyncio.wait_for(waiting, timeout=5)


async def test_a_run_that_was_killed_while_it_waited_cannot_go_on(tmp_path: Path):
    (tmp_path / "paused").write_text("run-1", encoding="utf-8")  # as a kill leaves it
    with pytest.raises(BadInputError, match="run run-1 waits no more"):
        let_go_on(tmp_path)
    other = held_folder(tmp_path, this_process(run_id="run-2"))
    with other, pytest.raises(BadInputError, match="run run-1 waits no more"):
        let_go_on(tmp_path)


async def test_a_run_waits_where_the_disk_does_not_even_take_the_question(tmp_path, monkeypatch):
    monkeypatch.setattr("labctl.run.resumption._LOOK_EVERY_S", 0.01)
    (tmp_path / "paused").mkdir()
    waiting = asyncio.create_task(persons_word(tmp_path, "run-1"))
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    (tmp_path / "paused").rmdir()
    with held_folder(tmp_path, this_process(run_id="run-1")):
        async with asyncio.timeout(5):
            while not (tmp_path / "paused").exists():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)
        let_go_on(tmp_path)
        await asyncio.wait_for(waiting, timeout=5)


def test_where_no_run_waits_there_is_nothing_to_resume(tmp_path: Path):
    with pytest.raises(BadInputError, match="no run there waits"):
        let_go_on(tmp_path)


async def test_a_run_that_ends_while_it_waits_waits_no_more(tmp_path: Path):
    waiting = asyncio.create_task(persons_word(tmp_path, "run-1"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    with pytest.raises(BadInputError):
        let_go_on(tmp_path)


def test_a_run_that_may_resume_to_a_disk_that_is_full_again_pauses_again(bench, quick, crowded):
    sink, at = crowded
    full_again = []

    async def late_word() -> None:
        if not full_again:
            full_again.append(True)
            sink.room = Room.NONE
            asyncio.get_running_loop().call_later(600, setattr, sink, "room", Room.PLENTY)

    result = bench.run(quick, sink=sink, at=at, may_resume=late_word)
    assert result.ending.reason is Reason.COMPLETED
    assert result.ending.message.endswith("pauses: 2")
