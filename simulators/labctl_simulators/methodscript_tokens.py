"""A line of MethodSCRIPT cut into tokens, each with its column.

Source: PalmSens MethodSCRIPT manual, chapter on syntax. Which of 4004, 4014 and 4039 answers which
malformed literal is inference, except that `1.5` and `1e-3` are known to give 4004.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_packet import PREFIXES, UNITY


class TokenKind(Enum):
    """What a token can be."""

    WORD = auto()
    NUMBER = auto()
    STRING = auto()
    FSTRING = auto()
    OPERATOR = auto()
    BRACKET = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a line; `column` counts from 1."""

    kind: TokenKind
    text: str
    line: int
    column: int

    @property
    def end_column(self) -> int:
        """The column right behind the token."""
        return self.column + len(self.text)

    def error(self, code: ErrorCode) -> ScriptError:
        """The error that points at this token."""
        return ScriptError(code, line=self.line, column=self.column)


_TOKEN = re.compile(
    r"""(?P<BLANK>[ \t]+|\#.*)
      |(?P<FSTRING>f"[^"]*")
      |(?P<STRING>"[^"]*")
      |(?P<OPERATOR>==|!=|<=|>=|<|>)
      |(?P<BRACKET>[()\[\]])
      |(?P<NUMBER>[-+]?[0-9][0-9A-Za-z_]*)
      |(?P<WORD>[A-Za-z_][A-Za-z0-9_]*:?)""",
    re.VERBOSE,
)
_DECIMAL = re.compile(r"(?P<digits>[-+]?[0-9]+)(?P<suffix>.?)(?P<rest>.*)")
_BASED = re.compile(r"[-+]?0(?:x[0-9A-Fa-f]+|b[01]+)")
_EXPONENTS = {prefix: exponent for prefix, exponent in PREFIXES if prefix != UNITY}
_INT32_LIMIT = 2**31


def tokenize(text: str, line: int) -> list[Token]:
    """The tokens of one line; blanks and the comment are left out.

    Raises:
        ScriptError: a character that begins no token (4004).
    """
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise ScriptError(ErrorCode.UNEXPECTED_CHARACTER, line=line, column=position + 1)
        if match.lastgroup != "BLANK":
            kind = TokenKind[match.lastgroup]
            tokens.append(Token(kind, match.group(), line, position + 1))
        position = match.end()
    return tokens


def parse_literal(token: Token) -> float | int:
    """The number a literal stands for: an `int` when it ends in `i` or is hexadecimal or binary.

    Raises:
        ScriptError: a suffix that is no SI prefix (4004), characters behind the suffix or more
            than 32 bits (4039), an SI prefix on a hexadecimal or binary literal (4014).
    """
    if token.text.lstrip("+-")[:2] in ("0x", "0b"):
        return _parse_based(token)
    match = _DECIMAL.fullmatch(token.text)
    if match is None:
        raise token.error(ErrorCode.BAD_LITERAL)
    suffix = match["suffix"]
    if suffix not in ("", "i") and suffix not in _EXPONENTS:
        column = token.column + match.start("suffix")
        raise ScriptError(ErrorCode.UNEXPECTED_CHARACTER, line=token.line, column=column)
    mantissa = int(match["digits"])
    if match["rest"] or not -_INT32_LIMIT <= mantissa < _INT32_LIMIT:
        raise token.error(ErrorCode.BAD_LITERAL)
    return mantissa if suffix == "i" else _scaled(mantissa, _EXPONENTS.get(suffix, 0))


def _scaled(mantissa: int, exponent: int) -> float:
    # dividing by an exact power keeps 100m == 0.1, multiplying by 1e-3 would not
    return mantissa * 10.0**exponent if exponent >= 0 else mantissa / 10.0**-exponent


def _parse_based(token: Token) -> int:
    text = token.text.removesuffix("i")
    match = _BASED.fullmatch(text)
    if match is None:
        is_prefixed = _BASED.fullmatch(text[:-1]) is not None and text[-1] in _EXPONENTS
        code = ErrorCode.HEXADECIMAL_NOT_INTEGER if is_prefixed else ErrorCode.BAD_LITERAL
        raise token.error(code)
    number = int(text, 0)
    if not -_INT32_LIMIT <= number < 2 * _INT32_LIMIT:
        raise token.error(ErrorCode.BAD_LITERAL)
    return number
