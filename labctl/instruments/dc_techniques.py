"""Techniques against time: sweeps and steps of potential or current, with their stop conditions.

Potentials are of WE against RE; a positive current is oxidation at WE (it charges a cathode there).
`potential_v` and `current_a` of a point are both measured, never what was set, and `charge_c` is
the integral of the measured current over the measured time since the technique began.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from labctl.instruments.techniques import Asked

if TYPE_CHECKING:
    from collections.abc import Mapping

_OVERHEAD_S = 1.0
# What an instrument sends is rounded, and what it decides by is not: a value within this of a
# limit, relative to it, counts as having reached it.
_SENT = 2e-5
_ROUND = 1e-9  # a run of exactly n intervals has n points, whatever its quotient is rounded to

DC_UNITS = {
    "elapsed_s": "s",
    "potential_v": "V",
    "current_a": "A",
    "charge_c": "C",
    "current_range_a": "A",
    "status_bits": "1",
}


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a technique ends before its time, decided on the instrument, point by point.

    Attributes:
        potential_above_v, potential_below_v: at a measured potential beyond this.
        current_above_a, current_below_a: at a measured current beyond this, in magnitude.
        charge_above_c: at an integral of the measured current beyond this, in magnitude.
    """

    potential_above_v: float | None = None
    potential_below_v: float | None = None
    current_above_a: float | None = None
    current_below_a: float | None = None
    charge_above_c: float | None = None

    def reached(self, last: Mapping[str, float]) -> str:
        """Return which condition a point fulfils, in words; "" if none.

        Meant for the last point of a measurement that ended early.
        """
        size_a, size_c = abs(last["current_a"]), abs(last["charge_c"])
        seen = (
            ("potential above", last["potential_v"], self.potential_above_v, "V", 1),
            ("potential below", last["potential_v"], self.potential_below_v, "V", -1),
            ("current above", size_a, self.current_above_a, "A", 1),
            ("current below", size_a, self.current_below_a, "A", -1),
            ("charge above", size_c, self.charge_above_c, "C", 1),
        )
        return next(
            (
                f"{what} {limit:g} {unit}"
                for what, value, limit, unit, sign in seen
                if limit is not None and sign * (value - limit) >= -_SENT * abs(limit)
            ),
            "",
        )


NEVER = Stop()


@dataclass(frozen=True, kw_only=True)
class _Dc:
    """What the techniques against time have in common.

    Attributes:
        stop: what ends it early.
        largest_current_a: about the largest current to expect, in magnitude, if known: an
            instrument that changes its current range then begins in the right one.
    """

    UNITS: ClassVar[dict[str, str]] = DC_UNITS

    stop: Stop = NEVER
    largest_current_a: float | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as a document holds them."""
        return asdict(self)

    def ended_by(self, last: Mapping[str, float]) -> str:
        """Return which condition the last point fulfils that ends it early, in words; or ""."""
        return self.stop.reached(last)


@dataclass(frozen=True, kw_only=True)
class _Held(_Dc):
    """Something held for a time."""

    duration_s: float
    interval_s: float = 1.0

    @property
    def expected_points(self) -> int:
        """Return how many points there will be, or at most if a condition ends it earlier."""
        return max(1, math.floor(self.duration_s / self.interval_s + _ROUND))

    def expected_duration_s(self) -> float:
        """Return about how long it takes, for progress and planning."""
        return self.duration_s + _OVERHEAD_S


@dataclass(frozen=True, kw_only=True)
class Ca(_Held):
    """Chronoamperometry: a potential held, the current against time.

    Attributes:
        potential_v: what is applied.
        duration_s: how long, at most.
        interval_s: time between two points.
    """

    NAME: ClassVar[str] = "ca"

    potential_v: float

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        return [
            Asked("potential_v", self.potential_v, "potential_v"),
            Asked("interval_s", self.interval_s, "interval_s"),
        ]


@dataclass(frozen=True, kw_only=True)
class Cp(_Held):
    """Chronopotentiometry: a current held, the potential against time.

    Attributes:
        current_a: what is applied; positive charges a cathode at WE.
        duration_s: how long, at most.
        interval_s: time between two points.
    """

    NAME: ClassVar[str] = "cp"

    current_a: float

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        return [
            Asked("current_a", self.current_a, "current_a"),
            Asked("interval_s", self.interval_s, "interval_s"),
            *_asked_potentials(self.stop),
        ]


@dataclass(frozen=True, kw_only=True)
class Lsv(_Dc):
    """Linear sweep voltammetry: a staircase of potential from one end to the other.

    Attributes:
        begin_v: first potential.
        end_v: last potential.
        step_v: height of a stair, a positive number.
        rate_v_per_s: how fast.
    """

    NAME: ClassVar[str] = "lsv"

    begin_v: float
    end_v: float
    step_v: float
    rate_v_per_s: float

    @property
    def expected_points(self) -> int:
        """Return how many points there will be, or at most if a condition ends it earlier."""
        return math.floor(abs(self.end_v - self.begin_v) / self.step_v + 1e-6) + 1

    def expected_duration_s(self) -> float:
        """Return about how long it takes, for progress and planning."""
        return self.expected_points * self.step_v / self.rate_v_per_s + _OVERHEAD_S

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        return [
            Asked("begin_v", self.begin_v, "potential_v"),
            Asked("end_v", self.end_v, "potential_v"),
            *_asked_stairs(self.step_v, self.rate_v_per_s),
        ]


@dataclass(frozen=True, kw_only=True)
class Cv(_Dc):
    """Cyclic voltammetry: from begin to the first vertex, to the second, back to begin.

    Attributes:
        begin_v: where every scan begins and ends, between the two vertices.
        vertex_1_v: where it goes first.
        vertex_2_v: where it goes then.
        step_v: height of a stair, a positive number.
        rate_v_per_s: how fast.
        n_scans: how many cycles.
    """

    NAME: ClassVar[str] = "cv"
    UNITS: ClassVar[dict[str, str]] = {**DC_UNITS, "scan": "1"}

    begin_v: float
    vertex_1_v: float
    vertex_2_v: float
    step_v: float
    rate_v_per_s: float
    n_scans: int = 1

    @property
    def expected_points(self) -> int:
        """Return how many points there will be, or at most if a condition ends it earlier."""
        return self.n_scans * (math.floor(self._path_v() / self.step_v + 1e-6) + 1)

    def _path_v(self) -> float:
        turns = (self.begin_v, self.vertex_1_v, self.vertex_2_v, self.begin_v)
        return sum(abs(b - a) for a, b in pairwise(turns))

    def expected_duration_s(self) -> float:
        """Return about how long it takes, for progress and planning."""
        return self.expected_points * self.step_v / self.rate_v_per_s + _OVERHEAD_S

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        return [
            Asked("begin_v", self.begin_v, "potential_v"),
            Asked("vertex_1_v", self.vertex_1_v, "potential_v"),
            Asked("vertex_2_v", self.vertex_2_v, "potential_v"),
            *_asked_stairs(self.step_v, self.rate_v_per_s),
        ]


def _asked_stairs(step_v: float, rate_v_per_s: float) -> list[Asked]:
    return [
        Asked("rate_v_per_s", rate_v_per_s, "rate_v_per_s"),
        Asked("step_v / rate_v_per_s", step_v / rate_v_per_s, "interval_s"),
    ]


def _asked_potentials(stop: Stop) -> list[Asked]:
    """Return the potentials that a current is driven up to: what a cell may be brought to."""
    return [
        Asked(f"stop.{name}", value, "potential_v")
        for name in ("potential_above_v", "potential_below_v")
        if (value := getattr(stop, name)) is not None
    ]
