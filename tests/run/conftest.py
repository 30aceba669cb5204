"""A bench for runs: real drivers on simulated instruments, in process, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from labctl.clock import RunClock, VirtualTimeLoop, run_on
from labctl.config import SampleConfig, load, load_rig
from labctl.documents import Document, Kind, Room, decode, encode, points_of
from labctl.errors import StreamError
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.run.executor import Ending, Executor, RunOrder
from labctl_protocols.temperature_eis import PROTOCOL
from labctl_simulators.lakeshore_336 import LakeShore336
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from labctl.run.progress import Progress
    from labctl.run.protocol import Protocol

EPOCH = datetime(2026, 3, 1, 8, tzinfo=UTC)


async def at_once() -> None:
    """What a paused run awaits where the rig file lets it go on by itself."""


class MemorySink:
    """Keeps documents as the bytes they travel as; may break for good after some of them."""

    def __init__(self, *, breaks_after: int | None = None) -> None:
        self.lines: list[bytes] = []
        self.on_stop: Callable[[], None] = lambda: None
        self.room = Room.PLENTY
        self.is_free = asyncio.Event()  # while it is not set the disk hangs
        self.is_free.set()
        self._breaks_after = breaks_after

    @property
    def documents(self) -> list[Document]:
        return [decode(line) for line in self.lines]

    async def put(self, document: Document) -> None:
        if len(self.lines) == self._breaks_after:
            raise StreamError("the disk is full")
        self.lines.append(encode(document))
        if document.kind is Kind.RUN_STOP:
            self.on_stop()
        await self.is_free.wait()

    async def flush(self) -> None:
        if len(self.lines) == self._breaks_after:
            raise StreamError("the disk is full")

    async def room_again(self) -> None:
        while self.room is not Room.PLENTY:  # noqa: ASYNC110 - a test sets it
            await asyncio.sleep(60)


@dataclass
class Told:
    """What the documents of one run say."""

    documents: list[Document]

    def of(self, kind: Kind, stream: str = "") -> list[Document]:
        return [each for each in self.documents if each.kind is kind and each.stream == stream]

    def events(self, stream: str) -> list[Mapping[str, Any]]:
        return [each.body["data"] for each in self.of(Kind.EVENT, stream)]

    @property
    def stop(self) -> Mapping[str, Any]:
        """The body of the run_stop, which is the last document and the only one of its kind."""
        (stop,) = self.of(Kind.RUN_STOP)
        assert stop is self.documents[-1]
        return stop.body

    def points(self) -> Counter[str]:
        """Count the points that were really emitted."""
        counts: Counter[str] = Counter()
        for document in self.documents:
            counts[document.stream] += points_of(document)
        return +counts

    def check_order(self) -> None:
        """Assert the shape that every run's documents have, however it ends."""
        assert [each.seq for each in self.documents] == list(range(len(self.documents)))
        assert self.documents[0].kind is Kind.RUN_START
        assert len(self.of(Kind.RUN_START)) == 1
        described: set[str] = set()
        for document in self.documents:
            if document.kind is Kind.DESCRIPTOR:
                assert document.stream not in described
                described.add(document.stream)
            if document.kind is Kind.EVENT_PAGE:
                assert document.stream in described
        times = [each.body["time"] for each in self.documents if "time" in each.body]
        assert all(before <= after for before, after in pairwise(times))


@dataclass
class Result:
    """How a run on the bench ended, and what the simulated instruments were like right then."""

    ending: Ending
    told: Told
    cell_is_on: bool
    ended_s: float
    epoch: datetime
    progress: list[Progress] = field(default_factory=list)


class Bench:
    """An EmStat4 HR on a pellet, in a chamber that a Lake Shore 336 heats."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World.from_toml(folder / "world.toml")
        self.potentiostat = PalmSensEmStat4Hr(self.world, "potentiostat")
        self.stage = LakeShore336(self.world, "stage")

    def run(
        self,
        parameters: Mapping[str, Any],
        *,
        protocol: Protocol[Any] = PROTOCOL,
        sink: MemorySink | None = None,
        at: Mapping[float, Callable[[asyncio.Task[Ending]], object]] | None = None,
        may_resume: Callable[[], Awaitable[None]] = at_once,
        observer: Callable[[Progress], None] | None = None,
    ) -> Result:
        """Carry a protocol out; `at` says what happens besides, and how long after its start."""
        sink = sink or MemorySink()
        main = self._main(parameters, protocol, sink, at or {}, may_resume, observer)
        return run_on(VirtualTimeLoop(), main)

    async def _main(
        self,
        parameters: Mapping[str, Any],
        protocol: Protocol[Any],
        sink: MemorySink,
        at: Mapping[float, Callable[[asyncio.Task[Ending]], object]],
        may_resume: Callable[[], Awaitable[None]],
        observer: Callable[[Progress], None] | None,
    ) -> Result:
        loop = asyncio.get_running_loop()
        order = RunOrder(
            run_id="run-1",
            protocol=protocol,
            parameters=protocol.parameters.model_validate(dict(parameters)),
            sample=load(SampleConfig, self.folder / "sample.toml"),
            provenance={},
            telemetry_interval_s=10.0,
            may_resume=may_resume,
        )
        rig = self.rig(loop)
        identities = await rig.open_safe(timeout_s=30.0)
        about = {name: asdict(identity) for name, identity in identities.items()}
        progress: list[Progress] = []
        clock = RunClock(loop, epoch=EPOCH)
        executor = Executor(order, rig, sink, clock, observer or progress.append)
        task = asyncio.create_task(executor.execute(about))
        for after_s, happen in at.items():
            loop.call_later(after_s, happen, task)
        try:
            ending = await task
            return Result(
                ending,
                Told(sink.documents),
                self.potentiostat.cell_is_on,
                loop.time(),
                EPOCH,
                progress,
            )
        finally:
            await rig.close()

    def rig(self, loop: asyncio.AbstractEventLoop) -> Rig:
        """Return the rig of the bench's file, its lines leading to the bench's instruments."""
        assert isinstance(loop, VirtualTimeLoop)
        devices = {"potentiostat": self.potentiostat, "stage": self.stage}
        return Rig(
            load_rig(self.folder / "rig.toml"),
            "cell-1",
            source="rig.toml",
            opener_for=lambda name, _: (
                lambda link, lot: InProcessTransport(name, devices[name], link, loop=loop, lot=lot)
            ),
        )

    def ask_stage(self, message: str, now_s: float) -> str:
        """Return what the stage's controller answers once its faults are mended."""
        self.stage.faults.refuse = self.stage.faults.hung_up = False
        self.stage.connect(now_s)
        self.stage.receive(message.encode() + b"\n", now_s)
        return self.stage.transmit(now_s + 1.0).decode().strip()

    def heater_is_off(self, now_s: float) -> bool:
        """Ask the controller for its heater's range, and the heater itself for its power."""
        power_w = self.world.stage("stage").heater_power_w(now_s + 2.0)
        return self.ask_stage("RANGE? 1", now_s + 3.0) == "0" and power_w == 0.0


@pytest.fixture
def make_bench(
    tmp_path: Path,
    write_bench: Callable[..., Path],
    change_toml: Callable[[Path, Mapping[str, str]], None],
    quick_world: dict[str, str],
) -> Callable[..., Bench]:
    """Makes a bench; `world` and `rig` change values of its files."""

    def made(
        *, world: Mapping[str, str] | None = None, rig: Mapping[str, str] | None = None
    ) -> Bench:
        folder = write_bench(tmp_path / "bench", world={**quick_world, **(world or {})})
        change_toml(folder / "rig.toml", rig or {})
        return Bench(folder)

    return made


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def sink() -> Callable[..., MemorySink]:
    return MemorySink


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    write_bench: Callable[..., Path],
    quick_world: dict[str, str],
    quick: dict[str, Any],
) -> Result:
    """The quick run, undisturbed: what it tells, and when its phases come."""
    folder = write_bench(tmp_path_factory.mktemp("undisturbed"), world=quick_world)
    return Bench(folder).run(quick)
