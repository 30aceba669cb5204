"""The text of a MethodSCRIPT turned into its tree, or into the error the instrument reports.

The instrument checks a script while it loads it: commands, arguments, declarations and scopes are
judged here, values only when the script runs. Source: PalmSens MethodSCRIPT manual and error table.
Inference: the column points at the first character of what is wrong, or behind the line's last
token when something is missing (then 4004); how deep scopes may nest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from labctl_simulators.methodscript_arguments import ArgumentReader
from labctl_simulators.methodscript_commands import SIGNATURES
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_packet import round_to_float32
from labctl_simulators.methodscript_syntax import (
    Block,
    Branch,
    Choice,
    Command,
    Condition,
    Literal,
    Measurement,
    Operand,
    Repeat,
    Script,
)
from labctl_simulators.methodscript_tokens import Token, TokenKind, tokenize

MAX_SCOPE_DEPTH = 16


def parse_script(lines: Sequence[str]) -> Script:
    """The tree of a script given as its lines, the closing empty line left out.

    Raises:
        ScriptError: the first mistake in the text, with line and column.
    """
    parser = _Parser()
    for number, text in enumerate(lines, start=1):
        tokens = tokenize(text, number)
        if tokens:
            parser.take_line(tokens)
    return parser.finish(last_line=len(lines))


@dataclass(slots=True)
class _Scope:
    """A block that is still open, and what opened it."""

    body: Block
    opened_by: Repeat | Measurement | Choice


class _Parser:
    def __init__(self) -> None:
        self._script = Script([], [])
        self._body = self._script.body
        self._scopes: list[_Scope] = []
        self._declared: dict[str, bool] = {}  # name -> is it an array
        self._has_on_finished = False
        self._flow = {
            "if": self._open_choice,
            "elseif": self._next_branch,
            "else": self._last_branch,
            "endif": self._close_choice,
            "loop": self._open_loop,
            "endloop": self._close_loop,
            "breakloop": self._break_loop,
            "on_finished:": self._begin_on_finished,
        }

    def take_line(self, tokens: list[Token]) -> None:
        reader = ArgumentReader(tokens, self._declared)
        word = reader.command
        if word.text in self._flow:
            self._flow[word.text](reader)
        elif word.kind is TokenKind.WORD and word.text in SIGNATURES:
            self._take_command(reader)
        else:
            raise word.error(ErrorCode.UNKNOWN_SCRIPT_COMMAND)

    def finish(self, *, last_line: int) -> Script:
        if self._scopes:
            raise ScriptError(ErrorCode.SCRIPT_ENDED_EARLY, line=last_line + 1, column=1)
        return self._script

    def _take_command(self, reader: ArgumentReader) -> None:
        signature = SIGNATURES[reader.command.text]
        if signature.error_in_loop is not None and self._is_in_measurement():
            raise reader.command.error(signature.error_in_loop)
        command = reader.read_command(signature)
        if signature.loop_id is None:
            self._body.append(command)
        else:
            self._open_measurement(command, reader.command)

    def _open_measurement(self, command: Command, word: Token) -> None:
        measurement = Measurement(command, [])
        self._body.append(measurement)
        self._open(_Scope(measurement.body, measurement), word)

    def _open_loop(self, reader: ArgumentReader) -> None:
        repeat = Repeat(self._condition(reader), [])
        self._body.append(repeat)
        self._open(_Scope(repeat.body, repeat), reader.command)

    def _open_choice(self, reader: ArgumentReader) -> None:
        branch = Branch(self._condition(reader), [])
        choice = Choice([branch])
        self._body.append(choice)
        self._open(_Scope(branch.body, choice), reader.command)

    def _open(self, scope: _Scope, word: Token) -> None:
        if len(self._scopes) == MAX_SCOPE_DEPTH:
            raise word.error(ErrorCode.SCOPE_TOO_DEEP)
        self._scopes.append(scope)
        self._body = scope.body

    def _next_branch(self, reader: ArgumentReader) -> None:
        choice = self._current_choice(reader.command)
        self._begin_branch(choice, Branch(self._condition(reader), []))

    def _last_branch(self, reader: ArgumentReader) -> None:
        reader.expect_end()
        choice = self._current_choice(reader.command)
        self._begin_branch(choice, Branch(None, []))

    def _begin_branch(self, choice: Choice, branch: Branch) -> None:
        choice.branches.append(branch)
        self._scopes[-1].body = branch.body
        self._body = branch.body

    def _current_choice(self, word: Token) -> Choice:
        """The `if` that `word` continues; behind its `else` nothing but `endif` may follow."""
        opened_by = self._scopes[-1].opened_by if self._scopes else None
        if not isinstance(opened_by, Choice):
            _refuse_scope_change(word)
        if opened_by.branches[-1].condition is None:
            raise word.error(ErrorCode.NOT_HERE)
        return opened_by

    def _close_choice(self, reader: ArgumentReader) -> None:
        reader.expect_end()
        if not self._scopes or not isinstance(self._scopes[-1].opened_by, Choice):
            _refuse_scope_change(reader.command)
        self._close()

    def _close_loop(self, reader: ArgumentReader) -> None:
        reader.expect_end()
        if not self._scopes or isinstance(self._scopes[-1].opened_by, Choice):
            _refuse_scope_change(reader.command)
        self._close()

    def _close(self) -> None:
        self._scopes.pop()
        if self._scopes:
            self._body = self._scopes[-1].body
        else:
            self._body = self._script.on_finished if self._has_on_finished else self._script.body

    def _break_loop(self, reader: ArgumentReader) -> None:
        reader.expect_end()
        if all(isinstance(scope.opened_by, Choice) for scope in self._scopes):
            raise reader.command.error(ErrorCode.NOT_HERE)
        self._body.append(Command(reader.command.line, "breakloop"))

    def _begin_on_finished(self, reader: ArgumentReader) -> None:
        reader.expect_end()
        if self._scopes or self._has_on_finished:
            raise reader.command.error(ErrorCode.NOT_HERE)
        self._has_on_finished = True
        self._body = self._script.on_finished

    def _condition(self, reader: ArgumentReader) -> Condition:
        left = _single(reader.read_operand())
        operator = reader.read_operator()
        right = _single(reader.read_operand())
        reader.expect_end()
        return Condition(reader.command.line, left, operator, right)

    def _is_in_measurement(self) -> bool:
        return any(isinstance(scope.opened_by, Measurement) for scope in self._scopes)


def _single(operand: Operand) -> Operand:
    """A number as the instrument compares it: with the precision of its variables."""
    if isinstance(operand, Literal) and isinstance(operand.number, float):
        return Literal(round_to_float32(operand.number))
    return operand


def _refuse_scope_change(word: Token) -> NoReturn:
    raise word.error(ErrorCode.BAD_SCOPE_CHANGE)
