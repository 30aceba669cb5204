"""`labctl sim`: a rig's simulated instruments on TCP, for any client to talk to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.options import Json

if TYPE_CHECKING:
    from labctl.config import RigConfig
    from labctl.instruments.serving import DeviceServer

_LOOPBACK_SOCKET = re.compile(r"TCPIP\d*::(?:127\.0\.0\.1|localhost)::(\d+)::SOCKET", re.IGNORECASE)


def sim(
    rig: Annotated[Path, typer.Argument(metavar="RIG.toml", help="Rig file with a simulation.")],
    speed: Annotated[float, typer.Option(min=0.01, help="How much faster than life.")] = 1.0,
    json: Json = False,
) -> None:
    """Serve a rig's simulated instruments on loopback until Ctrl-C, one address for each.

    An instrument whose rig file address is a socket on this machine is served there, any other on
    a free port.
    """
    from labctl.clock import ScaledTimeLoop, run_on
    from labctl.config import load_rig

    config = load_rig(rig)
    try:
        run_on(ScaledTimeLoop(speed), _serve(config, str(rig), json=json))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


def _port(address: str) -> int:
    """Return the port that a loopback socket address names, 0 for any other address."""
    match = _LOOPBACK_SOCKET.fullmatch(address)
    return int(match[1]) if match else 0


async def _serve(config: RigConfig, source: str, *, json: bool) -> None:
    import asyncio

    from labctl.assembly import simulated_devices
    from labctl.instruments.serving import DeviceServer

    start_s = asyncio.get_running_loop().time()
    devices = simulated_devices(config, source=source)
    servers = {name: DeviceServer(device, start_s=start_s) for name, device in devices.items()}
    try:
        ports = {
            name: await _listen(server, name, config, source) for name, server in servers.items()
        }
        _tell(ports, json=json)
        await asyncio.Event().wait()
    finally:
        for server in servers.values():
            await server.stop()


async def _listen(server: DeviceServer, name: str, config: RigConfig, source: str) -> int:
    from labctl.errors import BadInputError

    wanted = _port(config.instruments[name].address)
    try:
        return await server.start(wanted)
    except OSError as error:
        where = f"{source}: instruments.{name}.address"
        raise BadInputError(f"{where}: port {wanted} is not free: {error.strerror}") from error


def _tell(ports: dict[str, int], *, json: bool) -> None:
    """Print one address per instrument, at once, for whoever waits for it."""
    addresses = {name: f"TCPIP::127.0.0.1::{port}::SOCKET" for name, port in ports.items()}
    if json:
        from labctl.cli.views import print_json

        print_json(addresses)
        return
    for name, address in addresses.items():
        typer.echo(f"{name}\t{address}")
