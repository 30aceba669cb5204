"""The rig: the instruments of a rig file, opened, and the channels they form."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.config import CoolingConfig, PotentiostatLimitsConfig, StageLimitsConfig, validate
from labctl.errors import (
    BadInputError,
    InstrumentError,
    LimitError,
    ReplyTimeoutError,
    UnreachableError,
    UnsafeError,
)
from labctl.instruments import registry
from labctl.instruments.bus import Connection
from labctl.instruments.capabilities import (
    Driver,
    HasCell,
    HasMultiplexer,
    TemperatureStage,
)
from labctl.instruments.transport import check_address
from labctl.quantities import celsius

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from labctl.config import ChannelConfig, InstrumentConfig, RigConfig
    from labctl.instruments.bus import Opener
    from labctl.instruments.techniques import Identity

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_LOST = (UnreachableError, ReplyTimeoutError)
# An instrument with room for one client may take a while to see that the old one has gone.
_NEW_LINES_AFTER_S = (0.0, 1.0, 5.0)


@dataclass(frozen=True)
class Limits:
    """What one channel allows: the tightest of instrument and rig file, SI."""

    temperature_k: tuple[float, float]
    rate_k_per_min: tuple[float, float]
    potential_v: tuple[float, float]
    current_a: tuple[float, float]
    frequency_hz: tuple[float, float]
    amplitude_v_rms: tuple[float, float]
    amplitude_a_rms: tuple[float, float]
    rate_v_per_s: tuple[float, float]
    interval_s: tuple[float, float]
    cooling: CoolingConfig | None


@dataclass(frozen=True)
class Channel:
    """One measuring place: the opened instruments wired to one cell, and their limits.

    `u_temperature_k` is the standard uncertainty of the sample's temperature as the stage reads it.
    Whoever measures holds `turn`, which the channels of one potentiostat share.
    """

    name: str
    potentiostat: HasCell
    stage: TemperatureStage
    limits: Limits
    u_temperature_k: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def on_stage(self, stage: TemperatureStage) -> Channel:
        """Return the same channel with another stage."""
        return replace(self, stage=stage)


class Rig:
    """The instruments of one channel or several, built from the rig file and not yet open."""

    def __init__(
        self,
        config: RigConfig,
        *channel_names: str,
        source: str,
        opener_for: Callable[[str, InstrumentConfig], Opener],
    ) -> None:
        self._config = config
        self._source = source
        self._opener_for = opener_for
        wired = [config.channels[name] for name in channel_names]
        names = dict.fromkeys(name for each in wired for name in (each.potentiostat, each.stage))
        self._drivers = {name: self._build(name) for name in names}
        self._turns = {each.potentiostat: asyncio.Lock() for each in wired}
        self.channels = {name: self._channel(name) for name in channel_names}

    @property
    def channel(self) -> Channel:
        """Return the channel; of several the first."""
        return next(iter(self.channels.values()))

    def instruments_of(self, channel_name: str) -> tuple[str, str]:
        """Return the names of a channel's potentiostat and stage."""
        wired = self._config.channels[channel_name]
        return wired.potentiostat, wired.stage

    @property
    def in_use(self) -> Mapping[str, str]:
        """Return what goes on with instruments that were left as they are; nothing here."""
        return {}

    @property
    def drivers(self) -> Mapping[str, Driver]:
        """Return the drivers by instrument name."""
        return self._drivers

    def _build(self, name: str) -> Driver:
        """Return the driver of one instrument; no I/O."""
        instrument = self._config.instruments[name]
        where = f"{self._source}: instruments.{name}"
        kind: Any = registry.find("labctl.drivers", instrument.driver, source=f"{where}.driver")
        check_address(instrument.address, where=f"{where}.address")
        settings = validate(kind.Settings, instrument.settings, source=f"{where}.settings")
        return kind(Connection(name, self._opener_for(name, instrument)), settings)

    def _channel(self, name: str) -> Channel:
        wired = self._config.channels[name]
        where = f"{self._source}: channels.{name}"
        potentiostat = self._role(wired.potentiostat, HasCell, f"{where}.potentiostat")
        stage = self._role(wired.stage, TemperatureStage, f"{where}.stage")
        return Channel(
            name,
            _at_input(potentiostat, wired.multiplexer_input, where=f"{where}.multiplexer_input"),
            stage,
            self._limits(wired, potentiostat, stage),
            self._config.instruments[wired.stage].temperature_uncertainty,
            self._turns[wired.potentiostat],
        )

    def _role(self, name: str, capability: type[_T], where: str) -> _T:
        driver = self._drivers[name]
        if not isinstance(driver, capability):
            raise BadInputError(
                f"{where} = {name!r}: driver {self._config.instruments[name].driver!r} is no "
                f"{where.rpartition('.')[2]}"
            )
        return driver

    def _limits(
        self, wired: ChannelConfig, potentiostat: HasCell, stage: TemperatureStage
    ) -> Limits:
        """Return the tightest of what the instruments can and the rig file allows."""
        stage_file = self._instrument_limits(wired.stage, StageLimitsConfig)
        cell_file = self._instrument_limits(wired.potentiostat, PotentiostatLimitsConfig)
        own, cell = stage.limits, potentiostat.limits
        self._check_guard(wired.stage, own.temperature_k[1], stage_file.temperature_max)
        return Limits(
            temperature_k=_tightest(
                own.temperature_k, stage_file.temperature_min, stage_file.temperature_max
            ),
            rate_k_per_min=_tightest(own.rate_k_per_min, None, stage_file.rate_max),
            potential_v=_tightest(
                cell.potential_v, cell_file.potential_min, cell_file.potential_max
            ),
            current_a=_within(cell.current_a, cell_file.current_max),
            frequency_hz=_tightest(cell.frequency_hz, None, cell_file.frequency_max),
            amplitude_v_rms=_tightest(cell.amplitude_v_rms, None, cell_file.amplitude_rms_max),
            amplitude_a_rms=cell.amplitude_a_rms,
            rate_v_per_s=cell.rate_v_per_s,
            interval_s=cell.interval_s,
            cooling=self._config.instruments[wired.stage].cooling,
        )

    def _check_guard(self, stage: str, own_k: float, allowed_k: float | None) -> None:
        """Refuse a rig that allows setpoints at which the stage's own guard cuts the heater off."""
        if allowed_k is not None and allowed_k > own_k:
            where = f"{self._source}: instruments.{stage}.limits.temperature_max"
            raise BadInputError(
                f"{where} = {celsius(allowed_k):g} degC: expected at most {celsius(own_k):g} degC, "
                "where the instrument, or a guard in its settings, ends"
            )

    def _instrument_limits(self, name: str, model: type[Any]) -> Any:
        source = f"{self._source}: instruments.{name}.limits"
        return validate(model, self._config.instruments[name].limits, source=source)

    async def open(self) -> dict[str, Identity]:
        """Open every instrument and return who answered; on failure all are closed again."""
        identities: dict[str, Identity] = {}
        try:
            for name, driver in self._drivers.items():
                identities[name] = await driver.open()
        except BaseException:
            await self.close()
            raise
        return identities

    async def open_safe(self, *, timeout_s: float) -> dict[str, Identity]:
        """Open every instrument, make each one safe at once, and return who answered.

        Whoever used the rig last may have been killed with the heater on. So one instrument that
        does not answer is no reason to leave the others as they are.

        Raises:
            InstrumentError: the first that cannot be opened, the others are safe or named; all are
                closed again.
            UnsafeError: an instrument could not be made safe; likewise.
        """
        identities: dict[str, Identity] = {}
        failures: list[InstrumentError] = []
        unsafe: list[str] = []
        try:
            for name, driver in self._drivers.items():
                try:
                    identities[name] = await driver.open()
                except InstrumentError as error:
                    failures.append(error)
                else:
                    unsafe.append(await self._make_safe(name, timeout_s))
            _raise_unless_safe(failures, list(filter(None, unsafe)))
        except BaseException:
            await self.close()
            raise
        return identities

    async def close(self) -> None:
        """Close every instrument that is open: one that does not let go keeps no other open.

        Raises:
            InstrumentError: the first that could not be closed.
        """
        failures: list[Exception] = []
        for name, driver in self._drivers.items():
            try:
                await driver.close()
            except Exception as error:  # noqa: BLE001 - raised once all the others are closed
                _log.warning("%s cannot be closed: %s", name, error)
                failures.append(error)
        if failures:
            raise failures[0]

    async def safe_state(
        self, *, timeout_s: float, names: Sequence[str] | None = None
    ) -> dict[str, str]:
        """Make instruments safe, all at once; return "" or what went wrong by instrument.

        All of the rig's, or those named.
        """
        names = list(self._drivers) if names is None else names
        results = await asyncio.gather(*(self._make_safe(name, timeout_s) for name in names))
        return dict(zip(names, results, strict=True))

    async def _make_safe(self, name: str, timeout_s: float) -> str:
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                await _make_safe(self._drivers[name])
        except Exception as error:  # noqa: BLE001 - one instrument's fault must not hide another's
            problem = f"not safe within {timeout_s:g} s" if limit.expired() else str(error)
            return f"{name}: {problem.removeprefix(f'{name}: ')}"
        return ""


def _at_input(potentiostat: HasCell, number: int | None, *, where: str) -> HasCell:
    """Return a potentiostat as it measures at one input of its multiplexer."""
    if number is None:
        return potentiostat
    if not isinstance(potentiostat, HasMultiplexer):
        raise BadInputError(f"{where} = {number}: this driver knows no multiplexer; leave it out")
    try:
        return potentiostat.at_input(number)
    except LimitError as error:
        raise BadInputError(f"{where} = {number}: {error}") from error


async def _make_safe(driver: Driver) -> None:
    """Make one instrument safe; where its line has broken, on a new one: it may be there still."""
    try:
        return await driver.safe_state()
    except _LOST as error:
        _log.warning("%s; making it safe on a new line", error)
        lost = error
    for wait_s in _NEW_LINES_AFTER_S:
        await asyncio.sleep(wait_s)
        await driver.close()
        try:
            await driver.open()  # which checks who answers
            return await driver.safe_state()
        except _LOST as error:
            lost = error
    raise lost


def _raise_unless_safe(failures: Sequence[InstrumentError], unsafe: Sequence[str]) -> None:
    """Raise what is the matter after opening, if anything is; first what cannot be made safe."""
    if unsafe:
        also = [str(failure) for failure in failures]
        raise UnsafeError("NOT SAFE, nothing was started: " + "; ".join([*unsafe, *also]))
    if failures:
        raise failures[0]


def _within(own: tuple[float, float], largest: float | None) -> tuple[float, float]:
    """Return the limits of something that may have either sign."""
    return own if largest is None else _tightest(own, -largest, largest)


def _tightest(
    own: tuple[float, float], low: float | None, high: float | None
) -> tuple[float, float]:
    return (
        own[0] if low is None else max(own[0], low),
        own[1] if high is None else min(own[1], high),
    )
