"""Rig, sample and parameter files: TOML to validated models, with errors that say what to mend."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from labctl.errors import BadInputError
from labctl.quantities import (
    WRITTEN,
    ChargeC,
    CurrentA,
    DurationS,
    FrequencyHz,
    LengthM,
    MassKg,
    PressurePa,
    ShareOfOne,
    SizeBytes,
    TemperatureDifferenceK,
    TemperatureK,
    TemperatureRateKPerMin,
    VoltageV,
    format_si,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_Model = TypeVar("_Model", bound=BaseModel)

# What pydantic says in words of Python, in words of TOML.
_WORDS = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "too_short": "expected at least one",
    "tuple_type": "expected a list in brackets",
}

_MOST_CHARACTERS = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _checked_name(name: str) -> str:
    """Return a name that can be part of a topic, a file's name and a command."""
    if len(name) > _MOST_CHARACTERS or not _NAME.fullmatch(name):
        raise ValueError(
            f"expected a name of at most {_MOST_CHARACTERS} letters (A-Z), digits, _ . - "
            "that begins with a letter or digit"
        )
    return name


def _checked_label(label: str) -> str:
    """Return what people call something, in whatever script they write."""
    if not 1 <= len(label) <= _MOST_CHARACTERS or not label.isprintable() or not label.strip():
        raise ValueError(f"expected 1 to {_MOST_CHARACTERS} printable characters")
    return label


Name = Annotated[str, AfterValidator(_checked_name)]
Label = Annotated[str, AfterValidator(_checked_label)]


class Config(BaseModel):
    """Base of everything read from a file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StageLimitsConfig(Config):
    """What a rig allows its stage; the tighter of this and the instrument's own limit counts."""

    temperature_min: TemperatureK | None = None
    temperature_max: TemperatureK | None = None
    rate_max: TemperatureRateKPerMin | None = None


class PotentiostatLimitsConfig(Config):
    """What a rig allows its potentiostat."""

    potential_min: VoltageV | None = None
    potential_max: VoltageV | None = None
    current_max: CurrentA | None = Field(default=None, gt=0)
    frequency_max: FrequencyHz | None = None
    amplitude_rms_max: VoltageV | None = None


class CoolingConfig(Config):
    """How a stage gets cold: passively, towards a base temperature."""

    base_temperature: TemperatureK
    time_constant: DurationS = Field(gt=0)
    margin: TemperatureDifferenceK = Field(default=5.0, gt=0)


class InstrumentConfig(Config):
    """One instrument: which driver speaks to it and where it is."""

    driver: str
    address: str = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, Any] = Field(default_factory=dict)
    cooling: CoolingConfig | None = None
    temperature_uncertainty: TemperatureDifferenceK = Field(default=0.0, ge=0)


class ChannelConfig(Config):
    """One measuring place: the instruments that are wired to one cell.

    `multiplexer_input` is the input of the potentiostat's multiplexer that leads to the cell.
    """

    potentiostat: str
    stage: str
    multiplexer_input: int | None = Field(default=None, ge=1)


class SimulationConfig(Config):
    """What the simulated twins of this rig measure; nothing else reads that file."""

    world: Path


class MqttConfig(Config):
    """Which broker the rig's data go to; without one, a broker of the run's own on loopback.

    Who runs a protocol records into the store of the data folder, unless `record` is false;
    `recorders` names those elsewhere that must have a document before the outbox forgets it.
    """

    url: str | None = None
    record: bool = True
    recorders: tuple[Name, ...] = ()
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    version: Literal["3.1.1", "5"] = "3.1.1"

    def beside(self, folder: Path) -> MqttConfig:
        """Return the same with its files' paths relative to a folder."""
        names = ("ca_file", "cert_file", "key_file")
        files = {name: getattr(self, name) for name in names}
        return self.model_copy(update={n: folder / file for n, file in files.items() if file})


class OutboxConfig(Config):
    """How much may wait on this machine for a recorder."""

    ceiling: SizeBytes = Field(default=4e9, gt=0)
    reserve: SizeBytes = Field(default=16e6, ge=0)


class RigConfig(Config):
    """A rig file: instruments, and the channels they form."""

    name: Name
    instruments: dict[Name, InstrumentConfig] = Field(min_length=1)
    channels: dict[Name, ChannelConfig] = Field(min_length=1)
    mqtt: MqttConfig = MqttConfig()
    outbox: OutboxConfig = OutboxConfig()
    auto_resume: tuple[Literal["outbox_full"], ...] = ()
    simulation: SimulationConfig | None = None
    telemetry_interval: DurationS = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _channels_name_instruments(self) -> RigConfig:
        for channel_name, channel in self.channels.items():
            for role in ("potentiostat", "stage"):
                name = getattr(channel, role)
                if name not in self.instruments:
                    known = ", ".join(self.instruments)
                    raise ValueError(
                        f"channels.{channel_name}.{role}: no instrument {name!r}; there are {known}"
                    )
        return self

    @model_validator(mode="after")
    def _channels_lead_to_cells_of_their_own(self) -> RigConfig:
        """Refuse two channels that one potentiostat could not tell apart."""
        taken: dict[tuple[str, int | None], str] = {}
        n_channels = Counter(channel.potentiostat for channel in self.channels.values())
        for name, channel in self.channels.items():
            number = channel.multiplexer_input
            other = taken.setdefault((channel.potentiostat, number), name)
            if number is None and n_channels[channel.potentiostat] > 1:
                raise ValueError(
                    f"channels.{name}.multiplexer_input: missing; expected a whole number from 1, "
                    f"since {channel.potentiostat!r} is the potentiostat of several channels"
                )
            if other != name:
                raise ValueError(
                    f"channels.{name}.multiplexer_input = {number}: channel {other!r} has it "
                    f"already; expected an input of {channel.potentiostat!r} of its own"
                )
        return self


class SampleSimulationConfig(Config):
    """What a simulated twin of the sample is: a cell of the world file, ignored on a real rig."""

    cell: str


class SampleConfig(Config):
    """A sample file: the specimen, its geometry and how it was made.

    `composition` names what varies in a series ("Li/Al"), `active_mass` is that of the active
    material, `nominal_capacity` what it can hold, `diffusion_length` how far ions go in it (a
    layer's thickness, a particle's radius), and `reference_potential` the potential of the
    reference electrode against Li+/Li (Li-In: 0.62 V).
    """

    name: Label
    material: str = ""
    thickness: LengthM | None = Field(default=None, gt=0)
    thickness_uncertainty: LengthM = Field(default=0.0, ge=0)
    diameter: LengthM | None = Field(default=None, gt=0)
    diameter_uncertainty: LengthM = Field(default=0.0, ge=0)
    mass: MassKg | None = Field(default=None, gt=0)
    active_mass: MassKg | None = Field(default=None, gt=0)
    nominal_capacity: ChargeC | None = Field(default=None, gt=0)
    diffusion_length: LengthM | None = Field(default=None, gt=0)
    reference_potential: VoltageV | None = None
    pressing_pressure: PressurePa | None = None
    stack_pressure: PressurePa | None = None
    relative_density: ShareOfOne | None = None
    composition: dict[str, float] = Field(default_factory=dict)
    electrodes: str = ""
    operator: str = ""
    notes: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    simulation: SampleSimulationConfig | None = None

    @model_validator(mode="after")
    def _dimensions_are_known(self) -> SampleConfig:
        for key in ("thickness", "diameter"):
            value, u_value = getattr(self, key), getattr(self, f"{key}_uncertainty")
            if value is not None and u_value >= value:
                given, limit = format_si(u_value, "m"), format_si(value, "m")
                raise ValueError(f"{key}_uncertainty = {given}: expected less than {key} = {limit}")
        return self


class UserConfig(Config):
    """A user's own configuration: which rig a command means that names none."""

    rig: Path | None = None


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        BadInputError: no such file, or not TOML; names the file, and the line where it goes wrong.
    """
    return _parsed(_text(path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: no such file") from error
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: not valid TOML: {error}") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path}: not valid TOML: {error}") from error


def validate(
    model: type[_Model],
    data: Mapping[str, Any],
    *,
    source: str,
    sources: Mapping[str, str] | None = None,
) -> _Model:
    """Return data as a model.

    Args:
        model: what the data shall be.
        data: as read from a file, or from several.
        source: what the data come from, for errors.
        sources: what single keys come from, where that is something else.

    Raises:
        BadInputError: one line per wrong key: source, key, value, and what was expected.
    """
    try:
        return model.model_validate(data, context=WRITTEN)
    except ValidationError as error:
        entries = _innermost(list(error.errors()))
        places = [(sources or {}).get(str((*entry["loc"], "")[0]), source) for entry in entries]
        lines = [_complaint(*each, data) for each in zip(places, entries, strict=True)]
        raise BadInputError("\n".join(lines)) from error


def _innermost(entries: list[Any]) -> list[Any]:
    """Return the errors that lie deepest: what holds a wrong value is wrong for that reason."""
    places = [entry["loc"] for entry in entries]
    return [
        entry
        for entry in entries
        if not any(
            len(place) > len(entry["loc"]) and place[: len(entry["loc"])] == entry["loc"]
            for place in places
        )
    ]


def _complaint(source: str, entry: Any, data: Mapping[str, Any]) -> str:
    """Return one validation error as a person reads it."""
    keys, value = _found(data, entry["loc"])
    if entry["type"] == "missing":
        return f"{source}: {'.'.join([*keys, str(entry['loc'][-1])])}: missing"
    where = f"{source}: {'.'.join(keys)}" if keys else source
    if entry["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    message = _WORDS.get(entry["type"], str(entry["msg"]).removeprefix("Value error, "))
    return f"{where} = {value!r:.80}: {message}" if keys else f"{where}: {message}"


def _found(data: Mapping[str, Any], place: tuple[Any, ...]) -> tuple[list[str], Any]:
    """Return the keys on the way to a place, and what a person wrote there.

    pydantic's own places also hold the tags of unions, which are no keys.
    """
    keys: list[str] = []
    value: Any = data
    for part in place:
        with suppress(LookupError, TypeError):
            value = value[part]
            keys.append(str(part))
    return keys, value


def load(model: type[_Model], path: Path) -> _Model:
    """Return a TOML file as a model; errors as `read_toml` and `validate`."""
    return validate(model, read_toml(path), source=str(path))


def load_rig(path: Path) -> RigConfig:
    """Return a rig file, paths in it made relative to the file itself."""
    return load_rig_and_text(path)[0]


def load_rig_and_text(path: Path) -> tuple[RigConfig, str]:
    """Return a rig file as `load_rig` does, and the very text that it was made of."""
    text = _text(path)
    rig = validate(RigConfig, _parsed(text, path), source=str(path))
    rig = rig.model_copy(update={"mqtt": rig.mqtt.beside(path.parent)})
    if rig.simulation is None:
        return rig, text
    world = path.parent / rig.simulation.world
    return rig.model_copy(update={"simulation": SimulationConfig(world=world)}), text
