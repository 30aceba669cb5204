"""PalmSens EmStat4 HR (EmStat4S HR and others with this firmware).

Interface: USB (CDC-ACM) or UART, lines end in LF. Source: PalmSens communication protocol manual
(commands `t`, `i`, `v`, `e`, `Z`), MethodSCRIPT manual 1.8 (scripts, packets, ranges).
"""

from __future__ import annotations

import copy
import math
import re
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pymeasure.instruments import Instrument
from pyvisa.constants import ControlFlow

from labctl.errors import (
    DeviceError,
    LimitError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv
from labctl.instruments.limits import check_limit, check_technique
from labctl.instruments.techniques import Eis, Frame, Geis, Identity, Ocp, PotentiostatLimits
from labctl.instruments.transport import LinkSettings
from labctl.quantities import FrequencyHz
from labctl_drivers.emstat4_hr_common import new_script
from labctl_drivers.emstat4_hr_dc import DcPoints, interval_s, ocp_frame, write_dc, write_ocp
from labctl_drivers.emstat4_hr_impedance import (
    all_frequencies_hz,
    eis_frame,
    geis_frame,
    write_eis,
    write_geis,
)
from labctl_drivers.methodscript_device import MethodScriptDevice
from labctl_drivers.methodscript_errors import find_error
from labctl_drivers.methodscript_script import PgstatMode, Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from pymeasure.adapters import Adapter

    from labctl.instruments.bus import Connection
    from labctl.instruments.techniques import Technique
    from labctl_drivers.emstat4_hr_dc import Dc
    from labctl_drivers.methodscript_device import Sent

# MethodSCRIPT manual, limits of each device. It states no lowest frequency and no lowest amplitude:
# 10 uHz, 1 mV and 1 nA are inference, as are the fastest sweep and the shortest interval.
LIMITS = PotentiostatLimits(
    potential_v=(-6.0, 6.0),
    current_a=(-0.2, 0.2),
    frequency_hz=(1e-5, 200e3),
    amplitude_v_rms=(1e-3, 0.9),
    amplitude_a_rms=(1e-9, 0.1),
    rate_v_per_s=(1e-6, 10.0),
    interval_s=(1e-3, math.inf),
)
# The UART variants shake hands by RTS/CTS (communication protocol manual); that it has no effect on
# USB, where the speed has none, is inference.
LINK = LinkSettings(
    reply_timeout_s=0.5, serial={"baud_rate": 921_600, "flow_control": ControlFlow.rts_cts}
)

_STEP_V = 12.0 / 2**16  # what the converter of +-6 V resolves: inference
_ANY = (0.0, math.inf)
_STOP_SIZES = {"current_above_a": "A", "current_below_a": "A", "charge_above_c": "C"}
_SOURCE = "MethodSCRIPT manual, device limits"
# Longest silence seen on a bench was 10 periods; 30 periods and 3 s were always enough.
_PERIODS_PER_POINT = 30.0
_POINT_S = 3.0
_START_S = 5.0
# The vendor's examples for EmStat4 instruments with a multiplexer: type, channels counted from 1,
# and 5 ms to settle. That no option set means a RE and a CE of each input's own is inference.
_MULTIPLEXERS = {"mux8": (1, 8), "mux16": (2, 16), "mux8-r2": (3, 8)}
_MULTIPLEXER_OPTIONS = 0
_MULTIPLEXER_SETTLES_S = 5e-3
_FIRMWARE = re.compile(r"es4_hr(?P<digits>\d{2}|\d{4})#(?P<build>.*) (?P<release>[A-Z])\*")


class EmStat4HrSettings(BaseModel):
    """What a rig file may set for an EmStat4 HR."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: int = Field(default=0, ge=0)
    mains_frequency: FrequencyHz = 50.0
    multiplexer: Literal["mux8", "mux16", "mux8-r2"] | None = None

    @field_validator("mains_frequency")
    @classmethod
    def _is_a_mains_frequency(cls, value: float) -> float:
        if value not in (50.0, 60.0):
            raise ValueError('expected "50 Hz" or "60 Hz"')
        return value


class EmStat4HrWire(Instrument):
    """The commands of an idle EmStat4 HR; replies begin with the command's first character."""

    def __init__(self, adapter: Adapter, name: str = "EmStat4 HR", **kwargs: Any) -> None:
        super().__init__(adapter, name, includeSCPI=False, **kwargs)

    def ask(self, command: str, query_delay: float | None = None) -> str:
        """Return the reply to a command without its echo.

        Raises:
            ReplyError: the reply does not begin with the command's first character.
            DeviceError: the device refuses the command.
        """
        self.adapter.flush_read_buffer()  # an answer that came too late is not this one's
        reply = super().ask(command, query_delay)
        error = find_error(reply)
        if error is not None:
            raise DeviceError(self.name, f"{error.meaning}: {command!r}", code=error.code)
        if not reply.startswith(command[0]):
            raise ReplyError(self.name, f"no echo of {command!r}", reply=reply)
        return reply[1:]

    @property
    def firmware(self) -> str:
        """Get device, version, build date and release letter, such as es4_hr1100#... R* (str)."""
        return f"{self.ask('t')} {self.read()}"

    serial_number = Instrument.measurement(
        "i", """Get the serial number (str).""", cast=str, maxsplit=0
    )
    methodscript_version = Instrument.measurement(
        "v", """Get the version of MethodSCRIPT that it understands (str).""", cast=str, maxsplit=0
    )


class PalmSensEmStat4Hr:
    """An EmStat4 HR: `CanEis`, `CanGeis`, `CanOcp`, `CanCa`, `CanCp`, `CanLsv`, `CanCv`."""

    Settings = EmStat4HrSettings
    LINK: ClassVar[LinkSettings] = LINK
    limits: PotentiostatLimits = LIMITS

    def __init__(self, connection: Connection, settings: EmStat4HrSettings) -> None:
        self.name = connection.name
        self._connection = connection
        self._settings = settings
        self._device = MethodScriptDevice(connection, cell_off=_cell_off_script(settings.channel))
        self.multiplexer_input: int | None = None

    def at_input(self, number: int) -> Self:
        """Return this potentiostat as it measures at one input of its multiplexer, from 1 on.

        Raises:
            LimitError: there is no such input.
        """
        kind = self._settings.multiplexer
        if kind is None:
            raise LimitError(
                f"{self.name}: settings.multiplexer: missing; expected one of "
                + ", ".join(_MULTIPLEXERS)
            )
        allowed = (1, _MULTIPLEXERS[kind][1])
        check_limit(self.name, "multiplexer_input", number, allowed, "")
        at_input = copy.copy(self)
        at_input.multiplexer_input = number
        return at_input

    async def open(self) -> Identity:
        """Open the line, stop a script that an earlier process left, and return who answers.

        Raises:
            UnreachableError: nothing answers.
            WrongInstrumentError: something else than an EmStat4 HR answers.
        """
        transport = await self._connection.open(LINK)
        try:
            return await self._identify(EmStat4HrWire(transport, self.name))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Free the address; whatever runs on the instrument goes on."""
        await self._connection.close()

    async def safe_state(self) -> None:
        """Stop whatever runs and switch the cell off; works on a device in any state."""
        await self._device.make_cell_safe()

    async def cell_off(self) -> None:
        """Stop whatever runs and disconnect the cell."""
        await self._device.make_cell_safe()

    def eis(self, parameters: Eis) -> AsyncGenerator[Frame, None]:
        """Yield one frame per frequency with the columns of `Eis.UNITS`.

        `bias_v` and `amplitude_v_rms` are what the instrument measured, `frequency_hz` what it
        reports (it quantises), `current_range_a` is NaN where the firmware names no range, and
        `z_imag_ohm` is +Im(Z), negative for a capacitor, as the instrument sends it.
        """
        self._check(parameters)
        script = self._new_script(PgstatMode.HIGH_SPEED)
        write_eis(script, parameters)
        return self._measure(script, _sweep_timeout(parameters), eis_frame)

    def geis(self, parameters: Geis) -> AsyncGenerator[Frame, None]:
        """Yield one frame per frequency with the columns of `Geis.UNITS`, otherwise as `eis`."""
        self._check(parameters)
        script = self._new_script(PgstatMode.GALVANOSTAT)
        write_geis(script, parameters)
        return self._measure(script, _sweep_timeout(parameters), geis_frame)

    def ocp(self, parameters: Ocp) -> AsyncGenerator[Frame, None]:
        """Yield one frame per reading with the columns of `Ocp.UNITS`; the cell is off."""
        self._check(parameters)
        script = self._new_script(PgstatMode.HIGH_SPEED)
        write_ocp(script, parameters)
        return self._measure(script, _steady_timeout(parameters), ocp_frame)

    def ca(self, parameters: Ca) -> AsyncGenerator[Frame, None]:
        """Yield one frame per point with the columns of `Ca.UNITS`, potential and current measured.

        `current_range_a` is NaN where the firmware names no range.
        """
        return self._measure_dc(parameters, PgstatMode.HIGH_SPEED)

    def cp(self, parameters: Cp) -> AsyncGenerator[Frame, None]:
        """Yield one frame per point with the columns of `Cp.UNITS`, otherwise as `ca`."""
        return self._measure_dc(parameters, PgstatMode.GALVANOSTAT)

    def lsv(self, parameters: Lsv) -> AsyncGenerator[Frame, None]:
        """Yield one frame per step with the columns of `Lsv.UNITS`, otherwise as `ca`."""
        return self._measure_dc(parameters, PgstatMode.HIGH_SPEED)

    def cv(self, parameters: Cv) -> AsyncGenerator[Frame, None]:
        """Yield one frame per step with the columns of `Cv.UNITS`; scans count from 1."""
        return self._measure_dc(parameters, PgstatMode.HIGH_SPEED)

    async def _identify(self, wire: EmStat4HrWire) -> Identity:
        try:
            await self._device.synchronise()
            firmware = await self._connection.ask(lambda: wire.firmware)
        except ReplyTimeoutError as error:
            await self._blame(error)
            raise UnreachableError(self.name, "nothing answers") from error
        except ReplyError as error:
            raise WrongInstrumentError(self.name, f"no EmStat4 HR: {error}") from error
        match = _FIRMWARE.fullmatch(firmware)
        if match is None:
            raise WrongInstrumentError(self.name, f"no EmStat4 HR, but {firmware!r}")
        extra = {"build": match["build"], "release": match["release"]}
        extra["methodscript"] = await self._connection.ask(lambda: str(wire.methodscript_version))
        serial_number = await self._connection.ask(lambda: str(wire.serial_number))
        return Identity(
            "PalmSens", "EmStat4 HR", serial_number, _dotted_version(match["digits"]), extra
        )

    async def _blame(self, silence: ReplyTimeoutError) -> None:
        """Raise WrongInstrumentError if what is silent here answers SCPI's question who it is."""
        transport = self._connection.transport
        await self._connection.call(lambda: transport.write("*IDN?"))
        with suppress(ReplyTimeoutError):
            answer = await self._connection.read_line(timeout_s=_POINT_S)
            raise WrongInstrumentError(self.name, f"no EmStat4 HR, but {answer!r}") from silence

    def _check(self, parameters: Technique) -> None:
        """Raise LimitError unless the instrument can do what a technique asks for."""
        check_technique(self.name, self.limits, parameters, source=_SOURCE)
        for key, value, allowed, unit in _further_limits(parameters):
            check_limit(self.name, key, value, allowed, unit, source=_SOURCE)

    def _measure_dc(self, parameters: Dc, mode: PgstatMode) -> AsyncGenerator[Frame, None]:
        self._check(parameters)
        script = self._new_script(mode)
        write_dc(script, parameters, channel=self._settings.channel)
        points = DcPoints(parameters)
        return self._measure(script, _steady_timeout(parameters), points.frame)

    async def _measure(
        self,
        script: Script,
        timeout_after: Callable[[int], float],
        to_frame: Callable[[str, Sent], Frame],
    ) -> AsyncGenerator[Frame, None]:
        """Yield a frame for each packet that a script sends, as soon as it is there."""
        run = self._device.run(script.lines(), timeout_after=timeout_after)
        async with aclosing(run) as packets:
            async for sent in packets:
                yield to_frame(self.name, sent)

    def _new_script(self, mode: PgstatMode) -> Script:
        settings = self._settings
        script = new_script(
            mode, channel=settings.channel, mains_frequency_hz=settings.mains_frequency
        )
        self._select_input(script)
        return script

    def _select_input(self, script: Script) -> None:
        """Connect the cell of this input, nothing switched under current."""
        kind = self._settings.multiplexer
        if self.multiplexer_input is None or kind is None:
            return
        script.cell_off()
        script.mux_config(_MULTIPLEXERS[kind][0], _MULTIPLEXER_OPTIONS)
        script.mux_set_channel(self.multiplexer_input)
        script.wait(_MULTIPLEXER_SETTLES_S)


def _sweep_timeout(parameters: Eis | Geis) -> Callable[[int], float]:
    """Return how long the instrument may be silent after so many frequencies."""
    frequencies_hz = all_frequencies_hz(parameters)

    def timeout_s(n_done: int) -> float:
        next_hz = frequencies_hz[min(n_done, len(frequencies_hz) - 1)]
        return _PERIODS_PER_POINT / next_hz + _POINT_S + _START_S * (n_done == 0)

    return timeout_s


def _steady_timeout(parameters: Dc | Ocp) -> Callable[[int], float]:
    timeout_s = interval_s(parameters) + _POINT_S + _START_S
    return lambda _: timeout_s


def _further_limits(
    parameters: Technique,
) -> Iterator[tuple[str, float, tuple[float, float], str]]:
    """Yield what has a limit beside the quantities of `PotentiostatLimits`."""
    match parameters:
        case Eis() | Geis():
            yield "n_points", parameters.n_points, (1, math.inf), "points"
        case Ocp() | Ca() | Cp():
            yield "duration_s", parameters.duration_s, (parameters.interval_s, math.inf), "s"
        case Lsv() | Cv():
            yield "step_v", parameters.step_v, (_STEP_V, 2 * LIMITS.potential_v[1]), "V"
        case _:
            pass
    if isinstance(parameters, Ocp) and parameters.stop_change_v is not None:
        yield "stop_change_v", parameters.stop_change_v, _ANY, "V"
        yield "stop_window_s", parameters.stop_window_s, (parameters.interval_s, math.inf), "s"
    if isinstance(parameters, Lsv):
        width_v = abs(parameters.end_v - parameters.begin_v)
        yield "end_v - begin_v", width_v, (parameters.step_v, math.inf), "V"
    if isinstance(parameters, Cv):
        yield "n_scans", parameters.n_scans, (1, math.inf), "scans"
    if isinstance(parameters, Ca | Cp | Lsv | Cv):
        for name, unit in _STOP_SIZES.items():
            if (value := getattr(parameters.stop, name)) is not None:
                yield f"stop.{name}", value, _ANY, unit


def _cell_off_script(channel: int) -> tuple[str, ...]:
    """Return the shortest script that switches the cell off; channel 0 is selected at its start."""
    return ("cell_off",) if channel == 0 else (f"set_pgstat_chan {channel}", "cell_off")


def _dotted_version(digits: str) -> str:
    """Return the firmware version: `1100` is 1.1.00, `13` is 1.3."""
    return ".".join(filter(None, (digits[0], digits[1], digits[2:])))
