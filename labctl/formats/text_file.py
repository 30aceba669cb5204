"""Text files as their makers leave them: encodings, line ends, decimal commas, files cut short."""

import re
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import FileFormatError

_LARGEST_BYTES = 100_000_000
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")


@dataclass(frozen=True)
class TextFile:
    """The lines of a text file, without their ends, and where they came from."""

    path: Path
    lines: tuple[str, ...]
    ends_with_newline: bool = True

    def fail(self, expected: str, *, line: int | None = None) -> FileFormatError:
        """Return the error for something in this file; `line` counts from 0."""
        where = f"{self.path}" if line is None else f"{self.path}, line {line + 1}"
        return FileFormatError(f"{where}: {expected}")

    def number(self, text: str, *, line: int) -> float:
        """Return a number written with a decimal point or a decimal comma.

        Raises:
            FileFormatError: it is not a number.
        """
        try:
            return float(_DECIMAL_COMMA.sub(".", text.strip(), count=1))
        except ValueError:
            raise self.fail(f"expected a number, found {text.strip()!r}", line=line) from None


def read_text_file(path: Path) -> TextFile:
    """Return the lines of a text file; any of the encodings that instruments write.

    Raises:
        FileFormatError: not a file, too large, empty, or not text.
    """
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file")
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise FileFormatError(f"{path}: larger than 100 MB, which is no spectrum")
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from error
    text = _decoded(path, content)
    # Some exports end a line with two carriage returns; str.splitlines would see empty lines.
    lines = re.split(r"\r*\n|\r", text)
    return TextFile(path, tuple(lines), text.endswith(("\n", "\r")))


def _decoded(path: Path, content: bytes) -> str:
    """Return the text; instruments write UTF-8, UTF-16 with a mark, or Latin-1."""
    if not content.strip():
        raise FileFormatError(f"{path}: the file is empty")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _or_fail(path, content, "utf-16")
    if b"\x00" in content:
        raise FileFormatError(f"{path}: a binary file; export it as text from the vendor's program")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _or_fail(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise FileFormatError(f"{path}: not a text file") from None
