"""Every way a run can end badly: it says so, and cell and heater are off."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from labctl.documents import Kind, Reason
from labctl.instruments.capabilities import CanEis
from labctl.instruments.techniques import Eis
from labctl.run.protocol import Parameters, Protocol
from labctl.run.settle import SettleCriterion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from labctl.run.run import Run

SWEEP = Eis(frequency_start_hz=10e3, frequency_end_hz=100.0, n_points=5, amplitude_v_rms=0.01)


@pytest.fixture
def phases(undisturbed) -> dict[str, float]:
    """When the quick run does what, in s after its start."""
    told = undisturbed.told
    probes, spectrum = (
        [page.body["columns"]["time_s"][0] for page in told.of(Kind.EVENT_PAGE, stream)]
        for stream in ("probe", "eis")
    )
    return {
        "before the first reading": 0.01,
        "while the stage is told where to go": 0.3,
        "during the ramp": 5.0,
        "while the stage settles": 60.0,
        "while the probe looks for its frequency": (probes[0] + probes[5]) / 2,
        "between two probes": (probes[17] + probes[18]) / 2,
        "at the start of the spectrum": spectrum[0] - 0.25,
        "as a point arrives": spectrum[3],
        "during the spectrum": (spectrum[6] + spectrum[7]) / 2,
        "during the repeat of the first frequency": spectrum[14] - 0.1,
        "during the second ramp": spectrum[14] + 5.0,
        "during the last spectrum": (spectrum[-3] + spectrum[-2]) / 2,
    }


PHASES = (
    "before the first reading",
    "while the stage is told where to go",
    "during the ramp",
    "while the stage settles",
    "while the probe looks for its frequency",
    "between two probes",
    "at the start of the spectrum",
    "as a point arrives",
    "during the spectrum",
    "during the repeat of the first frequency",
    "during the second ramp",
    "during the last spectrum",
)


def assert_honest(result, *, reason: Reason) -> None:
    """Assert that the run_stop says how the run ended and how many points there really are."""
    result.told.check_order()
    assert result.ending.reason is reason
    assert result.told.stop["reason"] == reason
    assert result.told.stop["exit_status"] == reason.exit_status
    assert result.told.stop["actual_points"] == dict(result.told.points())


@pytest.mark.parametrize("phase", PHASES)
def test_an_abort_leaves_cell_and_heater_off(bench, quick, phases, phase: str) -> None:
    result = bench.run(quick, at={phases[phase]: lambda run: run.cancel()})
    assert_honest(result, reason=Reason.ABORTED)
    assert not result.cell_is_on
    assert not bench.potentiostat.is_running
    assert bench.heater_is_off(result.ended_s)
    assert result.told.stop["safe_state"] == {"potentiostat": "outputs off", "stage": "outputs off"}


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
def test_a_second_abort_does_not_interrupt_the_safe_state(
    bench, quick, phases, after_s: float
) -> None:
    at_s = phases["during the spectrum"]
    again = {at_s + after_s: lambda run: run.cancel(), at_s + after_s + 0.01: lambda r: r.cancel()}
    result = bench.run(quick, at={at_s - 1e-6: lambda run: run.cancel()} | again)
    assert_honest(result, reason=Reason.ABORTED)
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)
    assert result.told.stop["safe_state"] == {"potentiostat": "outputs off", "stage": "outputs off"}


def test_an_abort_after_the_last_point_does_not_take_the_success_away(bench, quick, sink) -> None:
    running = []
    documents = sink()
    documents.on_stop = lambda: running[0].cancel()
    result = bench.run(quick, sink=documents, at={0.0: running.append})
    assert_honest(result, reason=Reason.COMPLETED)


@pytest.mark.parametrize("phase", ["during the ramp", "during the spectrum", "between two probes"])
@pytest.mark.parametrize("fault", ["refuse", "hung_up"])
def test_a_stage_that_dies_fails_the_run_and_is_named_not_safe(
    bench, quick, phases, phase: str, fault: str
) -> None:
    result = bench.run(
        quick, at={phases[phase]: lambda _: setattr(bench.stage.faults, fault, True)}
    )
    assert_honest(result, reason=Reason.FAILED)
    assert result.told.stop["message"].startswith("NOT SAFE: stage: ")
    assert result.told.stop["safe_state"]["stage"] != "outputs off"
    assert result.told.stop["safe_state"]["potentiostat"] == "outputs off"
    assert not result.cell_is_on


@pytest.mark.parametrize("phase", ["during the ramp", "during the spectrum", "between two probes"])
@pytest.mark.parametrize("fault", ["refuse", "hung_up"])
def test_a_potentiostat_that_dies_fails_the_run_and_is_named_not_safe(
    bench, quick, phases, phase: str, fault: str
) -> None:
    result = bench.run(
        quick, at={phases[phase]: lambda _: setattr(bench.potentiostat.faults, fault, True)}
    )
    assert_honest(result, reason=Reason.FAILED)
    assert result.told.stop["message"].startswith("NOT SAFE: potentiostat: ")
    assert result.told.stop["safe_state"]["stage"] == "outputs off"
    assert bench.heater_is_off(result.ended_s)


@pytest.mark.parametrize("name", ["stage", "potentiostat"])
@pytest.mark.parametrize("n_tries", [1, 2, 3])
def test_an_instrument_whose_line_breaks_is_made_safe_on_a_new_line(
    bench, quick, phases, monkeypatch, name: str, n_tries: int
) -> None:
    device, tries = getattr(bench, name), []
    connect = device.connect

    def connect_at_last(now_s: float) -> None:
        tries.append(now_s)
        device.faults.hung_up = len(tries) < n_tries
        connect(now_s)

    def cut(_: object) -> None:
        device.faults.hung_up = True
        monkeypatch.setattr(device, "connect", connect_at_last)

    result = bench.run(quick, at={phases["during the spectrum"]: cut})
    assert_honest(result, reason=Reason.FAILED)
    assert len(tries) == n_tries
    assert result.told.stop["safe_state"] == {"potentiostat": "outputs off", "stage": "outputs off"}
    assert not result.cell_is_on
    assert not bench.potentiostat.is_running
    assert bench.heater_is_off(result.ended_s)


def test_a_lost_potentiostat_switches_its_cell_off_at_its_script_s_end(bench, quick, phases):
    at_s = phases["during the spectrum"]
    seen = []
    result = bench.run(
        quick,
        at={
            at_s: lambda _: setattr(bench.potentiostat.faults, "hung_up", True),
            at_s + 0.1: lambda _: seen.append(bench.potentiostat.cell_is_on),
        },
    )
    assert seen == [True]
    bench.potentiostat.connect(result.ended_s + 60.0)
    assert not bench.potentiostat.cell_is_on


def test_a_potentiostat_that_dies_while_probing_is_no_temperature_that_takes_long(
    bench, quick, phases
) -> None:
    patient = {**quick, "settle_timeout": "1 hour", "on_settle_timeout": "skip"}
    at_s = phases["while the probe looks for its frequency"]
    result = bench.run(
        patient, at={at_s: lambda _: setattr(bench.potentiostat.faults, "refuse", True)}
    )
    assert_honest(result, reason=Reason.FAILED)
    assert [step["phase"] for step in result.told.events("step")] == ["start"]


def test_a_garbled_point_fails_the_run_with_the_cell_off(bench, quick, phases) -> None:
    result = bench.run(
        quick,
        at={
            phases["during the spectrum"]: lambda _: setattr(
                bench.potentiostat.faults, "garble_replies", 1
            )
        },
    )
    assert_honest(result, reason=Reason.FAILED)
    assert result.told.stop["message"].startswith("potentiostat: ")
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)


def test_a_reply_of_the_stage_that_gets_lost_is_asked_for_again(bench, quick, phases) -> None:
    result = bench.run(
        quick,
        at={phases["during the ramp"]: lambda _: setattr(bench.stage.faults, "drop_replies", 1)},
    )
    assert_honest(result, reason=Reason.COMPLETED)


def test_a_sensor_that_cannot_be_trusted_fails_the_run(bench, quick, phases) -> None:
    result = bench.run(
        quick,
        at={phases["during the spectrum"]: lambda _: setattr(bench.stage.faults, "overload", True)},
    )
    assert_honest(result, reason=Reason.FAILED)
    # Which of the two depends on whether the value or its status was being read just then.
    said = result.told.stop["message"]
    assert "cannot be trusted" in said or "no valid reading" in said
    assert not result.cell_is_on
    bench.stage.faults.overload = False
    assert bench.heater_is_off(result.ended_s)


def test_a_disk_that_hangs_keeps_no_stage_from_being_watched_and_made_safe(
    bench, quick, sink
) -> None:
    taking, power_w = sink(), []

    def look(_: object) -> None:
        now_s = asyncio.get_running_loop().time()
        power_w.append(bench.world.stage("stage").heater_power_w(now_s))

    def hang(_: object) -> None:
        taking.is_free.clear()
        look(_)

    def overload(_: object) -> None:
        bench.stage.faults.overload = True

    events = {20.0: hang, 35.0: overload, 100.0: look, 200.0: lambda _: taking.is_free.set()}
    result = bench.run(quick, sink=taking, at=events)
    assert power_w == [pytest.approx(power_w[0]), 0.0]
    assert power_w[0] > 0.0
    assert result.ending.reason is Reason.FAILED
    result.told.check_order()
    times = [
        page.body["columns"]["time_s"][0] for page in result.told.of(Kind.EVENT_PAGE, "temperature")
    ]
    assert [time_s for time_s in times if 20.0 < time_s < 40.0]


def test_a_stage_above_the_rig_s_limit_fails_the_run_and_is_made_safe(make_bench, quick) -> None:
    bench = make_bench(
        world={"initial_temperature_c": "60.0"}, rig={"temperature_max": '"50 degC"'}
    )
    result = bench.run(quick)
    assert_honest(result, reason=Reason.FAILED)
    assert "the rig allows 50.0 degC" in result.told.stop["message"]
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)


@pytest.mark.parametrize("n_documents", [0, 1, 5, 20, 50, 100])
def test_a_full_disk_fails_the_run_and_leaves_no_run_stop(
    bench, quick, sink, n_documents: int
) -> None:
    result = bench.run(quick, sink=sink(breaks_after=n_documents))
    assert result.ending.reason is Reason.FAILED
    assert "the disk is full" in result.ending.message
    assert len(result.told.documents) == n_documents
    assert result.ending.actual_points == dict(result.told.points())
    assert not result.told.of(Kind.RUN_STOP)
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)


def test_a_disk_that_is_full_for_the_run_stop_only_is_no_success(
    bench, quick, sink, undisturbed
) -> None:
    result = bench.run(quick, sink=sink(breaks_after=len(undisturbed.told.documents) - 1))
    assert result.ending.reason is Reason.FAILED
    assert "could not be recorded" in result.ending.message


def protocol(script: Callable[[Run, Parameters], Awaitable[None]]) -> Protocol[Parameters]:
    return Protocol(
        name="scripted",
        script=script,
        parameters=Parameters,
        plan=lambda _, __: [],
        capabilities=(CanEis,),
        summary="",
    )


async def divide(run: Run, _: Parameters) -> None:
    async for _frame in run._frames_of(SWEEP)(SWEEP):  # leaves its cell on
        raise ZeroDivisionError("division by zero")


async def leave(run: Run, _: Parameters) -> None:
    await run.eis(key="first", parameters=SWEEP)
    sys.exit("that is enough")


async def too_fast(run: Run, _: Parameters) -> None:
    frequency_hz = 1e6
    sweep = Eis(
        frequency_start_hz=frequency_hz,
        frequency_end_hz=1.0,
        n_points=2,
        amplitude_v_rms=0.01,
    )
    await run.eis(key="first", parameters=sweep)


async def too_steep(run: Run, _: Parameters) -> None:
    await run.settle(
        key="first", temperature_k=300.0, rate_k_per_min=6.0, criterion=SettleCriterion()
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (too_steep, "rate 6 K/min: allowed are 0.1 to 5 K/min"),
        (divide, "division by zero"),
        (leave, "that is enough"),
        (too_fast, "frequency_start_hz = 1 MHz: allowed are"),
    ],
)
def test_a_script_that_fails_fails_the_run(bench, script, message: str) -> None:
    result = bench.run({}, protocol=protocol(script))
    assert_honest(result, reason=Reason.FAILED)
    assert message in result.told.stop["message"]
    assert not result.cell_is_on
    assert bench.heater_is_off(result.ended_s)
