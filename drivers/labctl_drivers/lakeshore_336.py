"""Lake Shore 336 temperature controller: one sensor input and one heater output as a stage.

Interface: TCP port 7777, USB serial 57600 7-O-1 or GPIB; lines end in LF, replies in CR LF; at
most 20 messages a second. Source: Lake Shore 336 manual, remote interface chapter.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict
from pyvisa.constants import Parity, StopBits

from labctl.cancellation import to_the_end
from labctl.errors import (
    DeviceError,
    InstrumentError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments.attempts import again
from labctl.instruments.limits import check_limit
from labctl.instruments.techniques import Identity, StageLimits, StageReading
from labctl.instruments.transport import LinkSettings
from labctl.quantities import TemperatureK
from labctl_drivers.lakeshore_336_wire import Input336, LakeShore336Wire, Output336

if TYPE_CHECKING:
    from labctl.instruments.bus import Connection

_log = logging.getLogger(__name__)

# Rates: manual, RAMP. Temperatures: what the controller can be told with any of its sensors
# (inference, not from the manual); what a stage stands belongs into the rig file.
LIMITS = StageLimits(temperature_k=(0.3, 1505.0), rate_k_per_min=(0.1, 100.0))
LINK = LinkSettings(
    min_gap_s=0.05,
    serial={
        "baud_rate": 57_600,
        "data_bits": 7,
        "parity": Parity.odd,
        "stop_bits": StopBits.one,
    },
)

_SETTLE_S = 0.1  # the maker's own client waits this long after its first line feed
_SETPOINT_TOLERANCE_K = 0.002  # the setpoint is written and read with three decimals
_LIMIT_TOLERANCE_K = 0.5  # how finely TLIMIT is kept is not known
_READING_FAULTS = {
    1: "invalid reading",
    16: "under the curve's temperatures",
    32: "over the curve's temperatures",
    64: "sensor units zero",
    128: "sensor units over range",
}
_HEATER_FAULTS = {1: "open", 2: "shorted"}
_RANGES = {"off": 0, "low": 1, "medium": 2, "high": 3}
_CLOSED_LOOP = 1


class LakeShore336Settings(BaseModel):
    """What a rig file may set for a Lake Shore 336.

    Attributes:
        input: the sensor that the stage's temperature is read from and controlled by.
        output: the heater output.
        heater_range: the range that `ramp_to` switches on.
        max_temperature: above it the controller itself switches its outputs off, whatever the
            host does; no setpoint goes higher. Left alone if not given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Literal["A", "B", "C", "D"] = "A"
    output: Literal[1, 2] = 1
    heater_range: Literal["low", "medium", "high"] = "low"
    max_temperature: TemperatureK | None = None


class LakeShore336:
    """A Lake Shore 336 as a `TemperatureStage`."""

    Settings = LakeShore336Settings
    LINK: ClassVar[LinkSettings] = LINK
    limits: StageLimits = LIMITS

    def __init__(self, connection: Connection, settings: LakeShore336Settings) -> None:
        self.name = connection.name
        self._connection = connection
        self._settings = settings
        self._wire: LakeShore336Wire | None = None
        # Only the latest ramp may switch the heater on, and none that a safe state has met.
        self._ramp: object | None = None
        self._n_making_safe = 0
        self._is_heating = False  # whether a ramp was confirmed, so that the heater should be on
        if settings.max_temperature is not None:
            low_k = LIMITS.temperature_k[0]
            self.limits = replace(LIMITS, temperature_k=(low_k, settings.max_temperature))

    async def open(self) -> Identity:
        """Open the line, check who answers, and set the stage's own guards.

        Raises:
            UnreachableError: nothing answers.
            WrongInstrumentError: something else than a Lake Shore 336 answers.
            DeviceError: the controller did not take the temperature limit.
        """
        transport = await self._connection.open(LINK)
        try:
            self._wire = LakeShore336Wire(transport, self.name)
            identity = await self._identify()
            await self._set_guards()
        except BaseException:
            await self.close()
            raise
        return identity

    async def close(self) -> None:
        """Free the address; the controller goes on as it is."""
        self._wire, self._ramp, self._is_heating = None, None, False
        await self._connection.close()

    async def read(self) -> StageReading:
        """Return temperature, setpoint, heater output and status now.

        While a ramp runs, the setpoint is the one that moves. The temperature is NaN where the
        status bits say that the reading is not to be trusted (`Input336.reading_status`).

        Raises:
            DeviceError: the controller has lost its power since it was opened, or the heater is no
                longer as `ramp_to` left it (its limit has tripped, its load is open or shorted).
        """
        should_heat = self._is_heating
        wire, output = self._open_wire(), self._settings.output
        queries = *self._reading_queries(), *(f"{key}? {output}" for key in ("SETP", "HTR"))
        state = f"RANGE? {output}", f"HTRST? {output}"

        def ask() -> tuple[StageReading, float, float]:
            reading, status, *rest = wire.ask_with_events(*queries, *state)
            temperature_k, bits = _temperature(wire, reading, status)
            setpoint_k, percent, heater_range, fault = map(wire.number, rest)
            return StageReading(temperature_k, setpoint_k, percent, bits), heater_range, fault

        reading, heater_range, fault = await self._connection.ask(ask)
        self._check_power(wire)
        if should_heat and self._is_heating:
            self._check_heats(heater_range, fault)
        return reading

    async def ramp_to(self, temperature_k: float, *, rate_k_per_min: float) -> None:
        """Start towards a temperature, heater on; return when the controller has confirmed.

        A ramp begins at the present setpoint, which may be far from the present temperature: so
        the setpoint is first put there with the ramp off. However this fails or is cancelled, the
        heater is switched off, unless another call has taken charge of it by then.

        Raises:
            LimitError: temperature or rate outside the limits; nothing was sent.
            DeviceError: the sensor's reading is not valid, or the controller refused.
            InstrumentError: another call made the stage safe, or began a ramp.
        """
        check_limit(self.name, "temperature_k", temperature_k, self.limits.temperature_k, "K")
        check_limit(
            self.name, "rate_k_per_min", rate_k_per_min, self.limits.rate_k_per_min, "K/min"
        )
        if self._n_making_safe:
            raise self._superseded()
        ramp = self._ramp = object()
        try:
            await self._start(ramp, temperature_k, rate_k_per_min)
        except BaseException:
            if self._ramp is ramp:
                await self._give_up()
            raise

    async def safe_state(self) -> None:
        """Switch the heater off, stop the ramp, and put the setpoint where the temperature is.

        Raises:
            DeviceError: the heater range does not read back as off.
        """
        self._ramp, self._is_heating = None, False
        self._n_making_safe += 1
        try:
            await self._heater_off()
            # The lowest rate, in case somebody switches the ramp on at the front panel.
            await self._set("ramp", (0, LIMITS.rate_k_per_min[0]))
            temperature_k, bits = await self._read_temperature()
            if not bits:
                await self._set("setpoint", temperature_k)
            await self._keep_heater_off()
        finally:
            self._n_making_safe -= 1

    async def _start(self, ramp: object, temperature_k: float, rate_k_per_min: float) -> None:
        start_k = await self._valid_temperature_k()
        await self._set("ramp", (0, rate_k_per_min), ramp=ramp)
        await self._set("setpoint", start_k, ramp=ramp)
        await self._set("ramp", (1, rate_k_per_min), ramp=ramp)
        await self._set("setpoint", temperature_k, ramp=ramp)
        await self._heater_on(ramp)
        await self._check_ramp(ramp, start_k, temperature_k)
        self._is_heating = True

    async def _heater_on(self, ramp: object) -> None:
        """Switch the heater on, told once: if the answer is lost, the readback decides."""
        self._check_power(self._open_wire())
        output, heater_range = self._output(), self._settings.heater_range

        def switch_on() -> None:
            self._check_is_latest(ramp)
            output.range = heater_range

        with suppress(ReplyTimeoutError, ReplyError):
            await self._connection.call(switch_on)

    def _check_is_latest(self, ramp: object) -> None:
        """Raise InstrumentError unless `ramp` may still act.

        On the bus thread this holds for what is sent next: whoever takes charge does so before he
        asks for a turn there, and what he sends then comes after.
        """
        if self._ramp is not ramp:
            raise self._superseded()

    def _superseded(self) -> InstrumentError:
        return InstrumentError(self.name, "made safe or sent elsewhere: this ramp does not heat")

    async def _give_up(self) -> None:
        """Switch the heater off, also for a cancelled caller; what is wrong then is only logged."""
        self._ramp, self._is_heating = None, False
        try:
            await to_the_end(self._heater_off())
        except InstrumentError as error:
            _log.error("a ramp has failed, and the heater may be on: %s", error)

    async def _heater_off(self) -> None:
        """Switch the heater off and read that back, three times if need be."""
        await again(self._try_heater_off, after=(ReplyError, ReplyTimeoutError, DeviceError))

    async def _try_heater_off(self) -> None:
        await self._set("range", "off")
        await self._check_heater_off()

    async def _keep_heater_off(self) -> None:
        """Read back once more that the heater is off; switch it off again if it is not."""
        try:
            await self._check_heater_off()
        except DeviceError:
            await self._heater_off()

    async def _check_heater_off(self) -> None:
        """Raise DeviceError unless the range reads back as 0.

        The range is asked for together with the heater's output, so that no late event status,
        which is a mere 0 too, can be taken for it.
        """
        heater_range, _ = await self._numbers("RANGE", "HTR")
        if heater_range != 0:
            raise DeviceError(self.name, f"heater range reads {heater_range:g}", code="RANGE")

    async def _identify(self) -> Identity:
        wire = self._open_wire()
        try:
            # A bare line feed ends a half-sent line of the past.
            await self._connection.call(lambda: wire.write(""))
            await asyncio.sleep(_SETTLE_S)
            answer = await self._connection.ask(lambda: str(wire.id))
        except ReplyTimeoutError as error:
            raise UnreachableError(self.name, f"nothing answers: {error}") from error
        except ReplyError as error:
            raise WrongInstrumentError(self.name, f"no Lake Shore 336: {error}") from error
        maker, model, serial_number, firmware = (*answer.split(","), "", "", "")[:4]
        if (maker, model) != ("LSCI", "MODEL336") or not firmware:
            raise WrongInstrumentError(self.name, f"no Lake Shore 336, but {answer!r}")
        return Identity("Lake Shore", "336", serial_number, firmware)

    async def _set_guards(self) -> None:
        """Bind the output to the input, and hand the temperature limit to the controller."""
        await self._connection.ask(self._open_wire().forget_events)  # those of the past
        wanted = [_CLOSED_LOOP, "ABCD".index(self._settings.input) + 1, 0]
        if await self._mode() != wanted:
            await self._set("mode", tuple(wanted))
            mode = await self._mode()
            if mode != wanted:
                raise DeviceError(self.name, f"output mode reads {mode}", code="OUTMODE")
        if self._settings.max_temperature is not None:
            await self._set_limit(self._settings.max_temperature)

    async def _set_limit(self, limit_k: float) -> None:
        channel, number = self._input(), self._open_wire().number
        await self._connection.ask(lambda: setattr(channel, "temperature_limit", limit_k))
        readback_k = await self._connection.ask(lambda: number(channel.temperature_limit))
        if not abs(readback_k - limit_k) <= _LIMIT_TOLERANCE_K:
            message = f"temperature limit reads {readback_k} K instead of {limit_k:g} K"
            raise DeviceError(self.name, message, code="TLIMIT")

    async def _check_ramp(self, ramp: object, start_k: float, target_k: float) -> None:
        """Raise DeviceError unless setpoint and range read back as they were set."""
        setpoint_k, heater_range = await self._numbers("SETP", "RANGE")
        self._check_is_latest(ramp)
        # Whether SETP? gives the target or the setpoint on its way is not known: both will do.
        low_k, high_k = sorted((start_k, target_k))
        slack_k = _SETPOINT_TOLERANCE_K
        if not low_k - slack_k <= setpoint_k <= high_k + slack_k:
            message = f"setpoint reads {setpoint_k} K on the way from {start_k} to {target_k} K"
            raise DeviceError(self.name, message, code="SETP")
        self._check_heats(heater_range, fault=0)
        self._check_power(self._open_wire())

    def _check_heats(self, heater_range: float, fault: float) -> None:
        """Raise DeviceError unless the heater is on in its range and its load is there."""
        if fault:
            message = f"the heater's load is {_HEATER_FAULTS.get(int(fault), 'not in order')}"
            raise DeviceError(self.name, message, code=f"HTRST {fault:g}")
        wanted = self._settings.heater_range
        if heater_range != _RANGES[wanted]:
            message = f"heater range reads {heater_range:g} instead of {_RANGES[wanted]} ({wanted})"
            raise DeviceError(self.name, message, code="RANGE")

    def _check_power(self, wire: LakeShore336Wire) -> None:
        """Raise DeviceError if power was lost: the guards set on opening may be gone."""
        if wire.power_was_lost:
            message = "its power went off and came back: open it again"
            raise DeviceError(self.name, message, code="ESR 128")

    async def _valid_temperature_k(self) -> float:
        temperature_k, bits = await self._read_temperature()
        if bits:
            faults = ", ".join(text for bit, text in _READING_FAULTS.items() if bits & bit)
            message = f"input {self._settings.input} has no valid reading: {faults}"
            raise DeviceError(self.name, message, code=f"RDGST {bits}")
        return temperature_k

    async def _read_temperature(self) -> tuple[float, int]:
        wire, queries = self._open_wire(), self._reading_queries()
        return await self._connection.ask(lambda: _temperature(wire, *wire.ask_together(*queries)))

    def _reading_queries(self) -> tuple[str, str]:
        return f"KRDG? {self._settings.input}", f"RDGST? {self._settings.input}"

    async def _numbers(self, *keys: str) -> list[float]:
        """Return what the controller answers to several queries of the output."""
        wire = self._open_wire()
        queries = [f"{key}? {self._settings.output}" for key in keys]
        return await self._connection.ask(lambda: wire.ask_numbers(*queries))

    async def _mode(self) -> list[int]:
        output = self._output()
        return await self._connection.ask(lambda: cast("list[int]", output.mode))

    async def _set(self, key: str, value: object, *, ramp: object | None = None) -> None:
        """Set a property of the output; absolute values all, so asking twice does no harm.

        A fault in the event status may be that of an earlier query, garbled on the line; reading
        it has cleared it, so a second attempt tells. With `ramp`, nothing is sent unless that ramp
        may still act.
        """
        output = self._output()

        def set_it() -> None:
            if ramp is not None:
                self._check_is_latest(ramp)
            setattr(output, key, value)

        try:
            await self._connection.ask(set_it)
        except DeviceError:
            await self._connection.ask(set_it)

    def _output(self) -> Output336:
        wire = self._open_wire()
        return wire.output_1 if self._settings.output == 1 else wire.output_2

    def _input(self) -> Input336:
        return getattr(self._open_wire(), f"input_{self._settings.input}")

    def _open_wire(self) -> LakeShore336Wire:
        if self._wire is None:
            raise UnreachableError(self.name, "the line is not open")
        return self._wire


def _temperature(wire: LakeShore336Wire, reading: str, status: str) -> tuple[float, int]:
    """Return temperature, NaN if it is not to be trusted, and status bits."""
    bits = int(wire.number(status))
    return (math.nan if bits else wire.number(reading)), bits
