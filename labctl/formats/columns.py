"""Which column of a table is the frequency and which the impedance, and in which unit and sign."""

import math
import re
from dataclasses import dataclass

from labctl.formats.text_file import TextFile

# The last two are the two micro signs.
_PREFIX = {
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "m": 1e-3,
    "u": 1e-6,
    "\u00b5": 1e-6,
    "\u03bc": 1e-6,
}
_HZ = re.compile(r"(?P<prefix>[kMGmu\u00b5\u03bc]?)Hz$")
_OHM = re.compile(r"(?P<prefix>[kMGmu\u00b5\u03bc]?)(?:[Oo]hms?|OHM|\u03a9|\u2126)$")
# A column is known by its bare name: lower case, no spaces, no unit, no leading minus.
_NAMES = {
    "frequency": re.compile(r"freq(uency)?|f"),
    "real": re.compile(r"(re\(?z\)?|z?_?re(al)?|z'|z'\(a\)|rez|z\(re\)|realz)"),
    "imag": re.compile(r"(im\(?z\)?|z?_?im(ag|g)?|z''|z''\(b\)|imz|z\(im\)|imagz)"),
    "modulus": re.compile(r"\|z\||z?_?mod(ulus)?|z"),
    "phase": re.compile(r"(phase\(?z?\)?|theta\(?z?\)?|z?phz)"),
    "sweep": re.compile(r"(cycle_?number|loop_?(index|number)|sweep|step)"),
    "repeat": re.compile(r"is_repeat"),
}
_UNIT_KINDS = {"frequency": _HZ, "real": _OHM, "imag": _OHM, "modulus": _OHM}


@dataclass(frozen=True)
class Column:
    """One column that was recognised.

    Attributes:
        kind: "frequency", "real", "imag", "modulus", "phase", "sweep" or "repeat".
        index: from 0.
        factor: what its numbers are multiplied by to be Hz, ohm or degrees.
        is_negated: whether the title begins with a minus: "-Im(Z)"; the factor includes it.
    """

    kind: str
    index: int
    factor: float
    is_negated: bool = False


def recognised_columns(header: list[str], file: TextFile, *, line: int) -> dict[str, Column]:
    """Return the columns of a header by kind; others are left out.

    Raises:
        FileFormatError: a frequency or an impedance in a unit that cannot be read.
    """
    found: dict[str, Column] = {}
    for index, title in enumerate(header):
        column = _column(title, index, file, line=line)
        if column is not None:
            found.setdefault(column.kind, column)
    return found


def is_impedance(columns: dict[str, Column]) -> bool:
    """Return whether these columns make a spectrum."""
    return "frequency" in columns and (
        {"real", "imag"} <= columns.keys() or {"modulus", "phase"} <= columns.keys()
    )


def _column(title: str, index: int, file: TextFile, *, line: int) -> Column | None:
    name, unit = _name_and_unit(title)
    is_negated = re.match(r"(-|\u2212|neg(ative)?[ _]|minus[ _])", name) is not None
    name = re.sub(r"^(-|\u2212|neg(ative)?[ _]|minus[ _])", "", name)
    for kind, pattern in _NAMES.items():
        if pattern.fullmatch(name):
            factor = _factor(kind, unit, title, file, line=line)
            return Column(kind, index, -factor if is_negated else factor, is_negated)
    return None


def _name_and_unit(title: str) -> tuple[str, str]:
    """Return the bare name in lower case and the unit as written: "-Im(Z)/Ohm", "Zre (ohms)"."""
    text = title.strip().strip('"').strip()
    text = re.sub(r"^Data:\s*", "", text)
    written = re.fullmatch(r"z_(real|imag|mod)_(ohm)|(frequency)_(hz)", text, re.IGNORECASE)
    if written:
        return (written[1] or written[3]).lower(), "ohm" if written[1] else "Hz"
    parts = re.fullmatch(r"(.+?)\s*(?:/\s*(.+?)|[(\[]\s*([^()\[\]]*?)\s*[)\]])", text)
    name, unit = (parts[1], parts[2] or parts[3]) if parts else (text, "")
    if parts and re.fullmatch(r"Z|re|im|phase|theta|a|b", unit, re.IGNORECASE):
        name, unit = text, ""  # "Re(Z)", "Z'(a)": that was no unit
    return _bare(name), unit


def _bare(name: str) -> str:
    """Return a name in lower case without spaces, all primes of one kind."""
    primes = {'"': "''", "\u2033": "''", "\u2032": "'", "\u2019": "'", " ": ""}
    return "".join(primes.get(character, character) for character in name.lower())


def _factor(kind: str, unit: str, title: str, file: TextFile, *, line: int) -> float:
    """Return what brings a column to Hz, ohm or degrees; no unit means just these."""
    if kind in {"sweep", "repeat"}:
        return 1.0
    if kind == "phase":
        return math.degrees(1.0) if unit.lower().startswith("rad") else 1.0
    match = _UNIT_KINDS[kind].match(unit)
    if unit and match is None:
        wanted = "Hz" if kind == "frequency" else "ohm"
        raise file.fail(f"column {title.strip()!r}: expected a unit of {wanted}", line=line)
    return _PREFIX[match["prefix"]] if match else 1.0
