"""Reading an impedance spectrum from whatever file an instrument's program wrote."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from labctl.formats.delimited import read_delimited
from labctl.formats.ec_lab import is_ec_lab, read_ec_lab
from labctl.formats.gamry import is_gamry, read_gamry
from labctl.formats.relaxis import is_relaxis, read_relaxis
from labctl.formats.sweep import Spectrum
from labctl.formats.text_file import TextFile, read_text_file
from labctl.formats.zview import is_zview, read_zview

__all__ = ["READABLE", "Spectrum", "read_spectra", "read_spectrum"]

READABLE = "EC-Lab ASCII (.mpt, .txt), Gamry (.DTA), ZView (.z), RelaxIS (.txt), CSV"

_Reader = Callable[[TextFile], tuple[Spectrum, ...]]
_READERS: tuple[tuple[Callable[[TextFile], bool], _Reader], ...] = (
    (is_ec_lab, read_ec_lab),
    (is_gamry, read_gamry),
    (is_zview, read_zview),
    (is_relaxis, read_relaxis),
)


def read_spectra(path: Path) -> tuple[Spectrum, ...]:
    """Return all sweeps of a file, in its order; the content says what it is, not its name.

    Raises:
        FileFormatError: not readable as any known format, or cut short.
    """
    file = read_text_file(Path(path))
    for is_mine, read in _READERS:
        if is_mine(file):
            return read(file)
    spectra = read_delimited(file)
    if spectra is None:
        raise file.fail(f"holds no spectrum that can be read; readable are {READABLE}")
    return spectra


def read_spectrum(path: Path) -> Spectrum:
    """Return the spectrum of a file; of several sweeps the first, with a warning.

    Raises:
        FileFormatError: not readable as any known format, or cut short.
    """
    first, *others = read_spectra(path)
    if not others:
        return first
    said = f"the first of {len(others) + 1} sweeps in this file; read_spectra gives them all"
    return replace(first, warnings=(*first.warnings, said))
