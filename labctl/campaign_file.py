"""A campaign's file: entry by entry, which protocol runs on which samples, a run for each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from labctl.config import Config, Name, load, load_rig, read_toml
from labctl.errors import BadInputError
from labctl.instruments import registry
from labctl.quantities import celsius
from labctl.request import Prepared, RunRequest, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from labctl.config import RigConfig


class SampleEntryConfig(Config):
    """One sample of an entry: its file, and what is asked for on this sample only."""

    file: Path
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_the_file_alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"file": value}
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - pydantic turns only this into a complaint
                "expected a sample file, or a table with `file` and `parameters`"
            )
        return value  # pyright: ignore[reportUnknownVariableType]


class EntryConfig(Config):
    """One entry: a protocol on several channels at a time, a sample on each."""

    name: Name
    protocol: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    params: Path | None = None
    samples: dict[str, SampleEntryConfig] = Field(min_length=1)


class CampaignConfig(Config):
    """A campaign's file: entries that are carried out in turn on one rig."""

    name: Name
    rig: Path
    runs: tuple[EntryConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> CampaignConfig:
        seen: set[str] = set()
        for number, entry in enumerate(self.runs):
            if entry.name in seen:
                message = "another entry has this name; expected one of its own"
                raise ValueError(f"runs.{number}.name = {entry.name!r}: {message}")
            seen.add(entry.name)
        return self


@dataclass(frozen=True, kw_only=True)
class CampaignRequest:
    """What a person asks for; fields as of a RunRequest.

    `only` is the name of the one entry to carry out, `campaign_id` the campaign's id.
    """

    file: Path
    data: Path
    mqtt: str | None = None
    is_simulated: bool = False
    speed: float = 1.0
    only: str | None = None
    campaign_id: str | None = None
    epoch: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry with everything validated: its place in the file and its runs."""

    number: int
    name: str
    runs: tuple[Prepared, ...]


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A campaign with every file read and everything validated; nothing opened yet."""

    request: CampaignRequest
    name: str
    entries: tuple[Entry, ...]


def prepare_campaign(request: CampaignRequest) -> Campaign:
    """Return a campaign validated, its entries cut down to the one that was asked for.

    Raises:
        BadInputError: a file, key or name is wrong, or cells on one stage would part; says which
            and what was expected.
    """
    config = load(CampaignConfig, request.file)
    rig = request.file.parent / config.rig
    channels = load_rig(rig).channels
    entries: list[Entry] = []
    for number, entry in enumerate(config.runs):
        if request.only in (None, entry.name):
            where = f"{request.file}: runs.{number}"
            _check_channels(entry, channels, rig, where=where)
            requests = _requests(entry, request, rig, where=where)
            runs = tuple(prepare(each) for each in requests)
            entries.append(Entry(number=number + 1, name=entry.name, runs=runs))
            _check_setpoints(runs, where=where)
    if not entries:
        names = ", ".join(entry.name for entry in config.runs)
        raise BadInputError(
            f"{request.file}: --only {request.only}: no such entry; there are {names}"
        )
    return Campaign(request=request, name=config.name, entries=tuple(entries))


def _requests(
    entry: EntryConfig, request: CampaignRequest, rig: Path, *, where: str
) -> Iterator[RunRequest]:
    """Yield what is asked for on each channel; the sample's own overrules the entry's."""
    folder = request.file.parent
    protocol = _protocol(entry.protocol, folder, where=where)
    params = None if entry.params is None else folder / entry.params
    from_file = {} if params is None else read_toml(params)
    for channel, sample in entry.samples.items():
        yield RunRequest(
            protocol=protocol,
            rig=rig,
            sample=folder / sample.file,
            parameters={**from_file, **entry.parameters, **sample.parameters},
            sources={
                **dict.fromkeys(from_file, str(params)),
                **dict.fromkeys(entry.parameters, f"{where}.parameters"),
                **dict.fromkeys(sample.parameters, f"{where}.samples.{channel}.parameters"),
            },
            channel=channel,
            data=request.data,
            mqtt=request.mqtt,
            is_simulated=request.is_simulated,
            speed=request.speed,
        )


def _protocol(name: str, folder: Path, *, where: str) -> str:
    """Return a protocol's name, or the path of a script beside the file."""
    if not name.endswith(".py"):
        registry.find("labctl.protocols", name, source=f"{where}.protocol")
        return name
    if not (folder / name).is_file():
        raise BadInputError(f"{where}.protocol = {name!r}: no such file: {folder / name}")
    return str(folder / name)


def _check_channels(
    entry: EntryConfig, channels: Mapping[str, Any], rig: Path, *, where: str
) -> None:
    for name, sample in entry.samples.items():
        if name not in channels:
            raise BadInputError(
                f"{where}.samples.{name} = {str(sample.file)!r}: no channel {name!r} in {rig}; "
                f"there are: {', '.join(channels)}"
            )


def _check_setpoints(runs: Sequence[Prepared], *, where: str) -> None:
    """Raise BadInputError if cells on one stage would have it go to different temperatures."""
    for one, other in combinations(runs, 2):
        stage = _stage(one.config, one.channel)
        if stage != _stage(other.config, other.channel):
            continue
        visited = _setpoints(one), _setpoints(other)
        if visited[0] != visited[1]:
            raise BadInputError(
                f"{where}: {one.channel} and {other.channel} share the stage {stage!r}, but visit "
                f"different temperatures: {_said(visited[0])} and {_said(visited[1])}; expected "
                "the same for both, or an entry for each"
            )


def _stage(config: RigConfig, channel: str) -> str:
    return config.channels[channel].stage


def _setpoints(run: Prepared) -> list[float]:
    """Return the temperatures, in degC, that a run goes to in turn."""
    steps = run.protocol.plan(run.parameters, run.sample)
    found = [celsius(step.temperature_k) for step in steps if step.temperature_k is not None]
    return [round(each, 6) for each in found]


def _said(temperatures_c: Sequence[float]) -> str:
    return f"{', '.join(f'{each:g}' for each in temperatures_c)} degC" if temperatures_c else "none"


def samples_to_change(campaign: Campaign) -> str:
    """Return where somebody would have to mount another sample between entries; "" if nowhere."""
    mounted: dict[str, tuple[str, Path]] = {}
    for entry in campaign.entries:
        for run in entry.runs:
            sample = (run.request.sample or Path()).resolve()
            before, there = mounted.setdefault(run.channel, (entry.name, sample))
            if there != sample:
                return (
                    f"{campaign.request.file}: runs.{entry.number - 1}.samples.{run.channel} = "
                    f"{str(run.request.sample)!r}: entry {before!r} has {there.name!r} there; "
                    "somebody has to mount the other sample, so carry them out one at a time with "
                    f"--only {entry.name}"
                )
    return ""
