"""What a measurement loop of a MethodSCRIPT is asked for, and what it gives step by step."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from labctl_simulators.methodscript_packet import Value
from labctl_simulators.methodscript_potentiostat import Potentiostat


@dataclass(frozen=True, slots=True)
class Request:
    """A measurement loop as the script asked for it.

    Attributes:
        numbers: the positional arguments behind the output variables, in SI units.
        now_s: the instrument's clock, to be read again after every yield.
        options: the numbers of each optional argument that holds numbers only.
    """

    numbers: tuple[float, ...]
    potentiostat: Potentiostat
    now_s: Callable[[], float]
    options: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    def option(self, name: str, default: float) -> float:
        """The number of an optional argument, or what holds without it."""
        return self.options.get(name, (default,))[0]


@dataclass(frozen=True, slots=True)
class Point:
    """Values for the output variables, and for the variables of each option."""

    outputs: tuple[Value, ...]
    options: Mapping[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])


# Seconds that pass, a line of output, or a point.
Steps = Generator[float | str | Point, None, None]
# called when the script arrives at the loop, refuses bad arguments at once, then measures
MeasurementLoop = Callable[[Request], Steps]
