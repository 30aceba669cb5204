"""A table of points in one convention: Hz, ohm, imaginary part negative when capacitive."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from labctl.formats.columns import Column
from labctl.formats.sweep import Spectrum
from labctl.formats.text_file import TextFile

FloatArray = NDArray[np.float64]
Row = tuple[int, list[str]]  # the line in the file, from 0, and its fields


def spectra_of(
    file: TextFile,
    rows: Sequence[Row],
    columns: Mapping[str, Column],
    *,
    source_format: str,
    metadata: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> tuple[Spectrum, ...]:
    """Return one spectrum per sweep in the rows.

    Raises:
        FileFormatError: no rows, a row cut short, or a field that is not a number.
    """
    table = _numbers(file, rows, columns)
    is_measured = table["frequency"] > 0  # rows of the direct-current part have no frequency
    if not rows:
        raise file.fail("the file is cut short: expected points after the header, found none")
    if not is_measured.any():
        raise file.fail(f"none of {len(rows)} rows has a frequency above 0 Hz")
    said = list(warnings)
    if not is_measured.all():
        said.append(f"{int((~is_measured).sum())} rows without a frequency were left out")
    is_repeat = table.get("repeat", np.zeros(len(rows))) > 0
    if is_repeat.any():
        said.append(f"{int(is_repeat.sum())} points that repeat a frequency were left out")
    is_measured &= ~is_repeat
    if not file.ends_with_newline and _ends_in_use(rows[-1], columns):
        said.append("the last line has no end: its last number may be cut short")
    table = {kind: values[is_measured] for kind, values in table.items()}
    real, imag = _impedance(table)
    sweep = table.get("sweep", np.zeros(real.size))
    starts = np.flatnonzero(np.diff(sweep)) + 1
    return tuple(
        Spectrum(
            frequency_hz=table["frequency"][part],
            z_real_ohm=real[part],
            z_imag_ohm=imag[part],
            source_format=source_format,
            metadata=dict(metadata or {}),
            warnings=tuple(said),
        )
        for part in np.split(np.arange(real.size), starts)
    )


def _numbers(
    file: TextFile, rows: Sequence[Row], columns: Mapping[str, Column]
) -> dict[str, FloatArray]:
    """Return the recognised columns of all rows by kind, in Hz, ohm and degrees."""
    needed = max(column.index for column in columns.values()) + 1
    width = max([needed, *(len(fields) for _, fields in rows[:1])])
    values: list[list[float]] = []
    for line, fields in rows:
        if len(fields) < width:
            raise file.fail(
                f"the file is cut short: expected {width} columns, found {len(fields)}", line=line
            )
        values.append(
            [file.number(fields[c.index], line=line) * c.factor for c in columns.values()]
        )
    table = np.array(values, dtype=np.float64).reshape(len(rows), len(columns))
    return dict(zip(columns, table.T, strict=True))


def _ends_in_use(row: Row, columns: Mapping[str, Column]) -> bool:
    """Return whether the last field of a row is one that counts."""
    return max(column.index for column in columns.values()) == len(row[1]) - 1


def _impedance(table: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return real and imaginary part; modulus and phase serve where they are missing."""
    if "real" in table and "imag" in table:
        return table["real"], table["imag"]
    phase = np.deg2rad(table["phase"])
    return table["modulus"] * np.cos(phase), table["modulus"] * np.sin(phase)
