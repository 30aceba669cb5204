"""The variables and arrays of a running MethodSCRIPT, and its arithmetic.

Source: PalmSens MethodSCRIPT manual and error table. Inference: a new variable holds 0.0 of unknown
type; arithmetic is single precision (captured mantissas look like it); integers and floats do not
mix in arithmetic (4207), since the vendor's scripts convert them; in comparisons they do.
"""

import operator
from collections.abc import Callable

from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_packet import Value, round_to_float32
from labctl_simulators.methodscript_syntax import Condition, Literal, Operand, Reference

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_INT32_LIMIT = 2**31
_FLOAT32_LIMIT = 2.0**128


class Memory:
    """The values behind the names of a script."""

    def __init__(self) -> None:
        self._variables: dict[str, Value] = {}
        self._arrays: dict[str, list[Value]] = {}

    def declare_variable(self, name: str) -> None:
        """Give `name` the value of a fresh variable."""
        self._variables[name] = Value(0.0)

    def declare_array(self, name: str, size: float) -> None:
        """Give `name` that many fresh elements."""
        if not isinstance(size, int):
            raise ScriptError(ErrorCode.WRONG_DATATYPE)
        if size <= 0:
            raise ScriptError(ErrorCode.MUST_BE_POSITIVE)
        self._arrays[name] = [Value(0.0)] * size

    def read(self, operand: Operand) -> Value:
        """The value of a literal, a variable or an element."""
        if isinstance(operand, Literal):
            return Value(operand.number)
        if operand.index is None:
            return self._variables[operand.name]
        return self._arrays[operand.name][self._position(operand.name, operand.index)]

    def number(self, operand: Operand) -> float | int:
        """The bare number of a literal, a variable or an element."""
        return self.read(operand).number

    def write(self, reference: Reference, value: Value) -> None:
        """Store `value` under a variable or an element."""
        if reference.index is None:
            self._variables[reference.name] = value
        else:
            position = self._position(reference.name, reference.index)
            self._arrays[reference.name][position] = value

    def holds(self, condition: Condition) -> bool:
        """Whether a comparison is true."""
        left, right = self.number(condition.left), self.number(condition.right)
        return _COMPARISONS[condition.operator](left, right)

    def calculate(self, command: str, target: Reference, operand: Operand) -> None:
        """Do `add_var`, `sub_var`, `mul_var` or `div_var` to `target`; its type stays."""
        value = self.read(target)
        number = _calculate(command, value.number, self.number(operand))
        self.write(target, value.with_number(number))

    def _position(self, name: str, index: Operand) -> int:
        position = self.number(index)
        if not isinstance(position, int):
            raise ScriptError(ErrorCode.WRONG_DATATYPE)
        if not 0 <= position < len(self._arrays[name]):
            raise ScriptError(ErrorCode.INDEX_OUT_OF_BOUNDS)
        return position


def _calculate(command: str, left: float, right: float) -> float:
    if isinstance(left, int) != isinstance(right, int):
        raise ScriptError(ErrorCode.WRONG_DATATYPE)
    match command:
        case "add_var":
            number = left + right
        case "sub_var":
            number = left - right
        case "mul_var":
            number = left * right
        case _:
            number = _divide(left, right)
    if isinstance(number, int):
        if not -_INT32_LIMIT <= number < _INT32_LIMIT:
            raise ScriptError(ErrorCode.OVERFLOW)
        return number
    if not -_FLOAT32_LIMIT < number < _FLOAT32_LIMIT:
        raise ScriptError(ErrorCode.NOT_A_NUMBER)
    return round_to_float32(number)


def _divide(left: float, right: float) -> float:
    if right == 0:
        raise ScriptError(ErrorCode.DIVISION_BY_ZERO)
    # an integer quotient is cut off towards zero, as in C
    return int(left / right) if isinstance(left, int) else left / right
