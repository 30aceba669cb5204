"""Wiring: the rig of a request, its lines leading to real instruments or to simulated twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.clock import VirtualTimeLoop
from labctl.errors import BadInputError
from labctl.instruments import registry
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.instruments.transport import VisaTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from labctl.clock import ParkingLot
    from labctl.config import InstrumentConfig, RigConfig
    from labctl.instruments.bus import Opener
    from labctl.instruments.in_process import WireDevice
    from labctl.instruments.transport import LineTransport, LinkSettings
    from labctl.request import Prepared


def wired_rig(
    runs: Sequence[Prepared], opener_for: Callable[[str, InstrumentConfig], Opener]
) -> Rig:
    """Return the rig of one request, or of several for its channels, not yet open.

    Raises:
        BadInputError: a driver, a setting or a role is wrong.
    """
    source = str(runs[0].request.rig)
    channels = [run.channel for run in runs]
    return Rig(runs[0].config, *channels, source=source, opener_for=opener_for)


def no_opener(name: str, instrument: InstrumentConfig) -> Opener:
    """Stand in where nothing may be opened."""

    def refuse(link: LinkSettings, lot: ParkingLot) -> LineTransport:
        raise BadInputError(f"{name}: not to be opened")

    return refuse


def opener_for(
    runs: Sequence[Prepared], loop: asyncio.AbstractEventLoop
) -> Callable[[str, InstrumentConfig], Opener]:
    """Return what opens an instrument's line: the real one, or its simulated twin's."""
    if isinstance(loop, VirtualTimeLoop):
        source = str(runs[0].request.rig)
        devices = simulated_devices(runs[0].config, source=source, mounted=runs)
        start_s = loop.time()
        return lambda name, _: _in_process(name, devices[name], loop, start_s)
    return lambda name, instrument: _visa(name, instrument.address)


def _in_process(name: str, device: WireDevice, loop: VirtualTimeLoop, start_s: float) -> Opener:
    def opened(link: LinkSettings, lot: ParkingLot) -> LineTransport:
        return InProcessTransport(name, device, link, loop=loop, lot=lot, start_s=start_s)

    return opened


def _visa(name: str, address: str) -> Opener:
    return lambda link, lot: VisaTransport(name, address, link)


def simulated_devices(
    config: RigConfig, *, source: str, mounted: Sequence[Prepared] = ()
) -> dict[str, WireDevice]:
    """Return the simulated twin of every instrument of a rig, wired to the rig's simulated world.

    Args:
        config: the rig.
        source: its file, for errors.
        mounted: runs whose samples may name a cell of the world, which is put on their channel.

    Raises:
        BadInputError: the rig file names no world, an instrument has no simulator, or a channel or
            sample has no cell.
    """
    world = simulated_world(config, source=source)
    for run in mounted:
        _mount(world, run)
    return {
        name: _simulator(world, name, instrument, source)
        for name, instrument in config.instruments.items()
    }


def simulated_world(config: RigConfig, *, source: str) -> Any:
    """Return the world that a rig's simulated twins measure; errors as for `simulated_devices`."""
    if config.simulation is None:
        message = "missing; simulated instruments need a world to measure, for example"
        raise BadInputError(f'{source}: simulation: {message} [simulation] world = "world.toml"')
    path = config.simulation.world
    if not path.is_file():
        raise BadInputError(f"{source}: simulation.world = {str(path)!r}: no such file")
    kind: Any = registry.find("labctl.worlds", "pellet-bench", source=f"{source}: simulation")
    try:
        return kind.from_toml(path)
    except (ValueError, OSError) as error:
        raise BadInputError(str(error)) from error


def _mount(world: Any, run: Prepared) -> None:
    """Put the sample's simulated cell on its channel."""
    simulation, wired = run.sample.simulation, run.config.channels[run.channel]
    n_inputs, number = len(world.cells(wired.potentiostat)), wired.multiplexer_input or 1
    if number > n_inputs:
        raise BadInputError(
            f"{run.request.rig}: channels.{run.channel}.multiplexer_input = {number}: the world "
            f"has {n_inputs} cells at {wired.potentiostat!r}; expected as many in its `cells`"
        )
    if simulation is None:
        return
    try:
        world.mount(wired.potentiostat, simulation.cell, at_input=number)
    except ValueError as error:
        where = f"{run.request.sample}: simulation.cell = {simulation.cell!r}"
        raise BadInputError(f"{where}: {error}") from error


def _simulator(world: Any, name: str, instrument: InstrumentConfig, source: str) -> WireDevice:
    where = f"{source}: instruments.{name}.driver"
    kind: Any = registry.find("labctl.simulators", instrument.driver, source=where)
    try:
        return kind(world, name)
    except (ValueError, KeyError) as error:
        raise BadInputError(f"{source}: instruments.{name}: simulator: {error}") from error
