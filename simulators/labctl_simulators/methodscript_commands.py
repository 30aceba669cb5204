"""What every MethodSCRIPT command of the simulated firmware takes: one row per command.

Source: PalmSens MethodSCRIPT manual and the vendor's example scripts. Where a command may not stand
inside a measurement loop is partly inference; the code that is answered there is the vendor's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from labctl_simulators.methodscript_errors import ErrorCode


class Kind(Enum):
    """What an argument may be."""

    NUMBER = auto()  # a literal, a variable or an element of an array
    VARIABLE = auto()  # a variable or an element of an array, written by the command
    VARTYPE = auto()  # two letters
    NEW_NAME = auto()
    STRING = auto()


@dataclass(frozen=True, slots=True)
class Signature:
    """The arguments of one command.

    Attributes:
        bit: its bit in the capabilities that `CM` reports.
        arguments: the positional arguments, all required.
        options: optional arguments `name(...)` and what their brackets hold; `add_meas` may come
            more than once.
        error_in_loop: what the instrument answers when it stands inside a measurement loop.
        loop_id: the number after `M` for a measurement loop; None for every other command.
    """

    bit: int
    arguments: tuple[Kind, ...] = ()
    options: Mapping[str, tuple[Kind, ...]] = field(default_factory=dict[str, tuple[Kind, ...]])
    error_in_loop: ErrorCode | None = None
    loop_id: int | None = None


_N, _V, _T = Kind.NUMBER, Kind.VARIABLE, Kind.VARTYPE
_LOOP = ErrorCode.NESTED_MEASUREMENT_LOOP
_NOT_IN_LOOP = ErrorCode.NOT_IN_MEASUREMENT_LOOP
_IMPEDANCE_OPTIONS = {"eis_acdc": (_V, _V, _V, _V), "time": (_V,)}
# Channel, type and variable of what else is measured at every point: a third party's transcription
# of the manual; the vendor's validator lets it pass.
ADDED_MEASUREMENT = "add_meas"
_DC_OPTIONS = {ADDED_MEASUREMENT: (_N, _T, _V)}


def _measurement(
    bit: int,
    loop_id: int,
    outputs: int,
    numbers: int,
    options: Mapping[str, tuple[Kind, ...]] | None = None,
) -> Signature:
    return Signature(bit, (_V,) * outputs + (_N,) * numbers, options or {}, _LOOP, loop_id)


SIGNATURES: dict[str, Signature] = {
    "var": Signature(1, (Kind.NEW_NAME,)),
    "array": Signature(2, (Kind.NEW_NAME, _N)),
    "store_var": Signature(3, (_V, _N, _T)),
    "copy_var": Signature(4, (_N, _V)),
    "add_var": Signature(5, (_V, _N)),
    "sub_var": Signature(6, (_V, _N)),
    "mul_var": Signature(7, (_V, _N)),
    "div_var": Signature(8, (_V, _N)),
    "set_e": Signature(9, (_N,), error_in_loop=ErrorCode.POTENTIAL_SET_IN_LOOP),
    "set_i": Signature(68, (_N,), error_in_loop=ErrorCode.CURRENT_SET_IN_LOOP),
    "wait": Signature(12, (_N,)),
    "meas": Signature(21, (_N, _V, _T), error_in_loop=_NOT_IN_LOOP),
    "set_autoranging": Signature(32, (_T, _N, _N)),
    "pck_start": Signature(33),
    "pck_add": Signature(34, (_V,)),
    "pck_end": Signature(35),
    "set_max_bandwidth": Signature(36, (_N,)),
    "cell_on": Signature(38, error_in_loop=_NOT_IN_LOOP),
    "cell_off": Signature(39, error_in_loop=_NOT_IN_LOOP),
    "set_pgstat_mode": Signature(40, (_N,), error_in_loop=_NOT_IN_LOOP),
    "send_string": Signature(41, (Kind.STRING,)),
    "set_pgstat_chan": Signature(42, (_N,), error_in_loop=_NOT_IN_LOOP),
    "set_script_output": Signature(52, (_N,)),
    "abort": Signature(62),
    "timer_start": Signature(63),
    "timer_get": Signature(64, (_V,)),
    "set_range": Signature(65, (_T, _N)),
    "set_range_minmax": Signature(66, (_T, _N, _N), error_in_loop=ErrorCode.POTENTIAL_SET_IN_LOOP),
    "mux_config": Signature(81, (_N, _N)),
    "mux_set_channel": Signature(83, (_N,)),
    "set_acquisition_frac_autoadjust": Signature(91, (_N,)),
    "meas_loop_lsv": _measurement(23, 0x0000, 2, 4, _DC_OPTIONS),
    "meas_loop_cv": _measurement(24, 0x0005, 2, 5, {"nscans": (_N,), **_DC_OPTIONS}),
    "meas_loop_ca": _measurement(28, 0x0007, 2, 3, _DC_OPTIONS),
    "meas_loop_ocp": _measurement(30, 0x000B, 1, 2, _DC_OPTIONS),
    "meas_loop_eis": _measurement(31, 0x000D, 3, 5, _IMPEDANCE_OPTIONS),
    "meas_loop_cp": _measurement(67, 0x000A, 2, 3, _DC_OPTIONS),
    "meas_loop_lsp": _measurement(69, 0x000F, 2, 4, _DC_OPTIONS),
    "meas_loop_geis": _measurement(70, 0x000E, 3, 5, _IMPEDANCE_OPTIONS),
}

# words that open, part or close a scope, with their bits; the parser knows their grammar
FLOW_BITS = {
    "loop": 13, "endloop": 14, "breakloop": 15, "if": 16, "else": 17, "elseif": 18, "endif": 19,
}  # fmt: skip

VARTYPES = frozenset(
    prefix + letter
    for prefix, letters in {
        "a": "abcdefghijstuvwxyz",
        "b": "ab",
        "c": "abcdefghijklmnopqrstuvwxyz",
        "d": "abcd",
        "e": "abcdefg",
        "h": "abcd",
        "i": "abcd",
        "j": "abcd",
    }.items()
    for letter in letters
)


def capability_bits() -> int:
    """The bitmap `CM` reports: bit n is set for every command this firmware knows."""
    bits = [signature.bit for signature in SIGNATURES.values()] + list(FLOW_BITS.values())
    return sum(1 << bit for bit in bits)
