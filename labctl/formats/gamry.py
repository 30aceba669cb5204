"""Gamry .DTA files of impedance experiments: the table ZCURVE.

Fields are separated by tabs; a table's rows begin with a tab; two lines, names and units, head it.
FREQINIT, FREQFINAL and PTSPERDEC say how many points were planned.
"""

import math

from labctl.formats.columns import recognised_columns
from labctl.formats.sweep import Spectrum
from labctl.formats.table import Row, spectra_of
from labctl.formats.text_file import TextFile

NAME = "Gamry DTA"

_TABLE_HEADER_LINES = 2


def is_gamry(file: TextFile) -> bool:
    """Return whether the file begins as Gamry's do."""
    return file.lines[0].strip() == "EXPLAIN"


def read_gamry(file: TextFile) -> tuple[Spectrum, ...]:
    """Return the sweep of a Gamry file; an aborted one has a warning.

    Raises:
        FileFormatError: no impedance in it, or fewer points than planned without an abort.
    """
    at = next((i for i, text in enumerate(file.lines) if text.startswith("ZCURVE\t")), None)
    if at is None:
        raise file.fail("expected a table ZCURVE, as an impedance experiment has; found none")
    if len(file.lines) <= at + _TABLE_HEADER_LINES:
        raise file.fail("the file is cut short: expected the rows of ZCURVE", line=at)
    names, units = (_fields(file.lines[at + offset]) for offset in (1, 2))
    header = [
        f"{name} ({unit})" if name in {"Freq", "Zreal", "Zimag"} else ""
        for name, unit in zip(names, units, strict=False)
    ]
    columns = recognised_columns(header, file, line=at + 1)
    if not {"frequency", "real", "imag"} <= columns.keys():
        raise file.fail("expected columns Freq, Zreal and Zimag", line=at + 1)
    rows = _rows(file, at + 1 + _TABLE_HEADER_LINES)
    metadata = _metadata(file, until=at)
    warnings = _completeness(file, len(rows), metadata)
    return spectra_of(file, rows, columns, source_format=NAME, metadata=metadata, warnings=warnings)


def _fields(line: str) -> list[str]:
    return line.strip("\t\r ").split("\t")


def _rows(file: TextFile, start: int) -> list[Row]:
    """Return the rows of a table: up to the first line that does not begin with a tab."""
    rows: list[Row] = []
    for line, text in enumerate(file.lines[start:], start):
        if not text.startswith("\t"):
            break
        rows.append((line, _fields(text)))
    return rows


def _metadata(file: TextFile, *, until: int) -> dict[str, str]:
    """Return key and value of the lines before the table; between them most have a type."""
    parts = [text.split("\t") for text in file.lines[:until] if not text.startswith("\t")]
    return {each[0]: each[min(2, len(each) - 1)] for each in parts if len(each) > 1}


def _completeness(file: TextFile, measured: int, metadata: dict[str, str]) -> list[str]:
    """Return a warning for an aborted experiment; fail for a file that ends too early."""
    planned = _planned(file, metadata)
    if any(text.startswith("EXPERIMENTABORTED\tTOGGLE\tT") for text in file.lines):
        of_planned = f" of {planned} planned" if planned else ""
        return [f"the measurement was aborted: {measured}{of_planned} points"]
    # Gamry rounds the grid, so that a complete sweep has one point more or less.
    if planned is not None and measured < planned - 1:
        raise file.fail(f"the file is cut short: expected {planned} points, found {measured}")
    return []


def _planned(file: TextFile, metadata: dict[str, str]) -> int | None:
    """Return how many points the experiment was to have, None if the file does not say."""
    keys = ("FREQINIT", "FREQFINAL", "PTSPERDEC")
    if not all(key in metadata for key in keys):
        return None
    first, last, per_decade = (file.number(metadata[key], line=0) for key in keys)
    if min(first, last, per_decade) <= 0:
        return None
    return round(abs(math.log10(first / last)) * per_decade) + 1
