"""What each plain command of a MethodSCRIPT does: variables, settings, packets, waiting.

Sources: PalmSens MethodSCRIPT manual, the vendor's example scripts. Inference: `set_script_output
0` silences the marks of loops as well as packets and strings; how an f-string writes a number.
"""

from collections.abc import Callable, Generator
from typing import TypeVar

from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_memory import Memory
from labctl_simulators.methodscript_packet import Value, encode_packet, round_to_float32
from labctl_simulators.methodscript_potentiostat import Potentiostat, check_potential
from labctl_simulators.methodscript_syntax import (
    Argument,
    Command,
    Literal,
    Operand,
    Reference,
    Text,
    Word,
)

OUTPUT_MODES = (0, 1, 3)  # nothing; to the line; to the line and to storage
MAINS_FREQUENCIES_HZ = (50, 60)

Busy = Generator[float, None, None]
_Argument = TypeVar("_Argument")


class AbortRequested(Exception):  # noqa: N818 - a request, not an error
    """The script is to end: its open loops close, then `on_finished:` runs."""


class BreakLoop(Exception):  # noqa: N818 - control flow, not an error
    """The innermost loop is to end."""


class Actions:
    """The commands that open no scope; each takes the parsed line and may yield busy seconds.

    Args:
        potentiostat: what the commands act on.
        emit: takes each line of output, without the line feed.
        now_s: the instrument's clock in s; it moves by what is yielded.
    """

    def __init__(
        self,
        potentiostat: Potentiostat,
        *,
        emit: Callable[[str], None],
        now_s: Callable[[], float],
    ) -> None:
        self.memory = Memory()
        self._potentiostat = potentiostat
        self._emit_line = emit
        self._now_s = now_s
        self._timer_start_s = now_s()
        self._packet: list[Value] | None = None
        self._has_output = True
        self._handlers = self._table()

    def run(self, command: Command) -> Busy | None:
        """Do one command; what comes back, if anything, is the time it takes."""
        return self._handlers[command.name](command)

    def emit(self, line: str) -> None:
        """Send a line of output unless the script has switched it off."""
        if self._has_output:
            self._emit_line(line)

    def forget_packet(self) -> None:
        """Drop a packet that was begun: its loop was left."""
        self._packet = None

    def _table(self) -> dict[str, Callable[[Command], Busy | None]]:
        potentiostat = self._potentiostat
        return {
            "var": self._declare_variable,
            "array": self._declare_array,
            "store_var": self._store,
            "copy_var": self._copy,
            "add_var": self._calculate,
            "sub_var": self._calculate,
            "mul_var": self._calculate,
            "div_var": self._calculate,
            "wait": self._wait,
            "timer_start": self._start_timer,
            "timer_get": self._get_timer,
            "meas": self._measure,
            "cell_on": lambda _: potentiostat.switch_cell_on(self._now_s()),
            "cell_off": lambda _: potentiostat.switch_cell_off(self._now_s()),
            "set_e": lambda command: potentiostat.set_potential(
                self._number(command, 0), self._now_s()
            ),
            "set_i": lambda command: potentiostat.set_current(
                self._number(command, 0), self._now_s()
            ),
            "set_pgstat_mode": lambda command: potentiostat.set_mode(self._number(command, 0)),
            "set_pgstat_chan": self._set_channel,
            "mux_config": lambda command: potentiostat.configure_multiplexer(
                self._number(command, 0)
            ),
            "mux_set_channel": lambda command: potentiostat.connect_input(
                self._number(command, 0), self._now_s()
            ),
            "set_range": self._set_range,
            "set_range_minmax": self._set_range_minmax,
            "set_autoranging": self._set_autoranging,
            "set_max_bandwidth": self._set_max_bandwidth,
            "set_acquisition_frac_autoadjust": self._set_mains_frequency,
            "set_script_output": self._set_output,
            "send_string": self._send_string,
            "pck_start": self._start_packet,
            "pck_add": self._add_to_packet,
            "pck_end": self._end_packet,
            "abort": self._abort,
            "breakloop": self._break_loop,
        }

    def _declare_variable(self, command: Command) -> None:
        self.memory.declare_variable(self._word(command, 0))

    def _declare_array(self, command: Command) -> None:
        self.memory.declare_array(self._word(command, 0), self._number(command, 1))

    def _store(self, command: Command) -> None:
        value = Value(self._number(command, 1), self._word(command, 2))
        self.memory.write(self._reference(command, 0), value)

    def _copy(self, command: Command) -> None:
        value = self.memory.read(self._operand(command, 0))
        self.memory.write(self._reference(command, 1), value)

    def _calculate(self, command: Command) -> None:
        target, operand = self._reference(command, 0), self._operand(command, 1)
        self.memory.calculate(command.name, target, operand)

    def _wait(self, command: Command) -> Busy:
        yield self._duration(command, 0)

    def _start_timer(self, command: Command) -> None:
        self._timer_start_s = self._now_s()

    def _get_timer(self, command: Command) -> None:
        elapsed_s = round_to_float32(self._now_s() - self._timer_start_s)
        self.memory.write(self._reference(command, 0), Value(elapsed_s, "eb"))

    def _measure(self, command: Command) -> Busy:
        vartype = self._word(command, 2)
        if vartype not in ("ab", "ba", "da"):
            raise ScriptError(ErrorCode.WRONG_VARTYPE)
        yield self._duration(command, 0)
        self.memory.write(self._reference(command, 1), self._reading(vartype))

    def _reading(self, vartype: str) -> Value:
        potentiostat, now_s = self._potentiostat, self._now_s()
        if vartype == "da":
            return Value(round_to_float32(potentiostat.applied_v), "da")
        return potentiostat.read(vartype, now_s)

    def _set_channel(self, command: Command) -> None:
        if self._number(command, 0) != 0:
            raise ScriptError(ErrorCode.NO_SUCH_CHANNEL)

    def _set_range(self, command: Command) -> None:
        selector = self._potentiostat.selector(self._word(command, 0))
        selector.select(self._number(command, 1))

    def _set_range_minmax(self, command: Command) -> None:
        if self._word(command, 0) != "da":
            raise ScriptError(ErrorCode.RANGING_UNSUPPORTED)
        low_v, high_v = self._ordered(command)
        check_potential(low_v)
        check_potential(high_v)

    def _set_autoranging(self, command: Command) -> None:
        selector = self._potentiostat.selector(self._word(command, 0))
        selector.allow(*self._ordered(command))

    def _set_max_bandwidth(self, command: Command) -> None:
        # the filter itself is not simulated: it only has to be wide enough, and scripts say so
        if self._number(command, 0) <= 0:
            raise ScriptError(ErrorCode.MUST_BE_POSITIVE)

    def _set_mains_frequency(self, command: Command) -> None:
        if self._number(command, 0) not in MAINS_FREQUENCIES_HZ:
            raise ScriptError(ErrorCode.OUT_OF_BOUNDS)

    def _set_output(self, command: Command) -> None:
        mode = self._number(command, 0)
        if mode not in OUTPUT_MODES:
            raise ScriptError(ErrorCode.UNKNOWN_OUTPUT_MODE)
        self._has_output = mode != 0

    def _send_string(self, command: Command) -> None:
        pieces = _expect(command.arguments[0], Text).pieces
        written = (each if isinstance(each, str) else self._written(each) for each in pieces)
        self.emit("T" + "".join(written))

    def _written(self, reference: Reference) -> str:
        number = self.memory.number(reference)
        return str(number) if isinstance(number, int) else f"{number:g}"

    def _start_packet(self, command: Command) -> None:
        if self._packet is not None:
            raise ScriptError(ErrorCode.PACKET_MISUSE)
        self._packet = []

    def _add_to_packet(self, command: Command) -> None:
        if self._packet is None:
            raise ScriptError(ErrorCode.PACKET_MISUSE)
        self._packet.append(self.memory.read(self._operand(command, 0)))

    def _end_packet(self, command: Command) -> None:
        if self._packet is None:
            raise ScriptError(ErrorCode.PACKET_MISUSE)
        self.emit(encode_packet(self._packet))
        self._packet = None

    def _abort(self, command: Command) -> None:
        raise AbortRequested

    def _break_loop(self, command: Command) -> None:
        raise BreakLoop

    def _duration(self, command: Command, position: int) -> float:
        duration_s = self._number(command, position)
        if duration_s < 0:
            raise ScriptError(ErrorCode.NEGATIVE)
        return duration_s

    def _ordered(self, command: Command) -> tuple[float, float]:
        low, high = self._number(command, 1), self._number(command, 2)
        if low > high:
            raise ScriptError(ErrorCode.OUT_OF_BOUNDS)
        return low, high

    def _number(self, command: Command, position: int) -> float:
        return self.memory.number(self._operand(command, position))

    def _operand(self, command: Command, position: int) -> Operand:
        argument = command.arguments[position]
        return argument if isinstance(argument, Literal) else _expect(argument, Reference)

    def _reference(self, command: Command, position: int) -> Reference:
        return _expect(command.arguments[position], Reference)

    def _word(self, command: Command, position: int) -> str:
        return _expect(command.arguments[position], Word).text


def _expect(argument: Argument, kind: type[_Argument]) -> _Argument:
    """The argument as what its signature says it is; the parser has seen to that."""
    if not isinstance(argument, kind):
        raise TypeError(f"the parser let {argument!r} pass as a {kind.__name__}")
    return argument
