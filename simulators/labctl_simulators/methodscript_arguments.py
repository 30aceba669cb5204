"""The arguments of one line of MethodSCRIPT, read against the signature of its command.

Inference: a missing argument answers 4004 behind the last token of the line.
"""

import re
from collections.abc import MutableMapping

from labctl_simulators.methodscript_commands import (
    ADDED_MEASUREMENT,
    VARTYPES,
    Kind,
    Signature,
)
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_syntax import (
    Argument,
    Command,
    Literal,
    Operand,
    Reference,
    Text,
    Word,
)
from labctl_simulators.methodscript_tokens import Token, TokenKind, parse_literal

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_INSERT = re.compile(r"\{(?P<name>[a-z][a-z0-9_]*)(?:\[(?P<index>[a-z0-9_]+)\])?\}")


class ArgumentReader:
    """Reads a line token by token; `declared` maps each name to whether it is an array."""

    def __init__(self, tokens: list[Token], declared: MutableMapping[str, bool]) -> None:
        self.command = tokens[0]
        self._tokens = tokens
        self._position = 1
        self._declared = declared

    def read_command(self, signature: Signature) -> Command:
        """The whole line as a command.

        Raises:
            ScriptError: an argument that is missing, wrong, or one too many.
        """
        arguments = tuple(self._read(kind) for kind in signature.arguments)
        options: dict[str, tuple[Argument, ...]] = {}
        while self._has_option():
            word = self._tokens[self._position]
            name, read = self._read_option(signature)
            if name in options and name != ADDED_MEASUREMENT:
                raise word.error(ErrorCode.BAD_OPTION)
            options[name] = options.get(name, ()) + read
        self.expect_end()
        return Command(self.command.line, self.command.text, arguments, options)

    def read_operand(self) -> Operand:
        """A literal, a variable or an element of an array."""
        token = self._next()
        if token.kind is TokenKind.NUMBER:
            return Literal(parse_literal(token))
        return self._reference(token)

    def read_operator(self) -> str:
        """One of == != < <= > >=."""
        token = self._next()
        if token.kind is not TokenKind.OPERATOR:
            raise token.error(ErrorCode.UNEXPECTED_CHARACTER)
        return token.text

    def expect_end(self) -> None:
        """Nothing may follow.

        Raises:
            ScriptError: something follows (420A).
        """
        if self._position < len(self._tokens):
            raise self._tokens[self._position].error(ErrorCode.EXTRA_ARGUMENT)

    def _read(self, kind: Kind) -> Argument:
        match kind:
            case Kind.NUMBER:
                return self.read_operand()
            case Kind.VARIABLE:
                return self._read_variable()
            case Kind.VARTYPE:
                return self._read_vartype()
            case Kind.NEW_NAME:
                return self._read_new_name()
            case Kind.STRING:
                return self._read_text()

    def _read_variable(self) -> Reference:
        token = self._next()
        if token.kind is TokenKind.NUMBER:
            raise token.error(ErrorCode.IS_LITERAL)
        return self._reference(token)

    def _read_vartype(self) -> Word:
        token = self._next()
        if token.kind is not TokenKind.WORD or token.text not in VARTYPES:
            raise token.error(ErrorCode.WRONG_VARTYPE)
        return Word(token.text)

    def _read_new_name(self) -> Word:
        token = self._next()
        if _NAME.fullmatch(token.text) is None:
            raise token.error(ErrorCode.BAD_NAME)
        if token.text in self._declared:
            raise token.error(ErrorCode.REDECLARED)
        self._declared[token.text] = self.command.text == "array"
        return Word(token.text)

    def _read_text(self) -> Text:
        token = self._next()
        if token.kind is TokenKind.STRING:
            return Text((token.text[1:-1],))
        if token.kind is TokenKind.FSTRING:
            return self._interpolated(token)
        raise token.error(ErrorCode.UNEXPECTED_CHARACTER)

    def _reference(self, token: Token) -> Reference:
        if token.kind is not TokenKind.WORD:
            raise token.error(ErrorCode.UNEXPECTED_CHARACTER)
        if _NAME.fullmatch(token.text) is None:
            raise token.error(ErrorCode.BAD_NAME)
        is_array = self._declared.get(token.text)
        if is_array is None:
            raise token.error(ErrorCode.UNDECLARED)
        if not self._next_is("["):
            if is_array:
                raise token.error(ErrorCode.IS_ARRAY)
            return Reference(token.text)
        if not is_array:
            raise token.error(ErrorCode.IS_VARIABLE)
        self._position += 1
        index = self.read_operand()
        self._expect("]")
        return Reference(token.text, index)

    def _interpolated(self, token: Token) -> Text:
        text = token.text[2:-1]
        pieces: list[str | Reference] = []
        position = 0
        for match in _INSERT.finditer(text):
            pieces += [text[position : match.start()], self._inserted(match, token)]
            position = match.end()
        pieces.append(text[position:])
        if any("{" in piece for piece in pieces if isinstance(piece, str)):
            raise token.error(ErrorCode.FSTRING_NOT_CLOSED)
        return Text(tuple(pieces))

    def _inserted(self, match: re.Match[str], token: Token) -> Reference:
        name, index = match["name"], match["index"]
        if name not in self._declared or (index is not None and self._declared.get(index)):
            raise token.error(ErrorCode.UNDECLARED)
        if self._declared[name] != (index is not None):
            raise token.error(ErrorCode.IS_ARRAY if index is None else ErrorCode.IS_VARIABLE)
        if index is None:
            return Reference(name)
        if index in self._declared:
            return Reference(name, Reference(index))
        literal = Token(TokenKind.NUMBER, index, token.line, token.column)
        return Reference(name, Literal(parse_literal(literal)))

    def _has_option(self) -> bool:
        following = self._tokens[self._position : self._position + 2]
        return (
            len(following) == 2 and following[0].kind is TokenKind.WORD and following[1].text == "("
        )

    def _read_option(self, signature: Signature) -> tuple[str, tuple[Argument, ...]]:
        token = self._next()
        if token.text not in signature.options:
            raise token.error(ErrorCode.BAD_OPTION)
        self._expect("(")
        read = tuple(self._read(kind) for kind in signature.options[token.text])
        self._expect(")")
        return token.text, read

    def _next(self) -> Token:
        if self._position == len(self._tokens):
            last = self._tokens[-1]
            code = ErrorCode.UNEXPECTED_CHARACTER
            raise ScriptError(code, line=last.line, column=last.end_column)
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _next_is(self, text: str) -> bool:
        return self._position < len(self._tokens) and self._tokens[self._position].text == text

    def _expect(self, text: str) -> None:
        token = self._next()
        if token.text != text:
            raise token.error(ErrorCode.UNEXPECTED_CHARACTER)
