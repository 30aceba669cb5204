"""Wiring: the rig of a request, its lines leading to real instruments or to simulated twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.clock import VirtualTimeLoop
from labctl.config import read_toml
from labctl.errors import BadInputError
from labctl.instruments import registry
from labctl.instruments.in_process import InProcessTransport
from labctl.instruments.rig import Rig
from labctl.instruments.transport import VisaTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from labctl.clock import ParkingLot
    from labctl.config import InstrumentConfig, RigConfig
    from labctl.instruments.bus import Opener
    from labctl.instruments.in_process import WireDevice
    from labctl.instruments.transport import LineTransport, LinkSettings
    from labctl.request import Prepared


def wired_rig(prepared: Prepared, opener_for: Callable[[str, InstrumentConfig], Opener]) -> Rig:
    """Return the rig of a request, not yet open.

    Raises:
        BadInputError: a driver, a setting or a role is wrong.
    """
    source = str(prepared.request.rig)
    return Rig(prepared.config, prepared.channel, source=source, opener_for=opener_for)


def no_opener(name: str, instrument: InstrumentConfig) -> Opener:
    """Stand in where nothing may be opened."""

    def refuse(link: LinkSettings, lot: ParkingLot) -> LineTransport:
        raise BadInputError(f"{name}: not to be opened")

    return refuse


def opener_for(
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
