"""Assembly: joins rig, run, outbox, broker, recorder and store into a working whole.

The one place that knows them all. A run is the same code on a real rig, against simulated
instruments on sockets in scaled time, and on simulated instruments in process in virtual time.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import secrets
import sys
import unicodedata
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from labctl.clock import RunClock, ScaledTimeLoop, VirtualTimeLoop, run_on, utc_now
from labctl.config import RigConfig, SampleConfig, load, load_rig_and_text, read_toml, validate
from labctl.documents import Room
from labctl.errors import BadInputError, LabctlError, NotStartedError, StreamError
from labctl.instruments import registry
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.instruments.transport import VisaTransport
from labctl.run.check import CheckedStep, check_plan
from labctl.run.executor import SAFE_STATE_TIMEOUT_S, Ending, Executor, RunOrder, to_the_end
from labctl.run.protocol import Protocol
from labctl.run.resumption import persons_word
from labctl.signals import held_signals
from labctl.store.holder import Holder, held_folder
from labctl.store.sqlite import STORE_NAME
from labctl.stream.link import Link
from labctl.stream.outbox import OutboxLimits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
    from datetime import datetime

    from labctl.clock import ParkingLot
    from labctl.config import InstrumentConfig
    from labctl.documents import Sink
    from labctl.instruments.bus import Opener
    from labctl.instruments.in_process import WireDevice
    from labctl.instruments.techniques import Identity
    from labctl.instruments.transport import LineTransport, LinkSettings
    from labctl.run.progress import Progress
    from labctl.run.protocol import Parameters

_T = TypeVar("_T")

OUTBOX_NAME = "outbox.sqlite"
_SPELT = str.maketrans({"\u00b5": "u", "\u03bc": "u", "\u00df": "ss"})  # micro, mu, sharp s
_DRAIN_TIMEOUT_S = 30.0
_SWITCH_INTERVAL_S = 0.0002


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a person asks for.

    Attributes:
        protocol: name of a registered protocol, or the path of a script that holds a PROTOCOL.
        rig: rig file.
        sample: sample file; without one, a sample without name and geometry.
        parameters: parameters as read from file and command line, not yet validated.
        channel: name of the channel; may be left out where the rig has one.
        data: folder of store and outbox.
        mqtt: broker URL; else the rig file's, else a broker of the run's own on loopback.
        is_simulated: run on the rig's simulated twins, in process and in virtual time.
        speed: how much faster than life the instruments are; for simulators on sockets.
        run_id: name of the run; a new one is made up if left out.
        epoch: what time the run says it starts; now if left out.
        sources: what gave each parameter ("p.toml", "--set"), for errors.
    """

    protocol: str
    rig: Path
    sample: Path | None
    parameters: Mapping[str, Any]
    data: Path
    channel: str | None = None
    mqtt: str | None = None
    is_simulated: bool = False
    speed: float = 1.0
    run_id: str | None = None
    epoch: datetime | None = None
    sources: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What came of a request: the run's ending, and where its documents are.

    `undelivered` says why not every document is in the store; "" if every one is.
    """

    run_id: str
    ending: Ending
    duration_s: float
    undelivered: str
    store: Path


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request with every file read and everything validated; nothing opened yet.

    `rig_text` is what `config` was made of, word for word.
    """

    request: RunRequest
    config: RigConfig
    rig_text: str
    channel: str
    protocol: Protocol[Any]
    parameters: Parameters
    sample: SampleConfig


def prepare(request: RunRequest) -> Prepared:
    """Return a request validated.

    Raises:
        BadInputError: a file, key or name is wrong; says which and what was expected.
    """
    protocol = _protocol(request.protocol)
    config, rig_text = load_rig_and_text(request.rig)
    sample = load(SampleConfig, request.sample) if request.sample else SampleConfig(name="unnamed")
    prepared = Prepared(
        request=request,
        config=config,
        rig_text=rig_text,
        channel=_channel_of(config, request),
        protocol=protocol,
        parameters=_parameters(protocol, sample, request),
        sample=sample,
    )
    _check_speed(prepared)
    return prepared


def _protocol(name: str) -> Protocol[Any]:
    """Return a registered protocol, or the PROTOCOL of a script of the user's own."""
    is_script = name.endswith(".py")
    found: Any = (
        registry.load_file(Path(name), "PROTOCOL")
        if is_script
        else registry.find("labctl.protocols", name, source="protocol")
    )
    if not isinstance(found, Protocol):
        raise BadInputError(f"protocol = {name!r}: expected a labctl Protocol")
    return cast("Protocol[Any]", found)


def _parameters(protocol: Protocol[Any], sample: SampleConfig, request: RunRequest) -> Parameters:
    """Return the sample's own parameters, overruled by those of file and command line."""
    return validate(
        protocol.parameters,
        {**sample.parameters, **request.parameters},
        source=f"{request.protocol} parameters",
        sources={
            **dict.fromkeys(sample.parameters, f"{request.sample}: parameters"),
            **request.sources,
        },
    )


def _channel_of(config: RigConfig, request: RunRequest) -> str:
    """Return the channel asked for, or the only one there is."""
    names = ", ".join(config.channels)
    if request.channel is None:
        if len(config.channels) > 1:
            raise BadInputError(
                f"{request.rig}: several channels, name one with --channel: {names}"
            )
        return next(iter(config.channels))
    if request.channel not in config.channels:
        raise BadInputError(f"{request.rig}: no channel {request.channel!r}; there are: {names}")
    return request.channel


def _check_speed(prepared: Prepared) -> None:
    """Refuse scaled time on anything but simulators on this machine."""
    if prepared.request.speed == 1.0 or prepared.request.is_simulated:
        return
    for name, instrument in prepared.config.instruments.items():
        if not instrument.address.upper().startswith(("TCPIP::127.0.0.1::", "TCPIP::LOCALHOST::")):
            raise BadInputError(
                f"{prepared.request.rig}: instruments.{name}.address = {instrument.address!r}: "
                "--speed is for simulated instruments on this machine (TCPIP::127.0.0.1::...)"
            )


def check(request: RunRequest) -> list[CheckedStep]:
    """Return the steps that a request will take, all limits checked; nothing is opened.

    Raises:
        BadInputError: something is wrong or not allowed; says what.
    """
    return _checked(request)[1]


def _checked(request: RunRequest) -> tuple[Prepared, list[CheckedStep]]:
    """Return a request validated, and its steps with all limits checked; errors as for `check`."""
    prepared = prepare(request)
    rig = _rig(prepared, _no_opener)
    return prepared, check_plan(prepared.protocol, prepared.parameters, rig)


def run(request: RunRequest, observer: Callable[[Progress], None]) -> RunReport:
    """Carry a request out and return what came of it; a signal to end aborts it.

    Raises:
        BadInputError: something is wrong or not allowed; nothing was started.
        UnreachableError, WrongInstrumentError: likewise, of an instrument.
        NotStartedError: a signal came before the run had begun.
    """
    prepared, _ = _checked(request)
    request.data.mkdir(parents=True, exist_ok=True)
    run_id = request.run_id or new_run_id(prepared.sample.name)
    holder = Holder(pid=os.getpid(), run_id=run_id, since=utc_now().isoformat())
    link = Link(
        outbox_path=request.data / OUTBOX_NAME,
        rig=prepared.config.name,
        mqtt=request.mqtt or prepared.config.mqtt.url,
        store_path=request.data / STORE_NAME,
        limits=_outbox_limits(prepared.config),
    )
    with held_folder(request.data, holder):
        return _run_on(_loop(request), _main(prepared, run_id, link, observer))


def _run_on(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end on a loop; a signal cancels it, from now on."""
    with held_signals() as signals:

        async def cancellable() -> _T:
            signals.cancel(cast("asyncio.Task[Any]", asyncio.current_task()))
            return await main

        try:
            return run_on(loop, cancellable())
        except asyncio.CancelledError as error:
            message = "stopped before the run began; no instrument was touched"
            raise NotStartedError(message) from error


def _outbox_limits(config: RigConfig) -> OutboxLimits:
    return OutboxLimits(
        ceiling_bytes=config.outbox.ceiling, reserve_bytes=int(config.outbox.reserve)
    )


def _loop(request: RunRequest) -> asyncio.AbstractEventLoop:
    if request.is_simulated:
        # Loop and bus threads take turns thousands of times a second; each would wait 5 ms for an
        # MQTT thread at work. Until the process ends: nothing suffers from the shorter slices.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        return VirtualTimeLoop()
    return ScaledTimeLoop(request.speed)


def run_into(request: RunRequest, sink: Sink) -> Ending:
    """Carry a request out with its documents going to a sink of one's own; errors as for `run`."""
    prepared, _ = _checked(request)

    async def main() -> Ending:
        async with _open_rig(prepared) as (rig, identities):
            run_id = request.run_id or new_run_id(prepared.sample.name)
            executed = await _execute(prepared, run_id, rig, identities, sink, lambda _: None)
            return executed.ending

    return _run_on(_loop(request), main())


async def _main(
    prepared: Prepared, run_id: str, link: Link, observer: Callable[[Progress], None]
) -> RunReport:
    """Open the rig, run, make it safe, wait until everything is stored."""
    executed: _Executed | None = None
    undelivered = ""
    try:
        # The link first: where it cannot be had, the instruments must not hear from this run.
        with link:
            await _check_run_id(prepared, link)
            _check_room(link)
            async with _open_rig(prepared) as (rig, identities):
                executed = await _execute(prepared, run_id, rig, identities, link, observer)
            pending = await link.drain(_DRAIN_TIMEOUT_S)
            undelivered = f"{pending} documents are not stored yet" if pending else ""
    except (LabctlError, asyncio.CancelledError) as error:
        if executed is None:
            raise
        undelivered = str(error) or "stopped before every document was stored"
    return RunReport(
        run_id=executed.run_id,
        ending=executed.ending,
        duration_s=executed.duration_s,
        undelivered=undelivered,
        store=prepared.request.data / STORE_NAME,
    )


async def _check_run_id(prepared: Prepared, link: Link) -> None:
    """Refuse a run id that was used before: its documents would count as delivered already."""
    run_id = prepared.request.run_id
    if run_id is not None and await link.last_seq(run_id) >= 0:
        raise BadInputError(f"run_id = {run_id!r}: there is such a run already")


def _check_room(link: Link) -> None:
    """Refuse to begin what would have to pause at its first step."""
    if link.room is Room.NONE:
        raise StreamError(
            "no room for data: the disk is full, or the outbox is at its ceiling with what no "
            "recorder has stored yet"
        )


@dataclass(frozen=True, kw_only=True)
class _Executed:
    """A run that was carried out, and how long it took in its own time."""

    run_id: str
    ending: Ending
    duration_s: float


@asynccontextmanager
async def _open_rig(
    prepared: Prepared,
) -> AsyncGenerator[tuple[Rig, Mapping[str, Identity]], None]:
    """Give the rig with its instruments open and safe, and who they are; close it at the end.

    Safe first, and whatever comes: whoever used the rig last may have been killed with the heater
    on, and whoever wants the end now wants it off, too.
    """
    rig = _rig(prepared, _opener_for(prepared, asyncio.get_running_loop()))
    identities = await to_the_end(rig.open_safe(timeout_s=SAFE_STATE_TIMEOUT_S))
    try:
        _check_not_cancelled()
        yield rig, identities
    finally:
        await to_the_end(rig.close())


def _check_not_cancelled() -> None:
    """Raise NotStartedError if somebody wanted the end while the rig was being opened."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise NotStartedError("stopped before the run began; the rig is safe: outputs off")


async def _execute(
    prepared: Prepared,
    run_id: str,
    rig: Rig,
    identities: Mapping[str, Identity],
    sink: Sink,
    observer: Callable[[Progress], None],
) -> _Executed:
    """Return how the run ended, what it was, and how long it took in its own time."""
    clock = RunClock(asyncio.get_running_loop(), epoch=prepared.request.epoch)
    order = _order(prepared, run_id)
    executor = Executor(order, rig, sink, clock, observer)
    about = {name: asdict(identity) for name, identity in identities.items()}
    ending = await executor.execute(about)
    return _Executed(run_id=order.run_id, ending=ending, duration_s=clock.elapsed_s())


def _order(prepared: Prepared, run_id: str) -> RunOrder:
    request = prepared.request
    return RunOrder(
        run_id=run_id,
        protocol=prepared.protocol,
        parameters=prepared.parameters,
        sample=prepared.sample,
        provenance={
            "rig": prepared.config.name,
            "rig_file": prepared.rig_text,
            "is_simulated": request.is_simulated,
            "labctl_version": version("labctl-electrochem"),
            "python_version": platform.python_version(),
        },
        telemetry_interval_s=prepared.config.telemetry_interval,
        may_resume=_may_resume(prepared, run_id),
    )


def _may_resume(prepared: Prepared, run_id: str) -> Callable[[], Awaitable[None]]:
    """Return what a paused run awaits; a simulation waits for nobody."""

    async def at_once() -> None:
        pass

    if prepared.request.is_simulated or "outbox_full" in prepared.config.auto_resume:
        return at_once
    return partial(persons_word, prepared.request.data, run_id)


def new_run_id(sample: str) -> str:
    """Return a new run's name: when, what, and six characters against chance."""
    parts = f"{utc_now():%Y%m%dT%H%M%S}", _in_ascii(sample), secrets.token_hex(3)
    return "-".join(filter(None, parts))


def _in_ascii(label: str) -> str:
    """Return what of a label can be part of a topic and a file's name; "" if nothing can."""
    plain = unicodedata.normalize("NFKD", label.translate(_SPELT)).encode("ascii", "ignore")
    return re.sub(r"[^A-Za-z0-9_.]+", "-", plain.decode()).strip("-._")


def _rig(prepared: Prepared, opener_for: Callable[[str, InstrumentConfig], Opener]) -> Rig:
    source = str(prepared.request.rig)
    return Rig(prepared.config, prepared.channel, source=source, opener_for=opener_for)


def _no_opener(name: str, instrument: InstrumentConfig) -> Opener:
    """Stand in where nothing may be opened."""

    def refuse(link: LinkSettings, lot: ParkingLot) -> LineTransport:
        raise BadInputError(f"{name}: not to be opened")

    return refuse


def _opener_for(
    prepared: Prepared, loop: asyncio.AbstractEventLoop
) -> Callable[[str, InstrumentConfig], Opener]:
    """Return what opens an instrument's line: the real one, or its simulated twin's."""
    if isinstance(loop, VirtualTimeLoop):
        devices = simulated_devices(prepared.config, source=str(prepared.request.rig))
        return lambda name, _: _in_process(name, devices[name], loop)
    return lambda name, instrument: _visa(name, instrument.address)


def _in_process(name: str, device: WireDevice, loop: VirtualTimeLoop) -> Opener:
    return lambda link, lot: InProcessTransport(name, device, link, loop=loop, lot=lot)


def _visa(name: str, address: str) -> Opener:
    return lambda link, lot: VisaTransport(name, address, link)


def simulated_devices(config: RigConfig, *, source: str) -> dict[str, WireDevice]:
    """Return the simulated twin of every instrument of a rig, wired to the rig's simulated world.

    Raises:
        BadInputError: the rig file names no world, or an instrument has no simulator.
    """
    if config.simulation is None:
        message = "missing; simulated instruments need a world to measure, for example"
        raise BadInputError(f'{source}: simulation: {message} [simulation] world = "world.toml"')
    world_path = config.simulation.world
    read_toml(world_path)
    kind: Any = registry.find("labctl.worlds", "pellet-bench", source=f"{source}: simulation")
    try:
        world = kind.from_toml(world_path)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    return {
        name: _simulator(world, name, instrument, source)
        for name, instrument in config.instruments.items()
    }


def _simulator(world: Any, name: str, instrument: InstrumentConfig, source: str) -> WireDevice:
    where = f"{source}: instruments.{name}.driver"
    kind: Any = registry.find("labctl.simulators", instrument.driver, source=where)
    try:
        return kind(world, name)
    except (ValueError, KeyError) as error:
        raise BadInputError(f"{source}: instruments.{name}: simulator: {error}") from error
