"""The measurement of the campaign: a simulated potentiostat that sends many points.

Driver and simulators are those of every simulated run, only the wire is written down. Time is
virtual, so that the points come as fast as the machine can make them.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from benchmarks.faults.wire import JournalledDevice
from labctl.assembly import simulated_devices
from labctl.clock import RunClock, VirtualTimeLoop
from labctl.config import SampleConfig, load_rig
from labctl.instruments.capabilities import CanEis, CanOcp
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.instruments.techniques import Eis, Ocp
from labctl.run.executor import Executor, RunOrder
from labctl.run.protocol import Parameters, PlannedStep, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from labctl.clock import ParkingLot
    from labctl.documents import Sink
    from labctl.instruments.bus import Opener
    from labctl.instruments.in_process import WireDevice
    from labctl.instruments.transport import LinkSettings
    from labctl.run.executor import Ending
    from labctl.run.progress import Progress
    from labctl.run.run import Run

SOURCE = "the demonstration's rig.toml"
POTENTIOSTAT = "potentiostat"
_OCP_POINTS = 480
_EIS_POINTS = 20
_SWITCH_INTERVAL_S = 0.0002  # as assembly does it: loop and bus threads take turns very often


class ManyPointsParameters(Parameters):
    """How many points, and at which pace the instrument gives those of the open circuit."""

    n_points: int
    interval_s: float = 1e-3


def steps(parameters: ManyPointsParameters) -> list[PlannedStep]:
    """Return steps of open circuit and impedance in turns, until there are enough points."""
    planned: list[PlannedStep] = []
    n_left = parameters.n_points
    while n_left > 0:
        technique = _technique(len(planned), n_left, parameters.interval_s)
        n_left -= technique.expected_points
        planned.append(
            PlannedStep(
                key=f"{technique.NAME}-{len(planned)}",
                kind=technique.NAME,
                expected_duration_s=technique.expected_duration_s(),
                technique=technique,
            )
        )
    return planned


def n_ocp_points(n_points: int) -> int:
    """Return how many of so many points are of open circuit, which take the time."""
    planned = steps(ManyPointsParameters(n_points=n_points))
    return sum(
        step.technique.expected_points
        for step in planned
        if step.kind == Ocp.NAME and step.technique
    )


def _technique(index: int, n_left: int, interval_s: float) -> Ocp | Eis:
    if index % 2:
        return Eis(
            frequency_start_hz=2e5,
            frequency_end_hz=1e3,
            n_points=min(n_left, _EIS_POINTS),
            amplitude_v_rms=0.01,
        )
    n_points = min(n_left, _OCP_POINTS)
    return Ocp(duration_s=n_points * interval_s, interval_s=interval_s)


async def many_points(run: Run, parameters: ManyPointsParameters) -> None:
    """Measure step after step."""
    for step in steps(parameters):
        if isinstance(step.technique, Eis):
            await run.eis(key=step.key, parameters=step.technique)
        elif isinstance(step.technique, Ocp):
            await run.ocp(key=step.key, parameters=step.technique)


PROTOCOL = Protocol(
    name="many_points",
    script=many_points,
    parameters=ManyPointsParameters,
    plan=lambda parameters, _: steps(parameters),
    capabilities=(CanEis, CanOcp),
    summary="many points, for the fault campaign",
)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of the campaign.

    Attributes:
        run_id: its name.
        n_points: how many points the potentiostat shall send.
        interval_s: its pace, in its own time.
        telemetry_interval_s: pause between two readings of the stage.
        journal: where the wire is written down.
    """

    run_id: str
    n_points: int
    interval_s: float
    telemetry_interval_s: float
    journal: Path


async def measure(
    measurement: Measurement,
    loop: VirtualTimeLoop,
    sink: Sink,
    sent: Callable[[int], None],
    observer: Callable[[Progress], None],
) -> Ending:
    """Carry a run out into a sink; must run on the loop given."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with as_file(files("labctl_simulators.demo") / "alocl") as demo:
        config = load_rig(demo / "rig.toml")
        devices = dict(simulated_devices(config, source=SOURCE))
    devices[POTENTIOSTAT] = JournalledDevice(devices[POTENTIOSTAT], measurement.journal, sent)
    channel = next(iter(config.channels))
    rig = Rig(config, channel, source=SOURCE, opener_for=lambda n, _: _opener(n, devices[n], loop))
    identities = await rig.open()
    try:
        executor = Executor(_order(measurement), rig, sink, RunClock(loop), observer)
        return await executor.execute({name: asdict(each) for name, each in identities.items()})
    finally:
        await rig.close()


def _order(measurement: Measurement) -> RunOrder:
    return RunOrder(
        run_id=measurement.run_id,
        protocol=PROTOCOL,
        parameters=ManyPointsParameters(
            n_points=measurement.n_points, interval_s=measurement.interval_s
        ),
        sample=SampleConfig(name="pellet"),
        provenance={"is_simulated": True},
        telemetry_interval_s=measurement.telemetry_interval_s,
        may_resume=_at_once,
    )


async def _at_once() -> None:
    """Let a run that has paused for want of room go on by itself."""


def _opener(name: str, device: WireDevice, loop: VirtualTimeLoop) -> Opener:
    def opened(link: LinkSettings, lot: ParkingLot) -> InProcessTransport:
        return InProcessTransport(name, device, link, loop=loop, lot=lot)

    return opened
