"""Runs a loaded MethodSCRIPT on a potentiostat, without waiting for anything.

`Interpreter.run` is a generator: it yields the seconds the instrument is busy and is resumed when
they have passed. Whoever resumes it may instead throw `AbortRequested` (command `Z`) or
`EndMeasurementRequested` (command `Y`) into it.

Sources: PalmSens MethodSCRIPT manual and communication protocol. An abort closes the open loops,
innermost first, then runs what stands behind `on_finished:`; a run-time error does neither, so that
the cell stays as it is. Inference: the time a command takes; a measurement loop that refuses its
arguments does so before it announces itself.
"""

from collections.abc import Callable
from contextlib import suppress

from labctl_simulators.methodscript_actions import AbortRequested, Actions, BreakLoop, Busy
from labctl_simulators.methodscript_commands import SIGNATURES, Kind
from labctl_simulators.methodscript_errors import ScriptError
from labctl_simulators.methodscript_measurements import MEASUREMENT_LOOPS, Point, Request, Steps
from labctl_simulators.methodscript_packet import Value
from labctl_simulators.methodscript_potentiostat import Potentiostat
from labctl_simulators.methodscript_syntax import (
    Block,
    Choice,
    Command,
    Literal,
    Measurement,
    Reference,
    Repeat,
    Script,
    Statement,
)

COMMAND_S = 50e-6


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
            yield from self._run_statement(statement)

    def _run_statement(self, statement: Statement) -> Busy:
        match statement:
            case Command():
                yield from self._run_command(statement)
            case Choice():
                yield from self._run_choice(statement)
            case Repeat():
                yield from self._run_loop(statement)
            case Measurement():
                yield from self._run_measurement(statement)

    def _begin(self, line: int) -> Busy:
        self._line = line
        yield COMMAND_S

    def _run_command(self, command: Command) -> Busy:
        yield from self._begin(command.line)
        busy = self._actions.run(command)
        if busy is not None:
            yield from busy

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
        self._actions.emit("*")

    def _run_points(self, measurement: Measurement, steps: Steps) -> Busy:
        with suppress(BreakLoop, EndMeasurementRequested):
            for step in steps:
                if isinstance(step, Point):
                    self._take_point(measurement.command, step)
                    yield from self._run_block(measurement.body)
                    self._line = measurement.command.line
                else:
                    yield step

    def _take_point(self, command: Command, point: Point) -> None:
        kinds = SIGNATURES[command.name].arguments
        outputs = (
            argument
            for kind, argument in zip(kinds, command.arguments, strict=True)
            if kind is Kind.VARIABLE and isinstance(argument, Reference)
        )
        for reference, value in zip(outputs, point.outputs, strict=True):
            self._memory.write(reference, value)
        for name, operands in command.options.items():
            for operand, value in zip(operands, point.options[name], strict=True):
                self._write_option(operand, value)

    def _write_option(self, operand: Literal | Reference, value: Value) -> None:
        if isinstance(operand, Reference):
            self._memory.write(operand, value)

    def _request(self, command: Command) -> Request:
        kinds = SIGNATURES[command.name].arguments
        numbers = tuple(
            float(self._memory.number(argument))
            for kind, argument in zip(kinds, command.arguments, strict=True)
            if kind is Kind.NUMBER and isinstance(argument, Literal | Reference)
        )
        return Request(numbers, self._potentiostat, self._now_s)
