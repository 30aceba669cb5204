"""Errors of MethodSCRIPT devices: how they look on the wire and what the codes mean.

Source: PalmSens communication protocol and MethodSCRIPT manual, error codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ERROR = re.compile(
    r"(?P<echo>[A-Za-z]?)!(?P<code>[0-9A-Fa-f]{4})"
    r"(?:: *Line (?P<line>\d+)(?:, *Col (?P<column>\d+))?)?\s*"
)

MEANINGS = {
    "0001": "unspecified failure",
    "0002": "no such variable type",
    "0003": "the command is not known",
    "0004": "no such register",
    "0005": "the register can only be read",
    "0006": "not possible in the present mode: a script runs, or none does",
    "0007": "an argument has a value the command does not take",
    "0008": "the line is too long",
    "0009": "the command took too long",
    "000B": "no memory left for the variable",
    "000C": "no script is loaded",
    "000E": "overflow while a measured value was averaged",
    "000F": "the potential is outside what the instrument can apply",
    "0010": "a variable became NaN or infinite",
    "0011": "the frequency is outside what the instrument can do",
    "0012": "the amplitude is outside what the instrument can do",
    "0014": "open-circuit potential asked for while the cell is on",
    "001A": "the calibration is not valid",
    "001B": "this instrument does not support the command or a part of it",
    "001C": "the potential step is smaller than the converter's resolution",
    "001D": "the potential pulse is smaller than the converter's resolution",
    "001E": "the amplitude is smaller than the converter's resolution",
    "001F": "the instrument has no licence for this technique",
    "0020": "more than one channel in a high-speed or maximum-range mode",
    "0021": "this instrument has no such potentiostat mode",
    "0023": "the command does not go with the selected potentiostat mode",
    "0024": "too many quantities measured at once",
    "0028": "division by zero",
    "002F": "this instrument has no such channel",
    "0032": "critical overload of the cell: stopped to protect the instrument",
    "003E": "the instrument waited for something for too long",
    "0058": "a fast measurement lost its timing, perhaps through communication",
    "005A": "the instrument cannot keep the timing asked for",
    "005B": "the quantity is being measured already",
    "007A": "no measuring channel is left for what is to be measured",
    "0080": "the counter electrode oscillates",
    "0082": "the instrument has warnings that have to be cleared first",
    "0084": "this variable type has no ranges",
    "008B": "the second working electrode has to be switched off first",
    "008C": "the compensation of the iR drop has to be switched off first",
    "4001": "unknown script command",
    "4004": "a character that is not expected here",
    "4005": "the script is too large for the instrument's memory",
    "4008": "the command does not take this option",
    "400B": "a measurement loop inside another one",
    "400C": "the command is not possible at this place",
    "400D": "loops and conditions are nested too deeply",
    "400E": "a block begins or ends where it must not",
    "400F": "an index beyond the end of an array",
    "4017": "arrays of different sizes",
    "4018": "the script ends inside a block",
    "401A": "the command is not possible inside a measurement loop",
    "401B": "packet commands in the wrong order",
    "401C": "too many variables in one packet",
    "4020": "a command of the script took too long",
    "4024": "the resistance is too large for all current ranges allowed",
    "4025": "the resistance is too large for the current range",
    "4026": "the variable is declared twice",
    "4027": "the cell has to be on for this command",
    "4028": "the cell has to be off for this command",
    "4029": "the technique needs at least one step",
    "402A": "no memory left for variable names",
    "402B": "not a valid variable name",
    "402C": "the variable name is too long",
    "4032": "potential or potential range set inside a running measurement loop",
    "4033": "current or current range set inside a running measurement loop",
    "4034": "the instrument has no licence for this feature",
    "4036": "the command is possible only inside a measurement loop",
    "4037": "overflow in a computation",
    "4038": "an array element is not written correctly",
    "4039": "not a valid number",
    "4040": "a text with values in it could not be put together",
    "4041": "these two cannot be compared",
    "4200": "the argument must not be negative",
    "4201": "the argument must not be positive",
    "4202": "the argument must not be zero",
    "4203": "the argument must be below zero",
    "4204": "the argument must be above zero",
    "4205": "the argument is outside the command's bounds",
    "4206": "this instrument does not take this value",
    "4207": "integer and real number confused",
    "4208": "not a valid reference to a variable",
    "4209": "the command does not take this variable type",
    "420A": "one argument too many",
    "420B": "the variable is not declared",
    "420C": "the command does not take a variable here",
    "420D": "the command does not take a literal here",
    "420E": "the command does not take an array here",
    "420F": "the array is too small for the command",
    "4210": "a text in which a brace is not closed",
    "7FFF": "internal failure of the instrument",
}


@dataclass(frozen=True)
class ScriptError:
    """What a device says is wrong.

    Attributes:
        code: four upper-case hexadecimal digits.
        line: line of the script, counted from 1 behind the command `e` (inference); None if the
            device names none.
        column: column in that line, counted from 1; only syntax errors have one.
    """

    code: str
    line: int | None = None
    column: int | None = None

    @property
    def meaning(self) -> str:
        """Return what the code means."""
        return MEANINGS.get(self.code, "a code that this driver has no words for")


def find_error(line: str) -> ScriptError | None:
    """Return the error that a line from the device reports, None if it reports none.

    A command's echo may stand before the error (`e!4001: Line 1, Col 1`, `Z!0006`); an error while
    a script runs has none (`!0032: Line 12`).
    """
    match = _ERROR.fullmatch(line)
    if match is None:
        return None
    number, column = match["line"], match["column"]
    return ScriptError(
        match["code"].upper(),
        None if number is None else int(number),
        None if column is None else int(column),
    )
