"""RelaxIS text exports: tab-separated, one row of column names, one that describes the spectrum."""

from labctl.formats.columns import is_impedance, recognised_columns
from labctl.formats.sweep import Spectrum
from labctl.formats.table import spectra_of
from labctl.formats.text_file import TextFile

NAME = "RelaxIS"

_HEADER_LINE, _FIRST_ROW = 2, 4


def is_relaxis(file: TextFile) -> bool:
    """Return whether the first line is RelaxIS's."""
    return file.lines[0].startswith("RelaxIS") and "Spectrum export" in file.lines[0]


def read_relaxis(file: TextFile) -> tuple[Spectrum, ...]:
    """Return the spectrum of a RelaxIS export.

    Raises:
        FileFormatError: no column names, or a row cut short.
    """
    if len(file.lines) < _FIRST_ROW:
        raise file.fail(f"the file is cut short: expected {_FIRST_ROW} header lines")
    columns = recognised_columns(file.lines[_HEADER_LINE].split("\t"), file, line=_HEADER_LINE)
    if not is_impedance(columns):
        raise file.fail("expected columns Frequency, Z' and Z''", line=_HEADER_LINE)
    rows = [
        (line, text.split("\t"))
        for line, text in enumerate(file.lines[_FIRST_ROW:], _FIRST_ROW)
        if text.strip()
    ]
    metadata = {"description": file.lines[_FIRST_ROW - 1].strip()}
    return spectra_of(file, rows, columns, source_format=NAME, metadata=metadata)
