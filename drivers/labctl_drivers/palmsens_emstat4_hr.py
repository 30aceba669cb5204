"""PalmSens EmStat4 HR (EmStat4S HR and others with this firmware): impedance, open circuit.

Interface: USB (CDC-ACM) or UART, lines end in LF. Source: PalmSens communication protocol manual
(commands `t`, `i`, `v`, `e`, `Z`), MethodSCRIPT manual 1.8 (scripts, packets, ranges).
"""

from __future__ import annotations

import math
import re
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pymeasure.instruments import Instrument
from pyvisa.constants import ControlFlow

from labctl.errors import (
    DeviceError,
    ReplyError,
    ReplyTimeoutError,
    UnreachableError,
    WrongInstrumentError,
)
from labctl.instruments.limits import check_limit
from labctl.instruments.techniques import Eis, Frame, Identity, Ocp, PotentiostatLimits
from labctl.instruments.transport import LinkSettings
from labctl.quantities import FrequencyHz
from labctl_drivers import methodscript_loops as loops
from labctl_drivers.methodscript_device import MethodScriptDevice
from labctl_drivers.methodscript_errors import find_error
from labctl_drivers.methodscript_packets import EMSTAT4_HR_CURRENT_RANGES_A, Packet
from labctl_drivers.methodscript_script import PgstatMode, Script

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from pymeasure.adapters import Adapter

    from labctl.instruments.bus import Connection

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

_MAX_BANDWIDTH_HZ = 1e6  # what the vendor's impedance example sets
_MAX_DC_BANDWIDTH_HZ = 200e3
_BANDWIDTH_INTERVALS = 6.0  # bandwidth x interval in the vendor's open-circuit example
_POTENTIAL_RANGE_V = 4.0  # pinned to this in the vendor's examples
_RANGES_A = list(EMSTAT4_HR_CURRENT_RANGES_A.values())
_FIRST_IMPEDANCE_OHM = 100.0  # a pellet at the first, highest frequency
_SHORTEST_INTERVAL_S = 1e-3  # inference; what is too fast for the instrument it says itself
# Longest silence seen on a bench was 10 periods; 30 periods and 3 s were always enough.
_PERIODS_PER_POINT = 30.0
_POINT_S = 3.0
_START_S = 5.0
_FIRMWARE = re.compile(r"es4_hr(?P<digits>\d{2}|\d{4})#(?P<build>.*) (?P<release>[A-Z])\*")


class EmStat4HrSettings(BaseModel):
    """What a rig file may set for an EmStat4 HR."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: int = Field(default=0, ge=0)
    mains_frequency: FrequencyHz = 50.0

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
    """An EmStat4 HR: `CanEis`, `CanOcp`."""

    Settings = EmStat4HrSettings
    LINK: ClassVar[LinkSettings] = LINK
    limits: PotentiostatLimits = LIMITS

    def __init__(self, connection: Connection, settings: EmStat4HrSettings) -> None:
        self.name = connection.name
        self._connection = connection
        self._settings = settings
        self._device = MethodScriptDevice(connection, cell_off=_cell_off_script(settings.channel))

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
        self._check_eis(parameters)
        return self._measure_eis(parameters)

    def ocp(self, parameters: Ocp) -> AsyncGenerator[Frame, None]:
        """Yield one frame per reading with the columns of `Ocp.UNITS`; the cell is off."""
        self._check_ocp(parameters)
        return self._measure_ocp(parameters)

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

    def _check_eis(self, parameters: Eis) -> None:
        for key in ("frequency_start_hz", "frequency_end_hz"):
            self._check(key, getattr(parameters, key), self.limits.frequency_hz, "Hz")
        amplitude_v_rms = parameters.amplitude_v_rms
        self._check("amplitude_v_rms", amplitude_v_rms, self.limits.amplitude_v_rms, "V")
        peak_v = amplitude_v_rms * math.sqrt(2)
        low_v, high_v = self.limits.potential_v
        self._check("bias_v", parameters.bias_v, (low_v + peak_v, high_v - peak_v), "V")
        self._check("n_points", parameters.n_points, (1, math.inf), "points")

    def _check_ocp(self, parameters: Ocp) -> None:
        self._check("interval_s", parameters.interval_s, (_SHORTEST_INTERVAL_S, math.inf), "s")
        self._check("duration_s", parameters.duration_s, (parameters.interval_s, math.inf), "s")

    def _check(self, key: str, value: float, allowed: tuple[float, float], unit: str) -> None:
        check_limit(self.name, key, value, allowed, unit)

    async def _measure_eis(self, parameters: Eis) -> AsyncGenerator[Frame, None]:
        frequencies_hz = parameters.frequencies_hz()
        frequencies_hz += [parameters.frequency_start_hz] * parameters.repeats_first

        def timeout_s(n_done: int) -> float:
            next_hz = frequencies_hz[min(n_done, len(frequencies_hz) - 1)]
            return _PERIODS_PER_POINT / next_hz + _POINT_S + _START_S * (n_done == 0)

        run = self._device.run(self._eis_script(parameters).lines(), timeout_after=timeout_s)
        async with aclosing(run) as packets:
            async for loop, packet in packets:
                yield self._eis_frame(packet, is_repeat=loop > 1)

    async def _measure_ocp(self, parameters: Ocp) -> AsyncGenerator[Frame, None]:
        timeout_s = parameters.interval_s + _POINT_S + _START_S
        script = self._ocp_script(parameters).lines()
        run = self._device.run(script, timeout_after=lambda _: timeout_s)
        async with aclosing(run) as packets:
            async for _, packet in packets:
                elapsed_s, potential_v = self._values(packet, ("s", "V"))
                yield _frame(Ocp.UNITS, elapsed_s, potential_v, packet.status_bits)

    def _eis_frame(self, packet: Packet, *, is_repeat: bool) -> Frame:
        frequency_hz, z_real_ohm, z_imag_ohm, amplitude_v_rms, bias_v = self._values(
            packet, ("Hz", "ohm", "ohm", "V", "V")
        )
        return _frame(
            Eis.UNITS,
            frequency_hz,
            z_real_ohm,
            z_imag_ohm,
            amplitude_v_rms,
            bias_v,
            packet.range_in(EMSTAT4_HR_CURRENT_RANGES_A),
            packet.status_bits,
            is_repeat,
        )

    def _values(self, packet: Packet, units: tuple[str, ...]) -> list[float]:
        """Return the values of a packet, which has to hold variables of just these units."""
        if tuple(item.unit for item in packet.variables) != units:
            message = f"expected variables in {', '.join(units)}"
            raise ReplyError(self.name, message, reply=packet.line)
        return [item.value for item in packet.variables]

    def _eis_script(self, parameters: Eis) -> Script:
        script = self._new_script()
        frequency, z_real, z_imag = (script.var(name) for name in ("f", "zr", "zi"))
        acdc = loops.AcDc(*(script.var(name) for name in ("ea", "ed", "ia", "id")))
        bias_v = parameters.bias_v
        script.set_max_bandwidth(_MAX_BANDWIDTH_HZ)
        script.set_range_minmax("da", bias_v, bias_v)
        script.set_range("ba", _first_range_a(parameters))
        script.set_autoranging("ba", _RANGES_A[0], _RANGES_A[-1])
        script.set_e(bias_v)
        script.cell_on()
        for sweep in _sweeps(parameters):
            with loops.eis(
                script,
                frequency,
                z_real,
                z_imag,
                amplitude_v_rms=parameters.amplitude_v_rms,
                start_hz=sweep[0],
                end_hz=sweep[1],
                n_points=sweep[2],
                bias_v=bias_v,
                acdc=acdc,
            ):
                script.packet(frequency, z_real, z_imag, acdc.potential_ac, acdc.potential_dc)
        script.cell_off()
        return script

    def _ocp_script(self, parameters: Ocp) -> Script:
        script = self._new_script()
        elapsed, potential = script.var("t"), script.var("p")
        bandwidth_hz = _BANDWIDTH_INTERVALS / parameters.interval_s
        script.set_max_bandwidth(min(bandwidth_hz, _MAX_DC_BANDWIDTH_HZ))
        script.cell_off()
        script.timer_start()
        with loops.ocp(
            script, potential, interval_s=parameters.interval_s, duration_s=parameters.duration_s
        ):
            script.timer_get(elapsed)
            script.packet(elapsed, potential)
        return script

    def _new_script(self) -> Script:
        script = Script()
        script.set_pgstat_chan(self._settings.channel)
        script.set_pgstat_mode(PgstatMode.HIGH_SPEED)
        script.set_acquisition_frac_autoadjust(self._settings.mains_frequency)
        script.set_range("ab", _POTENTIAL_RANGE_V)
        script.set_autoranging("ab", _POTENTIAL_RANGE_V, _POTENTIAL_RANGE_V)
        return script


def _cell_off_script(channel: int) -> tuple[str, ...]:
    """Return the shortest script that switches the cell off; channel 0 is selected at its start."""
    return ("cell_off",) if channel == 0 else (f"set_pgstat_chan {channel}", "cell_off")


def _first_range_a(parameters: Eis) -> float:
    """Return the current range to begin with.

    The instrument moves one range per point at most (seen in a recorded spectrum that begins in
    10 mA with four of five points in underload), so a first guess saves the first points.
    """
    expected_a = parameters.amplitude_v_rms / (
        parameters.first_impedance_ohm or _FIRST_IMPEDANCE_OHM
    )
    return next((range_a for range_a in _RANGES_A if range_a >= expected_a), _RANGES_A[-1])


def _sweeps(parameters: Eis) -> list[tuple[float, float, int]]:
    """Return start, end and number of points of the loops that one spectrum takes."""
    start_hz, n_points = parameters.frequency_start_hz, parameters.n_points
    end_hz = parameters.frequency_end_hz if n_points > 1 else start_hz
    repeat = [(start_hz, start_hz, 1)] if parameters.repeats_first else []
    return [(start_hz, end_hz, n_points), *repeat]


def _frame(units: Mapping[str, str], *values: float) -> Frame:
    """Return a frame of one point from its values, in the order of its columns."""
    return Frame({name: [float(value)] for name, value in zip(units, values, strict=True)})


def _dotted_version(digits: str) -> str:
    """Return the firmware version: `1100` is 1.1.00, `13` is 1.3."""
    return ".".join(filter(None, (digits[0], digits[1], digits[2:])))
