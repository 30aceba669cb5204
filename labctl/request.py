"""A request for a run: what a person asks for, and what it becomes once everything is validated."""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from labctl.clock import utc_now
from labctl.config import RigConfig, SampleConfig, load, load_rig_and_text, validate
from labctl.errors import BadInputError
from labctl.instruments import registry
from labctl.run.protocol import Protocol
from labctl.stream.rig_broker import rig_broker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from labctl.run.protocol import Parameters
    from labctl.stream.mqtt import BrokerAddress

_SPELT = str.maketrans({"\u00b5": "u", "\u03bc": "u", "\u00df": "ss"})  # micro, mu, sharp s


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
    broker: BrokerAddress | None


def prepare(request: RunRequest) -> Prepared:
    """Return a request validated.

    Raises:
        BadInputError: a file, key or name is wrong; says which and what was expected.
    """
    protocol = find_protocol(request.protocol)
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
        broker=rig_broker(config.mqtt, source=str(request.rig), url=request.mqtt),
    )
    _check_speed(prepared)
    return prepared


def find_protocol(name: str) -> Protocol[Any]:
    """Return a registered protocol, or the PROTOCOL of a script of the user's own.

    Raises:
        BadInputError: there is none.
    """
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
    if prepared.request.speed == 1.0:
        return
    if prepared.request.is_simulated:
        raise BadInputError("--speed goes with `labctl sim`; --simulate runs in virtual time")
    for name, instrument in prepared.config.instruments.items():
        if not instrument.address.upper().startswith(("TCPIP::127.0.0.1::", "TCPIP::LOCALHOST::")):
            raise BadInputError(
                f"{prepared.request.rig}: instruments.{name}.address = {instrument.address!r}: "
                "--speed is for simulated instruments on this machine (TCPIP::127.0.0.1::...)"
            )


def new_run_id(sample: str) -> str:
    """Return a new run's name: when, what, and six characters against chance."""
    parts = f"{utc_now():%Y%m%dT%H%M%S}", _in_ascii(sample), secrets.token_hex(3)
    return "-".join(filter(None, parts))


def _in_ascii(label: str) -> str:
    """Return what of a label can be part of a topic and a file's name; "" if nothing can."""
    plain = unicodedata.normalize("NFKD", label.translate(_SPELT)).encode("ascii", "ignore")
    return re.sub(r"[^A-Za-z0-9_.]+", "-", plain.decode()).strip("-._")
