"""The tree a loaded MethodSCRIPT is: what the parser makes and the interpreter walks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Literal:
    """A number written in the script."""

    number: float | int


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable, or one element of an array."""

    name: str
    index: Literal | Reference | None = None


Operand = Literal | Reference


@dataclass(frozen=True, slots=True)
class Text:
    """A string: fixed pieces and, between them, what an f-string fills in."""

    pieces: tuple[str | Reference, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A name or a variable type."""

    text: str


Argument = Operand | Text | Word


@dataclass(frozen=True, slots=True)
class Command:
    """One command with its arguments, which fit its signature.

    An option that came more than once holds the arguments of all, one after the other.
    """

    line: int
    name: str
    arguments: tuple[Argument, ...] = ()
    options: Mapping[str, tuple[Argument, ...]] = field(
        default_factory=dict[str, tuple[Argument, ...]]
    )


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison; `operator` is one of == != < <= > >=."""

    line: int
    left: Operand
    operator: str
    right: Operand


@dataclass(frozen=True, slots=True)
class Branch:
    """One arm of an `if`; the `else` arm has no condition."""

    condition: Condition | None
    body: Block


@dataclass(frozen=True, slots=True)
class Choice:
    """`if` ... `endif`: the first branch whose condition holds is run."""

    branches: list[Branch]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`loop` ... `endloop`."""

    condition: Condition
    body: Block


@dataclass(frozen=True, slots=True)
class Measurement:
    """`meas_loop_...` ... `endloop`: the body runs once per point."""

    command: Command
    body: Block


Statement = Command | Choice | Repeat | Measurement
Block = list[Statement]


@dataclass(frozen=True, slots=True)
class Script:
    """A whole script, and what runs when it has ended or was aborted."""

    body: Block
    on_finished: Block
