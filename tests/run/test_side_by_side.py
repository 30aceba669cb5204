"""Runs side by side: cells in one chamber, one potentiostat with a multiplexer or one for each."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl.clock import RunClock, VirtualTimeLoop, run_on
from labctl.config import SampleConfig, load_rig
from labctl.documents import Document, Kind, Reason, Room, decode, encode
from labctl.errors import LabctlError
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.instruments.techniques import Ocp
from labctl.run.executor import Executor, RunOrder
from labctl.run.place import SharedRig
from labctl.run.protocol import Parameters, PlannedStep, Protocol
from labctl.run.settle import SettleCriterion
from labctl_protocols.temperature_eis import PROTOCOL
from labctl_simulators.lakeshore_336 import LakeShore336
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from labctl.run.executor import Ending
    from labctl.run.run import Run
    from labctl_simulators.device import SimulatedInstrument

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "four-pellets"
FOUR = ("cell-1", "cell-2", "cell-3", "cell-4")
EPOCH = datetime(2026, 3, 1, 8, tzinfo=UTC)
INTERVAL_S = 10.0


class HeardStage(LakeShore336):
    """A controller that remembers what it was told and asked, and when."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.heard: list[tuple[float, str]] = []

    def receive(self, data: bytes, now_s: float) -> None:
        self.heard.append((now_s, data.decode()))
        super().receive(data, now_s)

    def times_s(self, text: str) -> list[float]:
        return [now_s for now_s, heard in self.heard if text in heard]


class ListSink:
    """Keeps one run's documents as the bytes they travel as."""

    room = Room.PLENTY

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def put(self, document: Document) -> None:
        self.lines.append(encode(document))

    async def flush(self) -> None:
        pass

    async def room_again(self) -> None:
        pass


@dataclass
class Ended:
    """What came of the runs, by channel, and when the last one had ended."""

    endings: dict[str, Ending]
    lines: dict[str, list[bytes]]
    ended_s: float

    def reasons(self) -> dict[str, Reason]:
        return {channel: ending.reason for channel, ending in self.endings.items()}

    def documents(self, channel: str) -> list[Document]:
        return [decode(line) for line in self.lines[channel]]

    def safe_state(self, channel: str) -> dict[str, str]:
        stop = self.documents(channel)[-1]
        assert stop.kind is Kind.RUN_STOP
        return stop.body["safe_state"]

    def steps_s(self, channel: str, kind: str) -> list[tuple[float, float]]:
        """Return when the steps of a kind began and ended, on the loop's clock."""
        events = [each.body for each in self.documents(channel) if each.stream == "step"]
        times = {"start": [], "end": []}
        for event in events:
            if event["data"]["kind"] == kind:
                at = datetime.fromisoformat(event["time"]) - EPOCH
                times[event["data"]["phase"]].append(at.total_seconds())
        return list(zip(times["start"], times["end"], strict=True))

    def column(self, channel: str, stream: str, name: str) -> list[float]:
        return [
            value
            for each in self.documents(channel)
            if each.kind is Kind.EVENT_PAGE and each.stream == stream
            for value in each.body["columns"][name]
        ]


class Chamber:
    """The example's chamber with its pellets, at 25 degC, its samples following it at once."""

    def __init__(self, folder: Path, *, n_potentiostats: int = 1) -> None:
        self.folder = folder
        self.world = World.from_toml(folder / "world.toml")
        names = [f"potentiostat-{n + 1}" for n in range(n_potentiostats)]
        self.potentiostats = {
            name: PalmSensEmStat4Hr(self.world, name)
            for name in (names if n_potentiostats > 1 else ["potentiostat"])
        }
        self.stage = HeardStage(self.world, "stage")

    @property
    def devices(self) -> dict[str, SimulatedInstrument]:
        return {**self.potentiostats, "stage": self.stage}

    def run(
        self,
        parameters: Mapping[str, Mapping[str, Any]],
        *,
        protocol: Protocol[Any] = PROTOCOL,
        at: Mapping[float, Callable[[Mapping[str, asyncio.Task[Ending]]], object]] | None = None,
    ) -> Ended:
        """Carry a protocol out on several channels; `at` says what happens besides, and when."""
        sinks = {channel: ListSink() for channel in parameters}
        main = self._main(parameters, protocol, sinks, at or {})
        endings, ended_s = run_on(VirtualTimeLoop(), main)
        lines = {channel: sink.lines for channel, sink in sinks.items()}
        return Ended(endings, lines, ended_s)

    async def _main(
        self,
        parameters: Mapping[str, Mapping[str, Any]],
        protocol: Protocol[Any],
        sinks: Mapping[str, ListSink],
        at: Mapping[float, Callable[[Mapping[str, asyncio.Task[Ending]]], object]],
    ) -> tuple[dict[str, Ending], float]:
        loop = asyncio.get_running_loop()
        rig = self._rig(loop, *parameters)
        identities = await rig.open_safe(timeout_s=30.0)
        shared = SharedRig(rig, {name: f"run-{name}" for name in parameters}, interval_s=INTERVAL_S)
        tasks: dict[str, asyncio.Task[Ending]] = {}
        for channel, place in shared.places.items():
            order = _order(f"run-{channel}", protocol, parameters[channel])
            clock = RunClock(loop, epoch=EPOCH + timedelta(seconds=loop.time()))
            executor = Executor(order, place, sinks[channel], clock, lambda _: None)
            about = {name: asdict(identities[name]) for name in place.drivers}
            tasks[channel] = asyncio.create_task(executor.execute(about))
        for after_s, happen in at.items():
            loop.call_later(after_s, happen, tasks)
        await asyncio.wait(tasks.values())
        await rig.close()
        assert shared.is_left
        return {channel: task.result() for channel, task in tasks.items()}, loop.time()

    def _rig(self, loop: asyncio.AbstractEventLoop, *channels: str) -> Rig:
        assert isinstance(loop, VirtualTimeLoop)
        return Rig(
            load_rig(self.folder / "rig.toml"),
            *channels,
            source="rig.toml",
            opener_for=lambda name, _: (
                lambda link, lot: InProcessTransport(
                    name, self.devices[name], link, loop=loop, lot=lot
                )
            ),
        )

    def is_safe(self, now_s: float) -> bool:
        """Look whether every cell is off and the heater gives nothing."""
        cells = [each.cell_is_on for each in self.potentiostats.values()]
        return not any(cells) and self.world.stage("stage").heater_power_w(now_s + 2.0) == 0.0


def _order(run_id: str, protocol: Protocol[Any], parameters: Mapping[str, Any]) -> RunOrder:
    async def at_once() -> None:
        pass

    return RunOrder(
        run_id=run_id,
        protocol=protocol,
        parameters=protocol.parameters.model_validate(dict(parameters)),
        sample=SampleConfig(name=run_id),
        provenance={},
        telemetry_interval_s=INTERVAL_S,
        may_resume=at_once,
    )


@pytest.fixture
def write_chamber(tmp_path: Path, change_toml, quick_world) -> Callable[..., Path]:
    """Writes the example's rig and world; with two potentiostats each has a cell of its own."""

    def written(*, n_potentiostats: int = 1) -> Path:
        shutil.copytree(EXAMPLE, tmp_path / "chamber")
        folder = tmp_path / "chamber"
        change_toml(folder / "world.toml", quick_world)
        if n_potentiostats == 2:
            _part(folder / "rig.toml", folder / "world.toml")
        return folder

    return written


def _part(rig: Path, world: Path) -> None:
    """Give cell-1 and cell-2 a potentiostat each; the other channels go."""
    text = rig.read_text(encoding="utf-8")
    text = text[: text.index("[channels.cell-1]")] + text[text.index("[simulation]") :]
    text = text.replace('[instruments.potentiostat.settings]\nmultiplexer = "mux8-r2"\n', "")
    text = text.replace("[instruments.potentiostat]", "[instruments.potentiostat-1]")
    for number in (1, 2):
        text += f'\n[channels.cell-{number}]\npotentiostat = "potentiostat-{number}"\n'
        text += 'stage = "stage"\n'
    text += (
        '[instruments.potentiostat-2]\ndriver = "palmsens-emstat4-hr"\naddress = "ASRL2::INSTR"\n'
    )
    rig.write_text(text, encoding="utf-8")
    text = world.read_text(encoding="utf-8")
    text = text.replace("[instruments.potentiostat]", "[instruments.potentiostat-1]")
    text = text.replace('cells = ["a", "b", "c", "d"]', 'cell = "a"')
    world.write_text(text + '\n[instruments.potentiostat-2]\ncell = "b"\n', encoding="utf-8")


@pytest.fixture
def chamber(write_chamber) -> Chamber:
    return Chamber(write_chamber())


@pytest.fixture
def two_potentiostats(write_chamber) -> Chamber:
    return Chamber(write_chamber(n_potentiostats=2), n_potentiostats=2)


def test_four_pellets_take_one_ramp_and_each_is_measured_before_the_next(chamber, quick) -> None:
    ended = chamber.run(dict.fromkeys(FOUR, quick))
    assert set(ended.reasons().values()) == {Reason.COMPLETED}
    moves_s = chamber.stage.times_s("RAMP 1,1,")
    assert len(moves_s) == len(quick["temperatures"])
    spectra = [ended.steps_s(channel, "eis") for channel in FOUR]
    assert max(steps[0][1] for steps in spectra) < moves_s[1] < min(s[1][0] for s in spectra)
    assert chamber.is_safe(ended.ended_s)


def test_each_pellet_is_its_own(chamber, quick) -> None:
    ended = chamber.run(dict.fromkeys(FOUR, quick))
    found = [max(ended.column(channel, "eis", "z_real_ohm")) for channel in FOUR]
    assert found == sorted(found)
    assert all(after > 1.5 * before for before, after in pairwise(found))


def test_the_channels_of_one_potentiostat_take_turns(chamber, quick) -> None:
    ended = chamber.run(dict.fromkeys(FOUR, quick))
    times = [sorted(ended.column(channel, "eis", "time_s")[:14]) for channel in FOUR]
    for one, other in combinations(times, 2):
        assert one[-1] < other[0] or other[-1] < one[0]


def test_a_shared_stage_is_read_once_per_interval_and_recorded_in_every_run(chamber, quick) -> None:
    ended = chamber.run(dict.fromkeys(FOUR, quick))
    recorded = [ended.column(channel, "temperature", "temperature_k") for channel in FOUR]
    shortest = min(map(len, recorded))
    assert all(each[:shortest] == recorded[0][:shortest] for each in recorded)
    longest_s = max(max(ended.column(channel, "temperature", "time_s")) for channel in FOUR)
    n_due = longest_s / INTERVAL_S
    assert max(map(len, recorded)) == pytest.approx(n_due, abs=2)
    asked = [text for _, text in chamber.stage.heard if "KRDG" in text and "HTR" in text]
    assert n_due <= len(asked) <= n_due + 2


def test_a_potentiostat_that_is_lost_ends_its_own_run_only(write_chamber, quick) -> None:
    folder = write_chamber(n_potentiostats=2)
    undisturbed = Chamber(folder, n_potentiostats=2).run(dict.fromkeys(FOUR[:2], quick))
    at_s = undisturbed.steps_s("cell-1", "eis")[0][0] + 0.5
    chamber = Chamber(folder, n_potentiostats=2)
    faults = chamber.potentiostats["potentiostat-1"].faults
    ended = chamber.run(
        dict.fromkeys(FOUR[:2], quick),
        at={
            at_s: lambda _: setattr(faults, "hung_up", True),
            at_s + 3.0: lambda _: setattr(faults, "hung_up", False),
        },
    )
    assert ended.reasons() == {"cell-1": Reason.FAILED, "cell-2": Reason.COMPLETED}
    assert ended.safe_state("cell-1") == {
        "potentiostat-1": "outputs off",
        "stage": "in use by run-cell-2",
    }
    assert ended.safe_state("cell-2") == {"potentiostat-2": "outputs off", "stage": "outputs off"}
    assert chamber.is_safe(ended.ended_s)


def test_a_potentiostat_that_stays_lost_is_named_not_safe(two_potentiostats, quick) -> None:
    faults = two_potentiostats.potentiostats["potentiostat-1"].faults
    ended = two_potentiostats.run(
        dict.fromkeys(FOUR[:2], quick), at={150.0: lambda _: setattr(faults, "refuse", True)}
    )
    assert ended.reasons() == {"cell-1": Reason.FAILED, "cell-2": Reason.COMPLETED}
    assert "NOT SAFE" in ended.endings["cell-1"].message
    assert "potentiostat-1" in ended.safe_state("cell-1")["potentiostat-1"]
    assert ended.safe_state("cell-2")["stage"] == "outputs off"


class Rests(Parameters):
    """Rests of 10 s at 26 and 28 degC; a script of this may fail before the second."""

    fails: bool = False
    goes_to_degc: float = 28.0


CRITERION = SettleCriterion(
    band_k=0.5, slope_k_per_min=0.5, window_s=60.0, timeout_s=3600.0, on_timeout="fail"
)
REST = Ocp(duration_s=10.0, interval_s=1.0)


async def rest_twice(run: Run, parameters: Rests) -> None:
    for number, at_degc in enumerate((26.0, parameters.goes_to_degc)):
        await run.settle(
            key=f"{number}/settle",
            temperature_k=at_degc + 273.15,
            rate_k_per_min=5.0,
            criterion=CRITERION,
        )
        if parameters.fails and number:
            raise LabctlError("this pellet has cracked")
        await run.ocp(key=f"{number}/ocp", parameters=REST)


RESTS = Protocol(
    name="rest_twice",
    script=rest_twice,
    parameters=Rests,
    plan=lambda _, __: [
        PlannedStep(key=f"{number}/ocp", kind="ocp", expected_duration_s=10.0, technique=REST)
        for number in range(2)
    ],
    capabilities=(),
    summary="Rest at two temperatures.",
)


def test_two_potentiostats_measure_at_the_same_time(two_potentiostats) -> None:
    ended = two_potentiostats.run({channel: {} for channel in FOUR[:2]}, protocol=RESTS)
    assert set(ended.reasons().values()) == {Reason.COMPLETED}
    (one, _), (other, _) = (ended.steps_s(channel, "ocp") for channel in FOUR[:2])
    assert max(one[0], other[0]) < min(one[1], other[1])
    assert len(two_potentiostats.stage.times_s("RAMP 1,1,")) == 2


def test_a_run_that_fails_leaves_the_others_complete(chamber) -> None:
    parameters = {channel: {"fails": channel == "cell-2"} for channel in FOUR}
    ended = chamber.run(parameters, protocol=RESTS)
    expected = {**dict.fromkeys(FOUR, Reason.COMPLETED), "cell-2": Reason.FAILED}
    assert ended.reasons() == expected
    assert "run-cell-4" in ended.safe_state("cell-2")["stage"]
    assert chamber.is_safe(ended.ended_s)


def test_a_run_that_ends_does_not_keep_the_others_waiting(chamber) -> None:
    ended = chamber.run(
        {channel: {} for channel in FOUR},
        protocol=RESTS,
        at={1.0: lambda runs: runs["cell-3"].cancel()},
    )
    expected = {**dict.fromkeys(FOUR, Reason.COMPLETED), "cell-3": Reason.ABORTED}
    assert ended.reasons() == expected


def test_who_asks_for_another_setpoint_than_the_others_fails_alone(chamber) -> None:
    parameters = {channel: {} for channel in FOUR} | {"cell-4": {"goes_to_degc": 30.0}}
    ended = chamber.run(parameters, protocol=RESTS)
    expected = {**dict.fromkeys(FOUR, Reason.COMPLETED), "cell-4": Reason.FAILED}
    assert ended.reasons() == expected
    assert "waits to go to 28 degC; 30 degC would leave it behind" in (
        ended.endings["cell-4"].message
    )


@pytest.mark.parametrize("at_s", [0.2, 30.0, 120.0, 170.0, 300.0])
def test_a_stage_that_dies_ends_every_run_and_every_cell_is_off(chamber, quick, at_s) -> None:
    ended = chamber.run(
        dict.fromkeys(FOUR, quick),
        at={at_s: lambda _: setattr(chamber.stage.faults, "refuse", True)},
    )
    assert set(ended.reasons().values()) == {Reason.FAILED}
    for channel in FOUR:
        assert "stage" in ended.safe_state(channel)["stage"]
        assert "in use" not in ended.safe_state(channel)["stage"]
        assert "NOT SAFE" in ended.endings[channel].message
    assert not any(each.cell_is_on for each in chamber.potentiostats.values())


def test_a_sensor_that_breaks_switches_the_heater_off_at_once(chamber, quick) -> None:
    ended = chamber.run(
        dict.fromkeys(FOUR, quick),
        at={100.0: lambda _: setattr(chamber.stage.faults, "overload", True)},
    )
    assert set(ended.reasons().values()) == {Reason.FAILED}
    assert {ended.safe_state(channel)["stage"] for channel in FOUR} == {"outputs off"}
    assert ended.ended_s < 120.0
    assert chamber.is_safe(ended.ended_s)


@pytest.mark.parametrize("at_s", [0.01, 0.3, 30.0, 150.0, 160.0, 170.0, 250.0, 400.0])
def test_an_abort_of_all_leaves_everything_off(chamber, quick, at_s: float) -> None:
    ended = chamber.run(
        dict.fromkeys(FOUR, quick),
        at={at_s: lambda runs: [run.cancel() for run in runs.values()]},
    )
    assert set(ended.reasons().values()) == {Reason.ABORTED}
    assert chamber.is_safe(ended.ended_s)
    assert "outputs off" in {ended.safe_state(channel)["stage"] for channel in FOUR}


def test_the_same_seed_gives_the_same_documents(write_chamber, quick, tmp_path) -> None:
    folder = write_chamber()
    one, other = (Chamber(folder).run(dict.fromkeys(FOUR, quick)) for _ in range(2))
    assert one.lines == other.lines
