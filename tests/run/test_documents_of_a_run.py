"""What a run tells: the order of its documents, its counts, and twice the same for one seed."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from labctl import assembly
from labctl.clock import RunClock
from labctl.documents import Document, Kind, Reason, Room, decode, encode
from labctl.errors import DocumentError
from labctl.instruments.capabilities import CanEis
from labctl.instruments.techniques import Eis, Ocp
from labctl.run.emitter import Emitter
from labctl.run.protocol import Parameters, PlannedStep, Protocol
from labctl.testing import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from labctl.run.run import Run

SWEEP = Eis(frequency_start_hz=10e3, frequency_end_hz=100.0, n_points=5, amplitude_v_rms=0.01)
PLAN = [
    PlannedStep(key=key, kind="eis", expected_duration_s=10.0, technique=SWEEP)
    for key in ("first", "second")
]


def scripted(script: Callable[..., object]) -> Protocol[Parameters]:
    """Return a protocol that plans two spectra, "first" and "second", and does what it likes."""
    return Protocol(
        name="scripted",
        script=script,
        parameters=Parameters,
        plan=lambda _, __: PLAN,
        capabilities=(CanEis,),
        summary="",
    )


def test_documents_of_a_run_are_numbered_without_a_gap_and_in_order(undisturbed) -> None:
    undisturbed.told.check_order()


def test_a_run_begins_with_what_is_measured_and_with_what(undisturbed) -> None:
    start = undisturbed.told.documents[0].body
    assert start["protocol"] == "temperature_eis"
    assert start["parameters"]["temperatures"] == [299.15, 301.15]
    assert start["sample"]["name"] == "AlOCl-nanoLiCl"
    assert start["instruments"]["potentiostat"]["serial_number"] == "ES4HR20B0008"
    assert start["instruments"]["stage"]["model"] == "336"
    assert start["expected_points"] == {"eis": 30}
    assert start["time"] == "2026-03-01T08:00:00.000000+00:00"


def test_a_run_with_every_point_is_a_success(undisturbed) -> None:
    stop = undisturbed.told.stop
    assert undisturbed.ending.reason is Reason.COMPLETED
    assert (stop["exit_status"], stop["reason"]) == ("success", "completed")
    assert stop["expected_points"] == {"eis": 30}
    assert stop["actual_points"] == dict(undisturbed.told.points())
    assert stop["safe_state"] == {"potentiostat": "outputs off", "stage": "outputs off"}


def test_steps_are_told_at_their_start_and_at_their_end(undisturbed) -> None:
    steps = [(each["key"], each["phase"]) for each in undisturbed.told.events("step")]
    keys = [
        "01-heating-26.0C/settle",
        "01-heating-26.0C/eis",
        "02-heating-28.0C/settle",
        "02-heating-28.0C/eis",
    ]
    assert steps == [(key, phase) for key in keys for phase in ("start", "end")]


def test_the_stage_is_recorded_beside_the_measurement_all_the_time(undisturbed) -> None:
    pages = undisturbed.told.of(Kind.EVENT_PAGE, "temperature")
    times_s = [page.body["columns"]["time_s"][0] for page in pages]
    pauses_s = [after - before for before, after in itertools.pairwise(times_s)]
    assert times_s[0] < 1.0
    assert max(pauses_s) < 10.5
    assert undisturbed.ended_s - times_s[-1] < 11.0


def test_a_script_that_takes_fewer_points_than_planned_is_truncated(bench) -> None:
    async def half(run: Run, _: Parameters) -> None:
        await run.eis(key="first", parameters=SWEEP)

    result = bench.run({}, protocol=scripted(half))
    assert result.ending.reason is Reason.TRUNCATED
    assert result.told.stop["exit_status"] == "fail"
    assert result.told.stop["expected_points"] == {"eis": 10}
    assert result.told.stop["actual_points"]["eis"] == result.told.points()["eis"] == 5
    assert "eis 5 of 10" in result.told.stop["message"]
    assert bench.heater_is_off(result.ended_s)


def test_a_script_that_takes_all_its_points_is_completed(bench) -> None:
    async def whole(run: Run, _: Parameters) -> None:
        await run.eis(key="first", parameters=SWEEP)
        await run.eis(key="second", parameters=SWEEP)

    result = bench.run({}, protocol=scripted(whole))
    assert result.ending.reason is Reason.COMPLETED
    assert result.told.points()["eis"] == 10


def test_points_that_were_not_planned_are_expected_once_the_script_asks_for_them(bench) -> None:
    async def more(run: Run, _: Parameters) -> None:
        await run.eis(key="first", parameters=SWEEP)
        await run.eis(key="second", parameters=replace(SWEEP, n_points=3))
        await run.ocp(key="third", parameters=Ocp(duration_s=4.0, interval_s=1.0))

    result = bench.run({}, protocol=scripted(more))
    assert result.ending.reason is Reason.COMPLETED
    assert result.told.stop["expected_points"] == {"eis": 8, "ocp": 4}


def test_a_forgone_step_is_not_missed_but_counted_and_named(bench) -> None:
    async def choosy(run: Run, _: Parameters) -> None:
        await run.eis(key="first", parameters=SWEEP)
        run.forgo("second")

    result = bench.run({}, protocol=scripted(choosy))
    assert result.ending.reason is Reason.COMPLETED
    stop = result.told.stop
    assert stop["message"] == "every point that was not skipped was measured; skipped: second"
    assert stop["expected_points"] == {"eis": 10}
    assert stop["forgone_points"] == {"eis": 5}
    assert stop["actual_points"] == dict(result.told.points())


def test_a_run_that_has_forgone_all_there_was_to_measure_is_no_success(bench) -> None:
    async def nothing(run: Run, _: Parameters) -> None:
        run.forgo("first")
        run.forgo("second")

    result = bench.run({}, protocol=scripted(nothing))
    assert result.ending.reason is Reason.TRUNCATED
    stop = result.told.stop
    assert stop["message"] == "nothing was measured; skipped: first, second"
    assert stop["expected_points"] == stop["forgone_points"] == {"eis": 10}


@pytest.mark.parametrize("again", ["forgo", "eis"])
def test_a_forgone_step_is_forgone_for_good(bench, again: str) -> None:
    async def fickle(run: Run, _: Parameters) -> None:
        run.forgo("first")
        if again == "forgo":
            run.forgo("first")
        await run.eis(key="first", parameters=SWEEP)

    result = bench.run({}, protocol=scripted(fickle))
    assert result.ending.reason is Reason.FAILED
    assert "step 'first': " in result.told.stop["message"]


def test_one_key_names_one_step(bench) -> None:
    async def twice(run: Run, _: Parameters) -> None:
        await run.eis(key="first", parameters=SWEEP)
        await run.eis(key="first", parameters=SWEEP)

    result = bench.run({}, protocol=scripted(twice))
    assert result.ending.reason is Reason.FAILED
    assert "step 'first' twice" in result.told.stop["message"]


def test_a_script_gets_what_was_recorded(bench) -> None:
    async def compare(run: Run, _: Parameters) -> None:
        measured = await run.eis(key="first", parameters=replace(SWEEP, repeats_first=True))
        impedance_ohm = measured.impedance_ohm()
        await run.record(
            "seen",
            {
                "real": impedance_ohm.real.tolist(),
                "repeats": len(measured.impedance_ohm(repeats=True)),
            },
        )
        run.forgo("second")

    told = bench.run({}, protocol=scripted(compare)).told
    recorded = [page.body["columns"]["z_real_ohm"][0] for page in told.of(Kind.EVENT_PAGE, "eis")]
    (seen,) = told.events("seen")
    assert seen == {"real": recorded[:-1], "repeats": 1}


def test_two_runs_with_one_seed_give_identical_documents(
    tmp_path: Path, write_bench, quick_world, quick, sink, undisturbed
) -> None:
    folder = write_bench(tmp_path / "bench", world=quick_world)
    request = assembly.RunRequest(
        protocol="temperature_eis",
        rig=folder / "rig.toml",
        sample=folder / "sample.toml",
        parameters=quick,
        data=tmp_path,
        is_simulated=True,
        run_id="run-1",
        epoch=undisturbed.epoch,
    )
    first, second = sink(), sink()
    assembly.run_into(request, first)
    assembly.run_into(request, second)
    assert first.lines == second.lines
    assert len(first.lines) == len(undisturbed.told.documents)


def test_another_seed_gives_other_points(make_bench, undisturbed, quick) -> None:
    other = make_bench(world={"seed": "2"}).run(quick)
    points = [
        [page.body["columns"] for page in result.told.of(Kind.EVENT_PAGE, "eis")]
        for result in (undisturbed, other)
    ]
    assert points[0] != points[1]
    assert len(points[0]) == len(points[1])


@pytest.mark.parametrize("stream", ["eis", "probe", "temperature"])
def test_every_column_of_a_stream_has_a_unit(undisturbed, stream: str) -> None:
    (descriptor,) = undisturbed.told.of(Kind.DESCRIPTOR, stream)
    for page in undisturbed.told.of(Kind.EVENT_PAGE, stream):
        assert list(page.body["columns"]) == list(descriptor.body["units"])


class _Taken:
    """Takes documents as the link does: what JSON cannot hold is refused before it is taken."""

    def __init__(self) -> None:
        self.documents: list[Document] = []

    async def put(self, document: Document) -> None:
        self.documents.append(decode(encode(document)))

    async def flush(self) -> None:
        return None

    async def room_again(self) -> None:
        return None

    @property
    def room(self) -> Room:
        return Room.PLENTY


@in_virtual_time
async def test_a_value_that_json_cannot_hold_leaves_no_gap() -> None:
    sink = _Taken()
    emitter = Emitter("r", sink, RunClock(asyncio.get_running_loop()))
    await emitter.event("fit", {"r_ohm": 1.0})
    with pytest.raises(DocumentError, match="fit"):
        await emitter.event("fit", {"z_ohm": 1 + 2j})
    await emitter.event("fit", {"r_ohm": 2.0})
    assert [document.seq for document in sink.documents] == [0, 1]
