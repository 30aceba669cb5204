"""Lake Shore 336 temperature controller: one sensor input and one heater output as a stage.

Interface: TCP port 7777, USB serial 57600 7-O-1 or GPIB; lines end in LF, replies in CR LF; at
most 20 messages a second. Source: Lake Shore 336 manual, remote interface chapter.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pyvisa import Error as VisaError
from pyvisa.constants import Parity, StopBits

from labctl.errors import (
    DeviceError,
    InstrumentError,
    LabctlError,
    LimitError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments.techniques import Identity, StageLimits, StageReading
from labctl.instruments.transport import LinkSettings
from labctl.quantities import TemperatureK
from labctl_drivers.lakeshore_336_wire import Input336, LakeShore336Wire, Output336

if TYPE_CHECKING:
    from labctl.instruments.bus import Connection

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
_CLOSED_LOOP = 1
_ATTEMPTS = 3


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
        self._n_safe_states = 0
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
        self._wire = None
        with suppress(LabctlError, OSError, VisaError):
            await self._connection.close()

    async def read(self) -> StageReading:
        """Return temperature, setpoint, heater output and status now.

        While a ramp runs, the setpoint is the one that moves. The temperature is NaN where the
        status bits say that the reading is not to be trusted (`Input336.reading_status`).
        """
        wire, output = self._open_wire(), self._settings.output
        queries = (*self._reading_queries(), f"SETP? {output}", f"HTR? {output}")
        answers = await self._connection.ask(lambda: wire.ask_together(*queries))
        temperature_k, bits = self._temperature(answers[0], answers[1])
        setpoint_k, heater_percent = (self._number(text) for text in answers[2:])
        return StageReading(temperature_k, setpoint_k, heater_percent, bits)

    async def ramp_to(self, temperature_k: float, *, rate_k_per_min: float) -> None:
        """Start towards a temperature, heater on; return when the controller has confirmed.

        A ramp begins at the present setpoint, which may be far from the present temperature: so
        the setpoint is first put there with the ramp off.

        Raises:
            LimitError: temperature or rate outside the limits; nothing was sent.
            DeviceError: the sensor's reading is not valid, or the controller refused.
        """
        self._check("temperature_k", temperature_k, self.limits.temperature_k, "K")
        self._check("rate_k_per_min", rate_k_per_min, self.limits.rate_k_per_min, "K/min")
        n_safe_states = self._n_safe_states
        start_k = await self._valid_temperature_k()
        await self._set("ramp", (0, rate_k_per_min))
        await self._set("setpoint", start_k)
        await self._set("ramp", (1, rate_k_per_min))
        await self._set("setpoint", temperature_k)
        if self._n_safe_states != n_safe_states:
            raise InstrumentError(self.name, "made safe meanwhile: the heater stays off")
        await self._set("range", self._settings.heater_range)
        await self._check_ramp(start_k, temperature_k)

    async def safe_state(self) -> None:
        """Switch the heater off, stop the ramp, and put the setpoint where the temperature is.

        Raises:
            DeviceError: the heater range does not read back as off.
        """
        self._n_safe_states += 1
        await self._heater_off()
        # The lowest rate, in case somebody switches the ramp on at the front panel.
        await self._set("ramp", (0, LIMITS.rate_k_per_min[0]))
        temperature_k, bits = await self._read_temperature()
        if not bits:
            await self._set("setpoint", temperature_k)

    async def _heater_off(self) -> None:
        """Switch the heater off and read it back; a garbled answer is asked for again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._set("range", "off")
                return await self._check_heater_off()
            except ReplyError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError  # the loop returns or raises

    async def _check_heater_off(self) -> None:
        """Raise DeviceError unless the range reads back as 0.

        The range is asked for together with the heater's output, so that no late event status,
        which is a mere 0 too, can be taken for it.
        """
        wire, output = self._open_wire(), self._settings.output
        queries = f"RANGE? {output}", f"HTR? {output}"
        heater_range, _ = await self._connection.ask(lambda: wire.ask_together(*queries))
        if self._number(heater_range) != 0:
            raise DeviceError(self.name, f"heater range reads {heater_range}", code="RANGE")

    async def _identify(self) -> Identity:
        wire = self._open_wire()
        await self._connection.call(lambda: wire.write(""))  # ends a half-sent line of the past
        await asyncio.sleep(_SETTLE_S)
        try:
            answer = await self._connection.ask(lambda: str(wire.id))
        except ReplyTimeoutError as error:
            raise UnreachableError(self.name, f"nothing answers: {error}") from error
        maker, model, serial_number, firmware = (*answer.split(","), "", "", "")[:4]
        if (maker, model) != ("LSCI", "MODEL336") or not firmware:
            raise WrongInstrumentError(self.name, f"no Lake Shore 336, but {answer!r}")
        return Identity("Lake Shore", "336", serial_number, firmware)

    async def _set_guards(self) -> None:
        """Bind the output to the input, and hand the temperature limit to the controller."""
        wire = self._open_wire()
        await self._connection.ask(lambda: wire.ask_together("*ESR?"))  # faults of the past
        wanted = [_CLOSED_LOOP, "ABCD".index(self._settings.input) + 1, 0]
        if await self._get("mode") != wanted:
            await self._set("mode", tuple(wanted))
            mode = await self._get("mode")
            if mode != wanted:
                raise DeviceError(self.name, f"output mode reads {mode}", code="OUTMODE")
        limit_k = self._settings.max_temperature
        if limit_k is None:
            return
        channel = self._input()
        await self._connection.ask(lambda: setattr(channel, "temperature_limit", limit_k))
        readback_k = await self._connection.ask(lambda: channel.temperature_limit)
        if not abs(self._number(readback_k) - limit_k) <= _LIMIT_TOLERANCE_K:
            message = f"temperature limit reads {readback_k} K instead of {limit_k:g} K"
            raise DeviceError(self.name, message, code="TLIMIT")

    async def _check_ramp(self, start_k: float, target_k: float) -> None:
        """Raise DeviceError unless setpoint and range read back as they were set."""
        setpoint_k, heater_range = await self._get("setpoint"), await self._get("range")
        # Whether SETP? gives the target or the setpoint on its way is not known: both will do.
        low_k, high_k = sorted((start_k, target_k))
        slack_k = _SETPOINT_TOLERANCE_K
        if not low_k - slack_k <= self._number(setpoint_k) <= high_k + slack_k:
            message = f"setpoint reads {setpoint_k} K on the way from {start_k} to {target_k} K"
            raise DeviceError(self.name, message, code="SETP")
        if heater_range != self._settings.heater_range:
            raise DeviceError(self.name, f"heater range reads {heater_range}", code="RANGE")

    async def _valid_temperature_k(self) -> float:
        temperature_k, bits = await self._read_temperature()
        if bits:
            faults = ", ".join(text for bit, text in _READING_FAULTS.items() if bits & bit)
            message = f"input {self._settings.input} has no valid reading: {faults}"
            raise DeviceError(self.name, message, code=f"RDGST {bits}")
        return temperature_k

    async def _read_temperature(self) -> tuple[float, int]:
        wire = self._open_wire()
        answers = await self._connection.ask(lambda: wire.ask_together(*self._reading_queries()))
        return self._temperature(*answers)

    def _reading_queries(self) -> tuple[str, str]:
        return f"KRDG? {self._settings.input}", f"RDGST? {self._settings.input}"

    def _temperature(self, reading: str, status: str) -> tuple[float, int]:
        """Return temperature, NaN if it is not to be trusted, and status bits."""
        bits = int(self._number(status))
        return (math.nan if bits else self._number(reading)), bits

    def _number(self, answer: object) -> float:
        try:
            number = float(answer)  # type: ignore[arg-type]
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ReplyError(self.name, "expected a number", reply=str(answer))
        return number

    def _check(self, key: str, value: float, allowed: tuple[float, float], unit: str) -> None:
        low, high = allowed
        if not low <= value <= high:
            allowed_text = f"{low:g} to {high:g} {unit}"
            raise LimitError(f"{self.name}: {key} = {value:g} {unit}: allowed are {allowed_text}")

    async def _get(self, key: str) -> Any:
        """Return a property of the output."""
        channel = self._output()
        try:
            return await self._connection.ask(lambda: getattr(channel, key))
        except KeyError as error:  # pymeasure's word for a number that stands for nothing
            raise ReplyError(
                self.name, f"{key} reads as nothing known", reply=str(error)
            ) from error

    async def _set(self, key: str, value: object) -> None:
        """Set a property of the output; absolute values all, so asking twice does no harm.

        A fault in the event status may be that of an earlier query, garbled on the line; reading
        it has cleared it, so a second attempt tells.
        """
        channel = self._output()
        try:
            await self._connection.ask(lambda: setattr(channel, key, value))
        except DeviceError:
            await self._connection.ask(lambda: setattr(channel, key, value))

    def _output(self) -> Output336:
        wire = self._open_wire()
        return wire.output_1 if self._settings.output == 1 else wire.output_2

    def _input(self) -> Input336:
        return getattr(self._open_wire(), f"input_{self._settings.input}")

    def _open_wire(self) -> LakeShore336Wire:
        if self._wire is None:
            raise UnreachableError(self.name, "the line is not open")
        return self._wire
