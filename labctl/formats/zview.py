"""ZView and ZPlot files (.z), with and without comments, and Autolab's export in their manner.

Nine columns: frequency, amplitude, bias, time, Z', Z'', two of bookkeeping, range. The number
above the row of column names, alone or after "Data Points:", is that of the planned sweep (inferred
from real files: it fits their end frequency, not their rows), so fewer rows are worth a warning.
"""

import re

from labctl.formats.columns import Column
from labctl.formats.sweep import Spectrum
from labctl.formats.table import spectra_of
from labctl.formats.text_file import TextFile

NAME = "ZView"

_TITLE = re.compile(r'^"?(ZPLOT2 ASCII|ZPlotW? Data File|Z60W Data File)', re.IGNORECASE)
_HEADER = re.compile(r"^\W*Freq ?\(Hz\)\s.*Z'\(a\)\s+Z''\(b\)")
_COUNT = re.compile(r"^\s*(?:Data Points:\s*)?(\d+)\s*$")
_COLUMNS = {
    "frequency": Column("frequency", 0, 1.0),
    "real": Column("real", 4, 1.0),
    "imag": Column("imag", 5, 1.0),
}


def is_zview(file: TextFile) -> bool:
    """Return whether the file begins as ZView's do."""
    return _TITLE.match(file.lines[0]) is not None


def read_zview(file: TextFile) -> tuple[Spectrum, ...]:
    """Return the sweep of a ZView file.

    Raises:
        FileFormatError: no column names, no points, or a row cut short.
    """
    at = next((i for i, text in enumerate(file.lines) if _HEADER.match(text)), None)
    if at is None:
        raise file.fail("expected a row of column names: Freq(Hz) Ampl Bias Time(Sec) Z'(a) Z''(b)")
    first = at + 2 if file.lines[at + 1 : at + 2] == ("End Comments",) else at + 1
    rows = [
        (line, re.split(r"[,\t]\s*|\s+", text.strip()))
        for line, text in enumerate(file.lines[first:], first)
        if text.strip()
    ]
    planned = _COUNT.match(file.lines[at - 1])
    said: list[str] = []
    if planned and len(rows) < int(planned[1]):
        said = [f"{len(rows)} of {planned[1]} planned points: stopped early, or the file is cut"]
    metadata = _metadata(file.lines[:at])
    return spectra_of(file, rows, _COLUMNS, source_format=NAME, metadata=metadata, warnings=said)


def _metadata(lines: tuple[str, ...]) -> dict[str, str]:
    """Return what the head of the file says, section marks left out."""
    parts = [line.strip(' "').split(":", 1) for line in lines if ":" in line]
    return {
        key.strip(): value.strip()
        for key, value in parts
        if value.strip() and not key.startswith(("Begin", "End", "Null"))
    }
