"""Simulated Lake Shore 336 temperature controller: TCP 7777 or USB, LF in, CR LF out.

After the Lake Shore 335/336 manuals, chapter 6 (computer interface). Sensor input A and heater
output 1 are wired to the stage; inputs B to D have no sensor, outputs 2 to 4 no load. Inference:
SETP? gives the setpoint that moves while a ramp runs, not its target; the digits of MOUT?; and that
the manual output acts in open loop only, not on top of a closed one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from labctl_simulators.device import LineInstrument
from labctl_simulators.stage import TICK_S, ZERO_CELSIUS_K
from labctl_simulators.temperature_loop import PidLoop, Setpoint

if TYPE_CHECKING:
    from labctl_simulators.world import World

# The manual asks for 50 ms between messages: taken as what the instrument needs for one.
PROCESSING_S = 0.05
_FIRMWARE = "2.9"

# Bits of the standard event status register.
_EXECUTION_ERROR = 16
_COMMAND_ERROR = 32
_POWER_ON = 128
# Bits of the reading status.
_INVALID = 1
_OVERLOADED = 32 + 128  # temperature and sensor units beyond the range

_OFF, _CLOSED_LOOP, _OPEN_LOOP = 0, 1, 3  # output modes
_INPUTS = "ABCD"
# The heater's power relative to the high range, each range a tenth of the next: inference.
_SHARE_OF_RANGE = (0.0, 0.01, 0.1, 1.0)
_HIGHEST_K = 9999.0  # the four digits that TLIMIT has
# Sensor type, autorange, range, compensation, preferred units: a Pt-100 read in kelvin, and none.
_SENSOR, _NO_SENSOR = "2,1,3,1,1", "0,0,0,0,1"
_MESSAGE = re.compile(r"(?P<mnemonic>\*?[A-Z]+)(?P<query>\?)?\s*(?P<arguments>.*)", re.IGNORECASE)


_Query = Callable[[list[str], float], str]
_Command = Callable[[list[str], float], None]
_Handler = TypeVar("_Handler")


class _CommandError(Exception):
    """The message is not one the instrument knows."""


class _ExecutionError(Exception):
    """The message is known, but its arguments make no sense."""


@dataclass
class _Output:
    """The settings of one output; control input 0 is none, 1 is A."""

    number: int
    setpoint: Setpoint
    pid: PidLoop
    mode: int
    control_input: int
    is_on_at_power_up: bool = False
    range: int = 0
    manual_percent: float = 0.0

    @property
    def highest_range(self) -> int:
        """Outputs 1 and 2 have three heater ranges, 3 and 4 are on or off."""
        return 3 if self.number <= 2 else 1


class LakeShore336(LineInstrument):
    """A Lake Shore 336 that controls the stage its world wires it to.

    Args:
        world: holds the stage, and the settings: `serial_number` is shown by `*IDN?`.
        name: the instrument's name in the world.
    """

    port: ClassVar[int] = 7777

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        self._stage = world.stage(name)
        self._serial_number = str(world.settings(name).get("serial_number", "LSA0336"))
        self._event_status = 0
        self._busy_until_s = 0.0
        self._is_overloaded = False
        self._limits_k = dict.fromkeys(_INPUTS, 0.0)
        self._outputs = {
            number: _Output(
                number,
                Setpoint(),
                PidLoop(),
                mode=_CLOSED_LOOP if number <= 2 else _OFF,
                control_input=number if number <= 2 else 0,
            )
            for number in (1, 2, 3, 4)
        }
        self._heater = self._outputs[1]
        self._stage.attach(self)
        self._queries = self._table_of_queries()
        self._commands = self._table_of_commands()

    def heater_share(self, sensor_temperature_k: float, now_s: float) -> float:
        """Return the share of the heater's full power; the stage asks once a tick."""
        limit_k = self._limits_k["A"]
        if 0.0 < limit_k < sensor_temperature_k:
            self._turn_heaters_off()
        heater = self._heater
        if heater.range == 0:
            heater.pid.reset()
        elif heater.mode == _OPEN_LOOP:
            heater.pid.reset()
            heater.pid.output_percent = heater.manual_percent
        elif heater.mode != _CLOSED_LOOP or heater.control_input != 1 or self._is_overloaded:
            heater.pid.reset()
        else:
            heater.pid.step(heater.setpoint.at(now_s) - sensor_temperature_k, TICK_S)
        return _SHARE_OF_RANGE[heater.range] * heater.pid.output_percent / 100.0

    @property
    def is_at_rest(self) -> bool:
        """Whether the heater is off, and stays so until a command switches it on."""
        return self._heater.range == 0

    @property
    def heater_range(self) -> int:
        """The range of the stage's heater: 0 is off, 3 the highest."""
        return self._heater.range

    def advance(self, now_s: float) -> None:
        """Let the stage come to `now_s`; a sensor that is overloaded now was not before."""
        self._stage.advance(now_s)
        self._is_overloaded = self.faults.overload

    def disconnect(self, now_s: float) -> None:
        """A client left: its half message and the replies meant for it go with its socket."""
        super().disconnect(now_s)
        self._partial = b""
        self._replies.clear()

    def power_cycle(self, now_s: float) -> None:
        """Switch off and on: settings are kept, heaters stay off unless set to come back."""
        self.advance(now_s)
        super().power_cycle(now_s)
        self._busy_until_s = now_s
        self._event_status = _POWER_ON
        for output in self._outputs.values():
            output.pid.reset()
            if not output.is_on_at_power_up:
                output.range = 0

    def _handle_line(self, line: str, now_s: float) -> None:
        if not line.strip():
            return
        self.advance(now_s)
        replies = [self._answer(part.strip(), now_s) for part in line.split(";")]
        self._busy_until_s = max(now_s, self._busy_until_s) + PROCESSING_S
        text = ";".join(reply for reply in replies if reply is not None)
        if text:
            self._reply(text.encode("ascii") + b"\r\n", due_s=self._busy_until_s)

    def _answer(self, message: str, now_s: float) -> str | None:
        """Return the answer to one command or query; None if it has none.

        An unknown query gives no data, only a bit in the event status: inferred from how the
        maker's own client reads replies.
        """
        try:
            mnemonic, is_query, arguments = _parse(message)
            if is_query:
                return _known(self._queries, mnemonic)(arguments, now_s)
            _known(self._commands, mnemonic)(arguments, now_s)
        except _CommandError:
            self._event_status |= _COMMAND_ERROR
        except _ExecutionError:
            self._event_status |= _EXECUTION_ERROR
        return None

    def _table_of_queries(self) -> dict[str, _Query]:
        return {
            "*IDN": self._identity,
            "*ESR": self._read_event_status,
            "*OPC": lambda arguments, now_s: "1",
            "KRDG": lambda arguments, now_s: self._readings(arguments, now_s, _kelvin),
            "CRDG": lambda arguments, now_s: self._readings(arguments, now_s, _celsius),
            "SRDG": lambda arguments, now_s: self._readings(arguments, now_s, _ohm),
            "RDGST": lambda arguments, now_s: f"{self._status(_input(arguments)):03d}",
            "INTYPE": lambda arguments, now_s: _SENSOR if _input(arguments) == "A" else _NO_SENSOR,
            "INNAME": lambda arguments, now_s: f"Input {_input(arguments)}".ljust(15),
            "TLIMIT": lambda arguments, now_s: f"{self._limits_k[_input(arguments)]:+05.0f}",
            "SETP": lambda arguments, now_s: f"{self._output(arguments).setpoint.at(now_s):+08.3f}",
            "RAMP": self._ramp,
            "RAMPST": self._ramp_status,
            "RANGE": lambda arguments, now_s: str(self._output(arguments).range),
            "HTR": lambda arguments, now_s: self._output_percent(arguments, (1, 2)),
            "AOUT": lambda arguments, now_s: self._output_percent(arguments, (3, 4)),
            "HTRST": self._heater_status,
            "MOUT": lambda arguments, now_s: f"{self._output(arguments).manual_percent:+07.2f}",
            "PID": self._pid,
            "OUTMODE": self._output_mode,
            "TUNEST": lambda arguments, now_s: "0,0,0,00",  # autotuning is not simulated
        }

    def _table_of_commands(self) -> dict[str, _Command]:
        return {
            "*CLS": self._clear_status,
            "SETP": self._set_setpoint,
            "RAMP": self._set_ramp,
            "RANGE": self._set_range,
            "PID": self._set_pid,
            "MOUT": self._set_manual_output,
            "OUTMODE": self._set_output_mode,
            "TLIMIT": self._set_limit,
        }

    def _identity(self, arguments: list[str], now_s: float) -> str:
        return f"LSCI,MODEL336,{self._serial_number}/#######,{_FIRMWARE}"

    def _read_event_status(self, arguments: list[str], now_s: float) -> str:
        status, self._event_status = self._event_status, 0
        return f"{status:03d}"

    def _clear_status(self, arguments: list[str], now_s: float) -> None:
        self._event_status = 0

    def _readings(self, arguments: list[str], now_s: float, show: Callable[[float], float]) -> str:
        """Return one input's reading, or all four; an invalid one reads zero (inference)."""
        letters = _INPUTS if arguments == ["0"] else _input(arguments)
        temperature_k = self._stage.sensor_reading_k(now_s)
        values = (0.0 if self._status(letter) else show(temperature_k) for letter in letters)
        return ",".join(f"{value:+08.3f}" for value in values)

    def _status(self, letter: str) -> int:
        if letter != "A":
            return _INVALID
        return _OVERLOADED if self._is_overloaded else 0

    def _ramp(self, arguments: list[str], now_s: float) -> str:
        setpoint = self._output(arguments).setpoint
        return f"{setpoint.is_ramp_on:d},{setpoint.ramp_k_per_min:+08.3f}"

    def _ramp_status(self, arguments: list[str], now_s: float) -> str:
        return f"{self._output(arguments).setpoint.is_ramping(now_s):d}"

    def _output_percent(self, arguments: list[str], allowed: tuple[int, int]) -> str:
        output = self._output(arguments)
        if output.number not in allowed:
            raise _ExecutionError
        return f"{output.pid.output_percent:+06.1f}"

    def _heater_status(self, arguments: list[str], now_s: float) -> str:
        """Return 1, open, for an output that is on without a load; it shows once it is on."""
        output = self._output(arguments)
        return "1" if output is not self._heater and output.range else "0"

    def _pid(self, arguments: list[str], now_s: float) -> str:
        pid = self._output(arguments).pid  # the number of digits is inferred from older models
        return f"{pid.p:+07.1f},{pid.i:+07.1f},{pid.d:+07.1f}"

    def _output_mode(self, arguments: list[str], now_s: float) -> str:
        output = self._output(arguments)
        return f"{output.mode},{output.control_input},{output.is_on_at_power_up:d}"

    def _set_setpoint(self, arguments: list[str], now_s: float) -> None:
        output, (setpoint_k,) = self._output_and_numbers(arguments, 1)
        output.setpoint.set_target(_within(setpoint_k, 0.0, _HIGHEST_K), now_s)

    def _set_ramp(self, arguments: list[str], now_s: float) -> None:
        output, (switch, rate) = self._output_and_numbers(arguments, 2)
        is_on = bool(_whole(switch, 1))
        rate = rate if rate == 0.0 else _within(rate, 0.1, 100.0)
        output.setpoint.set_ramp(is_on=is_on, rate_k_per_min=rate, now_s=now_s)

    def _set_range(self, arguments: list[str], now_s: float) -> None:
        output, (chosen,) = self._output_and_numbers(arguments, 1)
        output.range = _whole(chosen, output.highest_range)

    def _set_pid(self, arguments: list[str], now_s: float) -> None:
        output, (p, i, d) = self._output_and_numbers(arguments, 3)
        p, i, d = _within(p, 0.0, 1000.0), _within(i, 0.0, 1000.0), _within(d, 0.0, 200.0)
        output.pid.p, output.pid.i, output.pid.d = p, i, d

    def _set_manual_output(self, arguments: list[str], now_s: float) -> None:
        output, (percent,) = self._output_and_numbers(arguments, 1)
        output.manual_percent = _within(percent, 0.0, 100.0)

    def _set_output_mode(self, arguments: list[str], now_s: float) -> None:
        output, (mode, control_input, power_up) = self._output_and_numbers(arguments, 3)
        settings = _whole(mode, 5), _whole(control_input, 4), bool(_whole(power_up, 1))
        output.mode, output.control_input, output.is_on_at_power_up = settings

    def _set_limit(self, arguments: list[str], now_s: float) -> None:
        if len(arguments) != 2:
            raise _ExecutionError
        letter, limit = _input(arguments[:1]), _number(arguments[1])
        self._limits_k[letter] = _within(limit, 0.0, _HIGHEST_K)

    def _turn_heaters_off(self) -> None:
        for output in self._outputs.values():
            output.range = 0

    def _output(self, arguments: list[str]) -> _Output:
        if len(arguments) != 1 or arguments[0] not in ("1", "2", "3", "4"):
            raise _ExecutionError
        return self._outputs[int(arguments[0])]

    def _output_and_numbers(self, arguments: list[str], count: int) -> tuple[_Output, list[float]]:
        """Return the output that the first argument names and the `count` numbers after it."""
        if len(arguments) != count + 1:
            raise _ExecutionError
        return self._output(arguments[:1]), [_number(text) for text in arguments[1:]]


def _parse(message: str) -> tuple[str, bool, list[str]]:
    """Return a message's mnemonic, whether it asks, and its arguments."""
    match = _MESSAGE.fullmatch(message)
    if match is None:
        raise _CommandError
    arguments = [text.strip() for text in match["arguments"].split(",")]
    return match["mnemonic"].upper(), match["query"] is not None, arguments


def _known(table: dict[str, _Handler], mnemonic: str) -> _Handler:
    if mnemonic not in table:
        raise _CommandError
    return table[mnemonic]


def _input(arguments: list[str]) -> str:
    letter = arguments[0].upper()
    if len(arguments) != 1 or len(letter) != 1 or letter not in _INPUTS:
        raise _ExecutionError
    return letter


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _ExecutionError from None


def _within(number: float, low: float, high: float) -> float:
    if not low <= number <= high:
        raise _ExecutionError
    return number


def _whole(number: float, high: int) -> int:
    if number not in range(high + 1):
        raise _ExecutionError
    return int(number)


def _kelvin(temperature_k: float) -> float:
    return temperature_k


def _celsius(temperature_k: float) -> float:
    return temperature_k - ZERO_CELSIUS_K


def _ohm(temperature_k: float) -> float:
    """Return the resistance of a Pt-100 after IEC 60751, in ohm."""
    celsius = temperature_k - ZERO_CELSIUS_K
    ratio = 1.0 + 3.9083e-3 * celsius - 5.775e-7 * celsius**2
    if celsius < 0.0:
        ratio -= 4.183e-12 * (celsius - 100.0) * celsius**3
    return 100.0 * ratio
