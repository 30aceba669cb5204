"""Plain tables: CSV and its relatives, with or without a header, whatever separates the columns."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from labctl.formats.columns import Column, is_impedance, recognised_columns
from labctl.formats.sweep import Spectrum
from labctl.formats.table import Row, spectra_of
from labctl.formats.text_file import TextFile

NAME = "CSV"

_SEPARATORS = ("\t", ";", ",", " ")  # a comma may be a decimal comma where a tab separates
_HEADER_WITHIN = 200  # lines


def read_delimited(file: TextFile) -> tuple[Spectrum, ...] | None:
    """Return the sweeps of a plain table, None if the file holds none.

    With a header the sign of the imaginary part is the header's: "-Im(Z)" is negated, "Im(Z)" and
    "Z''" are taken as written. Without one, the columns are frequency, real and imaginary part, and
    the sign is the one that makes the cell capacitive at low frequency; a warning says so.

    Raises:
        FileFormatError: a row cut short or too wide, or a field that is not a number.
    """
    if file.lines[0].lstrip().startswith("<"):
        return None  # markup: its tables end where they like
    for at, text in enumerate(file.lines[:_HEADER_WITHIN]):
        for separator in _SEPARATORS:
            titles = _split(text, separator)
            columns = _header(file, at, titles)
            if columns is not None:
                rows = list(_rows(file, at + 1, separator))
                _demand_width(file, rows, len(titles))
                return _with_sign_doubts(spectra_of(file, rows, columns, source_format=NAME))
    return _without_header(file)


def _header(file: TextFile, at: int, titles: list[str]) -> dict[str, Column] | None:
    """Return the columns if this line is a header of impedances."""
    if len(titles) < 3:
        return None
    columns = recognised_columns(titles, file, line=at)
    return columns if is_impedance(columns) else None


def _split(text: str, separator: str) -> list[str]:
    text = text.strip(" \r\n")
    return text.split() if separator == " " else [part.strip() for part in text.split(separator)]


def _rows(file: TextFile, start: int, separator: str) -> Iterator[Row]:
    for line, text in enumerate(file.lines[start:], start):
        if text.strip():
            yield line, _split(text, separator)


def _demand_width(file: TextFile, rows: list[Row], width: int) -> None:
    """Check that no row has more columns than the header: a decimal comma makes two of one."""
    for line, fields in rows:
        while len(fields) > width and not fields[-1]:
            fields.pop()  # separators at the end of a line separate nothing
        if len(fields) > width:
            raise file.fail(
                f"expected {width} columns, found {len(fields)}; "
                "where a comma is the decimal sign, semicolons or tabs must separate the columns",
                line=line,
            )


def _without_header(file: TextFile) -> tuple[Spectrum, ...] | None:
    """Return the spectrum of a bare table of three or more numbers a line."""
    separator = next((each for each in _SEPARATORS if _are_numbers(file, each)), None)
    if separator is None:
        return None
    kinds = ("frequency", "real", "imag")
    columns = {kind: Column(kind, index, 1.0) for index, kind in enumerate(kinds)}
    rows = list(_rows(file, 0, separator))
    _demand_width(file, rows, len(rows[0][1]))
    if separator == "," and len(rows[0][1]) > len(kinds) and not _has_points(rows):
        raise file.fail("more than three columns, all whole numbers: are the commas decimal signs?")
    (spectrum,) = spectra_of(file, rows, columns, source_format=NAME)
    said = "no header: the columns were read as frequency in Hz, real and imaginary part in ohm"
    sign = -1.0 if _is_mostly_positive(spectrum) else 1.0
    how = "as -Im Z: it is positive at low frequency" if sign < 0 else "as Im Z: it is negative"
    warnings = (said, f"the imaginary part was taken {how}")
    return (replace(spectrum, z_imag_ohm=sign * spectrum.z_imag_ohm, warnings=warnings),)


def _are_numbers(file: TextFile, separator: str) -> bool:
    """Return whether the first two lines are three or more numbers each."""
    first = [_split(text, separator) for text in file.lines if text.strip()][:2]
    return bool(first) and all(
        len(fields) >= 3
        and all(re.fullmatch(r"[-+]?[\d.,]+([eE][-+]?\d+)?", f) for f in fields[:3])
        for fields in first
    )


def _has_points(rows: list[Row]) -> bool:
    """Return whether any number in the rows has a decimal point."""
    return any("." in field for _, fields in rows for field in fields)


def _is_mostly_positive(spectrum: Spectrum) -> bool:
    """Return whether the imaginary part is positive in the lower half of the frequencies."""
    order = np.argsort(spectrum.frequency_hz)[: (spectrum.frequency_hz.size + 1) // 2]
    return bool(np.median(spectrum.z_imag_ohm[order]) > 0)


def _with_sign_doubts(spectra: tuple[Spectrum, ...]) -> tuple[Spectrum, ...]:
    """Return the spectra with a warning where the sign in the header makes no capacitance."""
    said = "the imaginary part, taken as its header says, is positive: inductive at low frequency"
    return tuple(
        replace(each, warnings=(*each.warnings, said)) if _is_mostly_positive(each) else each
        for each in spectra
    )
