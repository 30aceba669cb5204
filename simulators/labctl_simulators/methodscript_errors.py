"""The error codes a MethodSCRIPT instrument answers with, and the exception that carries one.

Source: the error tables of the PalmSens MethodSCRIPT manual and communication protocol.
"""

from enum import IntEnum


class ErrorCode(IntEnum):
    """Codes below 0x4000 belong to commands and execution, 0x4xxx to the script's text."""

    UNKNOWN_COMMAND = 0x0003
    UNKNOWN_REGISTER = 0x0004
    READ_ONLY_REGISTER = 0x0005
    WRONG_MODE = 0x0006
    LINE_TOO_LONG = 0x0008
    NO_SCRIPT_LOADED = 0x000C
    BAD_POTENTIAL = 0x000F
    NOT_A_NUMBER = 0x0010
    BAD_FREQUENCY = 0x0011
    BAD_AMPLITUDE = 0x0012
    CELL_IS_ON_FOR_OCP = 0x0014
    UNSUPPORTED = 0x001B
    STEP_BELOW_RESOLUTION = 0x001C
    UNKNOWN_PGSTAT_MODE = 0x0021
    WRONG_PGSTAT_MODE = 0x0023
    DIVISION_BY_ZERO = 0x0028
    NO_SUCH_CHANNEL = 0x002F
    NOT_A_MULTI_DEVICE = 0x0048
    ARGUMENT_TOO_SHORT = 0x004B
    NOT_HEXADECIMAL = 0x006D
    RANGING_UNSUPPORTED = 0x0084
    UNKNOWN_SCRIPT_COMMAND = 0x4001
    UNEXPECTED_CHARACTER = 0x4004
    BAD_OPTION = 0x4008
    NESTED_MEASUREMENT_LOOP = 0x400B
    NOT_HERE = 0x400C
    SCOPE_TOO_DEEP = 0x400D
    BAD_SCOPE_CHANGE = 0x400E
    INDEX_OUT_OF_BOUNDS = 0x400F
    HEXADECIMAL_NOT_INTEGER = 0x4014
    SCRIPT_ENDED_EARLY = 0x4018
    NOT_IN_MEASUREMENT_LOOP = 0x401A
    PACKET_MISUSE = 0x401B
    REDECLARED = 0x4026
    CELL_MUST_BE_ON = 0x4027
    CELL_MUST_BE_OFF = 0x4028
    NO_STEPS = 0x4029
    BAD_NAME = 0x402B
    POTENTIAL_SET_IN_LOOP = 0x4032
    CURRENT_SET_IN_LOOP = 0x4033
    OVERFLOW = 0x4037
    BAD_LITERAL = 0x4039
    UNKNOWN_OUTPUT_MODE = 0x403C
    NEGATIVE = 0x4200
    MUST_BE_POSITIVE = 0x4204
    OUT_OF_BOUNDS = 0x4205
    WRONG_DATATYPE = 0x4207
    WRONG_VARTYPE = 0x4209
    EXTRA_ARGUMENT = 0x420A
    UNDECLARED = 0x420B
    IS_VARIABLE = 0x420C
    IS_LITERAL = 0x420D
    IS_ARRAY = 0x420E
    FSTRING_NOT_CLOSED = 0x4210


class ScriptError(Exception):
    """A script that cannot be loaded (line and column known) or cannot go on (line known).

    Attributes:
        code: what the instrument reports.
        line: 1-based line of the script; the line after `e` or `l` is line 1.
        column: 1-based column of the offending token; None for an error of execution.
    """

    def __init__(self, code: ErrorCode, *, line: int | None = None, column: int | None = None):
        super().__init__(code, line, column)
        self.code = code
        self.line = line
        self.column = column

    def __str__(self) -> str:
        """The text from the `!` on, e.g. `!4001: Line 1, Col 1` or `!0014: Line 7`."""
        text = f"!{self.code:04X}"
        if self.line is not None:
            text += f": Line {self.line}"
        if self.column is not None:
            text += f", Col {self.column}"
        return text
