"""Scripts for MethodSCRIPT devices, built so that what the device would refuse cannot be written.

Source: PalmSens MethodSCRIPT manual 1.8 (language, argument order) and the vendor's examples. The
legacy commands `set_cr` and `set_pot_range` are left out: `set_range` replaces them.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Generator

    _Block = Generator[None, None, None]

MAX_LINE_CHARACTERS = 256  # the line feed counts
_MAX_MANTISSA = 2**31 - 1
_PREFIXES = dict(zip(range(18, -19, -3), "EPTGMk munpfa", strict=True))
_NAME = re.compile(r"[a-z][a-z0-9_]*")

Comparison = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class Var:
    """A variable that a script has declared."""

    name: str


Value = float | Var


class PgstatMode(IntEnum):
    """What the potentiostat is switched to; 6 is a galvanostat and absent on the EmStat Pico."""

    OFF = 0
    LOW_SPEED = 2
    HIGH_SPEED = 3
    MAX_RANGE = 4
    GALVANOSTAT = 6


def literal(value: float) -> str:
    """Return a number as MethodSCRIPT writes it: an integer and an SI prefix, `12300u` for 0.0123.

    The coarsest prefix that keeps the value exact is taken; a value with more digits than 32 bits
    hold is rounded in the finest prefix that fits.

    Raises:
        ValueError: not finite, or too large or too small for any prefix.
    """
    exact = Decimal(repr(float(value)))
    if not exact.is_finite():
        raise ValueError(f"{value} cannot be written in a script")
    if not exact:
        return "0"
    for exponent, prefix in _PREFIXES.items():
        mantissa = exact.scaleb(-exponent)
        if mantissa == mantissa.to_integral_value() and abs(mantissa) <= _MAX_MANTISSA:
            return f"{mantissa:.0f}{prefix.strip()}"
    return _rounded_literal(exact)


def _rounded_literal(exact: Decimal) -> str:
    for exponent, prefix in reversed(_PREFIXES.items()):
        mantissa = exact.scaleb(-exponent).to_integral_value(ROUND_HALF_EVEN)
        if mantissa and abs(mantissa) <= _MAX_MANTISSA:
            return f"{mantissa:.0f}{prefix.strip()}"
    raise ValueError(f"{exact} is beyond what a script can hold")


def integer(value: int) -> str:
    """Return an integer argument: `11i` for 11.

    Raises:
        ValueError: beyond 32 bits.
    """
    if not -_MAX_MANTISSA <= value <= _MAX_MANTISSA:
        raise ValueError(f"{value} is beyond what a script can hold")
    return f"{value}i"


class Script:
    """A script in the making; `lines()` gives it whole, with the cell switched off at its end.

    Blocks (loops, conditions) are context managers, so that every block is closed.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: set[str] = set()
        self._depth = 0
        self._is_measuring = False

    def lines(self) -> tuple[str, ...]:
        """Return the script's lines without line feeds.

        `on_finished:` with `cell_off` ends every script: it also runs when the script is aborted
        (not after an error while it runs: MethodSCRIPT manual, section 10.1).
        """
        return (*self._lines, "on_finished:", "cell_off")

    # Variables

    def var(self, name: str) -> Var:
        """Declare a variable and return it."""
        variable = self._declare(name)
        self._add("var", name)
        return variable

    def array(self, name: str, size: int) -> Var:
        """Declare an array of `size` elements and return it."""
        variable = self._declare(name)
        self._add("array", name, integer(size))
        return variable

    def store_var(self, target: Var, value: float, variable_type: str) -> None:
        """Give a variable a number and a type such as `ja`."""
        self._add("store_var", self._text(target), literal(value), variable_type)

    def copy_var(self, source: Var, target: Var) -> None:
        """Copy one variable to another."""
        self._add("copy_var", self._text(source), self._text(target))

    def add_var(self, target: Var, value: Value) -> None:
        """Add a value to a variable."""
        self._add("add_var", self._text(target), self._text(value))

    def sub_var(self, target: Var, value: Value) -> None:
        """Subtract a value from a variable."""
        self._add("sub_var", self._text(target), self._text(value))

    def mul_var(self, target: Var, value: Value) -> None:
        """Multiply a variable by a value."""
        self._add("mul_var", self._text(target), self._text(value))

    def div_var(self, target: Var, value: Value) -> None:
        """Divide a variable by a value."""
        self._add("div_var", self._text(target), self._text(value))

    # Potentiostat and cell

    def set_pgstat_chan(self, channel: int) -> None:
        """Select the channel that the commands after this are for."""
        self._add("set_pgstat_chan", str(channel))

    def set_pgstat_mode(self, mode: PgstatMode) -> None:
        """Select how the potentiostat works; resets the bandwidth."""
        self._add("set_pgstat_mode", str(int(mode)))

    def mux_config(self, kind: int, options: int) -> None:
        """Say which multiplexer there is: 1 MUX8, 2 MUX16, 3 MUX8-R2, and its option bits."""
        self._add("mux_config", integer(kind), f"0x{options:04X}")

    def mux_set_channel(self, channel: int) -> None:
        """Connect one channel of the multiplexer, counted from 1."""
        self._add("mux_set_channel", integer(channel))

    def set_max_bandwidth(self, frequency_hz: Value) -> None:
        """Set the highest frequency of interest; filters follow it."""
        self._add("set_max_bandwidth", self._text(frequency_hz))

    def set_acquisition_frac_autoadjust(self, mains_frequency_hz: float) -> None:
        """Fit the acquisition to the mains frequency."""
        self._add("set_acquisition_frac_autoadjust", literal(mains_frequency_hz))

    def set_range(self, variable_type: str, value: Value) -> None:
        """Select the range of `ba`, `ab`, `db` or `da` that holds a value."""
        self._add("set_range", variable_type, self._text(value))

    def set_range_minmax(self, variable_type: str, low: Value, high: Value) -> None:
        """Announce the lowest and the highest value of `da` to come."""
        self._add("set_range_minmax", variable_type, self._text(low), self._text(high))

    def set_autoranging(self, variable_type: str, low: Value, high: Value) -> None:
        """Let the range of `ba`, `ab` or `db` move between two; equal ones pin it."""
        self._add("set_autoranging", variable_type, self._text(low), self._text(high))

    def set_e(self, potential_v: Value) -> None:
        """Set the potential that the cell gets when it goes on."""
        self._outside_measurement("set_e")
        self._add("set_e", self._text(potential_v))

    def set_i(self, current_a: Value) -> None:
        """Set the current that the cell gets when it goes on."""
        self._outside_measurement("set_i")
        self._add("set_i", self._text(current_a))

    def cell_on(self) -> None:
        """Connect the cell."""
        self._add("cell_on")

    def cell_off(self) -> None:
        """Disconnect the cell."""
        self._add("cell_off")

    # Time

    def wait(self, duration_s: Value) -> None:
        """Wait."""
        self._add("wait", self._text(duration_s))

    def timer_start(self) -> None:
        """Set the timer to zero."""
        self._add("timer_start")

    def timer_get(self, target: Var) -> None:
        """Read the timer, in s, into a variable (type `eb`)."""
        self._add("timer_get", self._text(target))

    def set_int(self, interval_s: Value) -> None:
        """Start a clock that `await_int` waits for."""
        self._add("set_int", self._text(interval_s))

    def await_int(self) -> None:
        """Wait for the next beat of the clock."""
        self._add("await_int")

    # Output

    def meas(self, duration_s: Value, target: Var, variable_type: str) -> None:
        """Measure one value for a while into a variable."""
        self._add("meas", self._text(duration_s), self._text(target), variable_type)

    def packet(self, *variables: Var) -> None:
        """Send variables as one data packet."""
        self._add("pck_start")
        for variable in variables:
            self._add("pck_add", self._text(variable))
        self._add("pck_end")

    def send_string(self, text: str) -> None:
        """Send a line of text."""
        if '"' in text:
            raise ValueError(f"a double quote cannot be sent: {text}")
        self._add("send_string", f'"{text}"')

    def set_script_output(self, mode: Literal[0, 1, 3]) -> None:
        """Select where output goes; 0 nowhere, 1 to the line."""
        self._add("set_script_output", str(mode))

    # Flow

    @contextmanager
    def loop(self, left: Value, comparison: Comparison, right: Value) -> _Block:
        """Repeat what is inside while a comparison holds."""
        self._add("loop", self._text(left), comparison, self._text(right))
        with self._block("endloop"):
            yield

    @contextmanager
    def if_(self, left: Value, comparison: Comparison, right: Value) -> _Block:
        """Do what is inside if a comparison holds."""
        self._add("if", self._text(left), comparison, self._text(right))
        with self._block("endif"):
            yield

    def elseif(self, left: Value, comparison: Comparison, right: Value) -> None:
        """Inside `if_`: what follows is done if another comparison holds."""
        self._add("elseif", self._text(left), comparison, self._text(right))

    def else_(self) -> None:
        """Inside `if_`: what follows is done if nothing before was."""
        self._add("else")

    def breakloop(self) -> None:
        """Leave the innermost loop."""
        self._add("breakloop")

    def abort(self) -> None:
        """End the script; what stands after `on_finished:` still runs."""
        self._add("abort")

    # For measurement loops and whatever adds lines

    @contextmanager
    def measurement(self, command: str, *arguments: Var | str) -> _Block:
        """Open a measurement loop; what is inside is done for every point.

        Raises:
            ValueError: it stands inside another measurement loop.
        """
        self._outside_measurement(command)
        self._add(command, *(self._text(item) for item in arguments))
        self._is_measuring = True
        with self._block("endloop"):
            yield
        self._is_measuring = False

    @contextmanager
    def _block(self, end: str) -> _Block:
        self._depth += 1
        yield
        self._depth -= 1
        self._add(end)

    def _declare(self, name: str) -> Var:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no variable name: a-z, then a-z, 0-9 or _")
        if name in self._names:
            raise ValueError(f"variable {name!r} is declared twice")
        self._names.add(name)
        return Var(name)

    def _text(self, argument: Value | str) -> str:
        """Return a variable's name, a number's literal, and text as it is."""
        if isinstance(argument, str):
            return argument
        if not isinstance(argument, Var):
            return literal(argument)
        if argument.name not in self._names:
            raise ValueError(f"variable {argument.name!r} is not declared in this script")
        return argument.name

    def _outside_measurement(self, command: str) -> None:
        if self._is_measuring:
            raise ValueError(f"{command} cannot stand inside a measurement loop")

    def _add(self, command: str, *arguments: str) -> None:
        line = " " * self._depth + " ".join((command, *arguments))
        if not line.isascii() or not line.isprintable():
            raise ValueError(f"a script line is printable ASCII: {line!r}")
        if len(line) >= MAX_LINE_CHARACTERS:
            raise ValueError(f"a script line has at most {MAX_LINE_CHARACTERS} characters: {line}")
        self._lines.append(line)
