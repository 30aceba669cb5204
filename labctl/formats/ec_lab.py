"""EC-Lab ASCII (.mpt, .txt) of BioLogic potentiostats: EIS exports.

The second line counts the header, the row of column names included; fields are separated by tabs.
The imaginary part stands as "-Im(Z)/Ohm". The last line need not end with a newline.
"""

import re

from labctl.formats.columns import is_impedance, recognised_columns
from labctl.formats.sweep import Spectrum
from labctl.formats.table import Row, spectra_of
from labctl.formats.text_file import TextFile

NAME = "EC-Lab ASCII"

_SAID = re.compile(r"^\s*(?P<key>[^:\t]{2,40}?)\s*:\s+(?P<value>\S.*?)\s*$")


def is_ec_lab(file: TextFile) -> bool:
    """Return whether the first line is EC-Lab's."""
    return file.lines[0].startswith(("EC-Lab ASCII FILE", "BT-Lab ASCII FILE"))


def read_ec_lab(file: TextFile) -> tuple[Spectrum, ...]:
    """Return the sweeps of an EC-Lab file, one per cycle.

    Raises:
        FileFormatError: cut short, or without frequency and impedance.
    """
    count = (
        re.search(r"Nb header lines\s*:\s*(\d+)", file.lines[1]) if len(file.lines) > 1 else None
    )
    if count is None:
        raise file.fail('expected "Nb header lines : <number>"', line=1)
    at = int(count[1]) - 1
    if len(file.lines) <= at:
        raise file.fail(
            f"the file is cut short: expected {at + 1} header lines, found {len(file.lines)}"
        )
    header = file.lines[at].rstrip("\t ").split("\t")
    columns = recognised_columns(header, file, line=at)
    if not is_impedance(columns):
        raise file.fail(
            f"expected columns freq/Hz, Re(Z)/Ohm and -Im(Z)/Ohm, found {', '.join(header[:6])}",
            line=at,
        )
    rows = [
        (line, text.rstrip("\t").split("\t"))
        for line, text in enumerate(file.lines[at + 1 :], at + 1)
        if text.strip()
    ]
    _demand_whole(file, rows, width=len(header))
    said = [match for text in file.lines[:at] if (match := _SAID.match(text))]
    metadata = {match["key"]: match["value"] for match in said}
    return spectra_of(file, rows, columns, source_format=NAME, metadata=metadata)


def _demand_whole(file: TextFile, rows: list[Row], *, width: int) -> None:
    """Check that the first row has all columns and that the last ends as the one above it.

    Numbers have a fixed form ("1.0002181E-001"), so a shorter last one was cut.
    """
    if not rows:
        return
    line, first = rows[0]
    if len(first) < width:
        raise file.fail(
            f"the file is cut short: expected {width} columns, found {len(first)}", line=line
        )
    line, last = rows[-1]
    if len(rows) > 1 and not file.ends_with_newline and len(last) == len(first):
        above = rows[-2][1][-1]
        if "E" in above and len(last[-1].lstrip("-")) < len(above.lstrip("-")):
            raise file.fail(
                f"the file is cut short: expected a number like {above!r}, found {last[-1]!r}",
                line=line,
            )
