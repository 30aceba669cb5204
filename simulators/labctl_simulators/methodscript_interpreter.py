"""Runs a loaded MethodSCRIPT on a potentiostat, without waiting for anything.

`Interpreter.run` is a generator: it yields the seconds the instrument is busy and is resumed when
they have passed. Whoever resumes it may instead throw `AbortRequested` (command `Z`) or
`EndMeasurementRequested` (command `Y`) into it.

Sources: PalmSens MethodSCRIPT manual and communication protocol. An abort closes the open loops,
innermost first, then runs what stands behind `on_finished:`; a run-time error does neither, so that
the cell stays as it is. Inference: the time a command takes; a measurement loop that refuses its
arguments does so before it announces itself.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from labctl_simulators.methodscript_actions import AbortRequested, Actions, BreakLoop, Busy
from labctl_simulators.methodscript_commands import ADDED_MEASUREMENT, SIGNATURES, Kind
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_measurements import MEASUREMENT_LOOPS
from labctl_simulators.methodscript_potentiostat import Potentiostat
from labctl_simulators.methodscript_steps import Point, Request, Steps
from labctl_simulators.methodscript_syntax import (
    Argument,
    Block,
    Choice,
    Command,
    Literal,
    Measurement,
    Reference,
    Repeat,
    Script,
    Statement,
    Word,
)

COMMAND_S = 50e-6
_SCAN_END = "-"


class EndMeasurementRequested(Exception):  # noqa: N818 - a request, not an error
    """The measurement loop that is running is to end; the script goes on behind it."""


class Interpreter:
    """One execution of one script.

    Args:
        script: what the parser made of the text.
        potentiostat: what the script acts on.
        emit: takes each line of output, without the line feed.
        now_s: the instrument's clock in s; it moves by what `run` yields.

    Attributes:
        is_measuring: whether a measurement loop is open.
        is_finishing: whether what stands behind `on_finished:` has begun.
    """

    def __init__(
        self,
        script: Script,
        potentiostat: Potentiostat,
        *,
        emit: Callable[[str], None],
        now_s: Callable[[], float],
    ) -> None:
        self.is_measuring = False
        self.is_finishing = False
        self._has_open_scan = False
        self._script = script
        self._potentiostat = potentiostat
        self._now_s = now_s
        self._actions = Actions(potentiostat, emit=emit, now_s=now_s)
        self._memory = self._actions.memory
        self._line = 1

    def run(self) -> Busy:
        """Yield the seconds each step takes until the script, `on_finished:` included, is over.

        Raises:
            ScriptError: a run-time error, with the line it happened in.
        """
        try:
            with suppress(AbortRequested):
                yield from self._run_block(self._script.body)
            self.is_finishing = True
            self._actions.forget_packet()
            with suppress(AbortRequested):
                yield from self._run_block(self._script.on_finished)
        except ScriptError as error:
            raise ScriptError(error.code, line=self._line) from error

    def _run_block(self, block: Block) -> Busy:
        for statement in block:
            if isinstance(statement, Command):  # nearly all are, and this is where the time goes
                self._line = statement.line
                yield COMMAND_S
                busy = self._actions.run(statement)
                if busy is not None:
                    yield from busy
            else:
                yield from self._run_scope(statement)

    def _run_scope(self, statement: Statement) -> Busy:
        match statement:
            case Choice():
                yield from self._run_choice(statement)
            case Repeat():
                yield from self._run_loop(statement)
            case Measurement():
                yield from self._run_measurement(statement)
            case Command():
                raise TypeError("a command is no scope")

    def _begin(self, line: int) -> Busy:
        self._line = line
        yield COMMAND_S

    def _run_choice(self, choice: Choice) -> Busy:
        for branch in choice.branches:
            if branch.condition is not None:
                yield from self._begin(branch.condition.line)
            if branch.condition is None or self._memory.holds(branch.condition):
                yield from self._run_block(branch.body)
                return

    def _run_loop(self, repeat: Repeat) -> Busy:
        self._actions.emit("L")
        try:
            yield from self._repeat(repeat)
        except (AbortRequested, EndMeasurementRequested):
            self._actions.emit("+")
            raise
        self._actions.emit("+")

    def _repeat(self, repeat: Repeat) -> Busy:
        with suppress(BreakLoop):
            while True:
                yield from self._begin(repeat.condition.line)
                if not self._memory.holds(repeat.condition):
                    return
                yield from self._run_block(repeat.body)

    def _run_measurement(self, measurement: Measurement) -> Busy:
        command = measurement.command
        yield from self._begin(command.line)
        steps = MEASUREMENT_LOOPS[command.name](self._request(command))
        self._actions.emit(f"M{SIGNATURES[command.name].loop_id:04X}")
        self.is_measuring = True
        try:
            yield from self._run_points(measurement, steps)
        except AbortRequested:
            self._end_measurement()
            raise
        self._end_measurement()

    def _end_measurement(self) -> None:
        self.is_measuring = False
        self._actions.forget_packet()
        if self._has_open_scan:
            self._mark(_SCAN_END)
        self._actions.emit("*")

    def _mark(self, line: str) -> None:
        self._has_open_scan = line != _SCAN_END
        self._actions.emit(line)

    def _run_points(self, measurement: Measurement, steps: Steps) -> Busy:
        write = self._writer(measurement.command)
        with suppress(BreakLoop, EndMeasurementRequested):
            for step in steps:
                if isinstance(step, Point):
                    write(step)
                    yield from self._run_block(measurement.body)
                    self._line = measurement.command.line
                elif isinstance(step, str):
                    self._mark(step)
                else:
                    yield step

    def _writer(self, command: Command) -> Callable[[Point], None]:
        """What puts a point into the variables that the loop was given for it."""
        memory, read, now_s = self._memory, self._potentiostat.read, self._now_s
        outputs = _outputs(command)
        added = list(_added(command))
        options = {
            name: references
            for name, arguments in command.options.items()
            if name != ADDED_MEASUREMENT and (references := _references(arguments))
        }

        def write(point: Point) -> None:
            for reference, value in zip(outputs, point.outputs, strict=True):
                memory.write(reference, value)
            for vartype, reference in added:
                memory.write(reference, read(vartype, now_s()))
            for name, references in options.items():
                for reference, value in zip(references, point.options[name], strict=True):
                    memory.write(reference, value)

        return write

    def _request(self, command: Command) -> Request:
        for channel in command.options.get(ADDED_MEASUREMENT, ())[::3]:
            if self._number(channel) != 0:
                raise ScriptError(ErrorCode.NO_SUCH_CHANNEL)
        for vartype, _ in _added(command):
            if vartype not in ("ab", "ba"):
                raise ScriptError(ErrorCode.WRONG_VARTYPE)
        kinds = SIGNATURES[command.name].arguments
        numbers = tuple(
            self._number(argument)
            for kind, argument in zip(kinds, command.arguments, strict=True)
            if kind is Kind.NUMBER
        )
        options = {
            name: tuple(self._number(argument) for argument in arguments)
            for name, arguments in command.options.items()
            if Kind.VARIABLE not in SIGNATURES[command.name].options[name]
        }
        return Request(numbers, self._potentiostat, self._now_s, options)

    def _number(self, argument: Argument) -> float:
        if not isinstance(argument, Literal | Reference):
            raise TypeError(f"the parser let {argument!r} pass as a number")
        return float(self._memory.number(argument))


def _outputs(command: Command) -> tuple[Reference, ...]:
    kinds = SIGNATURES[command.name].arguments
    return _references(
        tuple(
            argument
            for kind, argument in zip(kinds, command.arguments, strict=True)
            if kind is Kind.VARIABLE
        )
    )


def _references(arguments: tuple[Argument, ...]) -> tuple[Reference, ...]:
    return tuple(argument for argument in arguments if isinstance(argument, Reference))


def _added(command: Command) -> Iterator[tuple[str, Reference]]:
    """Type and variable of each measurement that was added to a loop."""
    arguments = command.options.get(ADDED_MEASUREMENT, ())
    for vartype, reference in zip(arguments[1::3], arguments[2::3], strict=True):
        if isinstance(vartype, Word) and isinstance(reference, Reference):
            yield vartype.text, reference
