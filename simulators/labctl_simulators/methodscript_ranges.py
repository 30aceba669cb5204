"""Measuring ranges of a MethodSCRIPT potentiostat: choice, autoranging, overload and underload.

Source: PalmSens tables of current and potential ranges. In the vendor's recorded five-point
spectrum the range falls by one decade per point and every point measured in too high a range
carries "underload": so a point is not repeated for underload, the next one is measured lower.
Inference: an overloaded point is repeated one range up; a value asked for is served by the lowest
range that can measure it, and by the highest when none can.
"""

from dataclasses import dataclass

OVERLOAD_RATIO = 2.92
WARNING_RATIO = 2.46
UNDERLOAD_RATIO = 0.123

STATUS_OK = 0
STATUS_OVERLOAD = 2
STATUS_UNDERLOAD = 4
STATUS_WARNING = 8


@dataclass(frozen=True, slots=True)
class Range:
    """One range: the number the instrument calls it by, its nominal full scale (SI)."""

    index: int
    nominal: float

    @property
    def limit(self) -> float:
        """The largest magnitude this range measures."""
        return OVERLOAD_RATIO * self.nominal

    def status(self, *, peak: float, signal: float) -> int:
        """The status bits for the largest magnitude seen and the magnitude measured."""
        if peak >= self.limit:
            return STATUS_OVERLOAD
        if peak >= WARNING_RATIO * self.nominal:
            return STATUS_WARNING
        return STATUS_UNDERLOAD if signal < UNDERLOAD_RATIO * self.nominal else STATUS_OK


EMSTAT4_HR_CURRENT_RANGES = (
    Range(9, 100e-9),
    Range(12, 1e-6),
    Range(15, 10e-6),
    Range(18, 100e-6),
    Range(21, 1e-3),
    Range(24, 10e-3),
    Range(27, 100e-3),
)
EMSTAT4_POTENTIAL_RANGES = (
    Range(2, 50e-3),
    Range(3, 100e-3),
    Range(4, 200e-3),
    Range(5, 500e-3),
    Range(6, 1.0),
)


class RangeSelector:
    """The range in use, and between which ones autoranging may move it."""

    def __init__(self, ranges: tuple[Range, ...]) -> None:
        self._ranges = ranges
        self._position = self._lowest = self._highest = len(ranges) - 1

    @property
    def range(self) -> Range:
        """The range in use."""
        return self._ranges[self._position]

    def select(self, magnitude: float) -> None:
        """Pin the lowest range that can measure `magnitude`."""
        self._position = self._lowest = self._highest = self._position_for(magnitude)

    def allow(self, low: float, high: float) -> None:
        """Let autoranging move between the ranges for `low` and for `high`."""
        self._lowest, self._highest = self._position_for(low), self._position_for(high)
        self._position = max(self._lowest, min(self._highest, self._position))

    def step_up(self) -> bool:
        """Take the next higher range; False when there is none allowed."""
        can_move = self._position < self._highest
        self._position += can_move
        return can_move

    def step_down(self) -> bool:
        """Take the next lower range; False when there is none allowed."""
        can_move = self._position > self._lowest
        self._position -= can_move
        return can_move

    def raise_on(self, status: int) -> bool:
        """Autoranging on overload: True if the range was raised and is to be measured again."""
        return status == STATUS_OVERLOAD and self.step_up()

    def lower_on(self, status: int) -> None:
        """Autoranging after a point: one range down when the signal was too small for it."""
        if status == STATUS_UNDERLOAD:
            self.step_down()

    def _position_for(self, magnitude: float) -> int:
        fitting = (i for i, each in enumerate(self._ranges) if abs(magnitude) <= each.limit)
        return next(fitting, len(self._ranges) - 1)
