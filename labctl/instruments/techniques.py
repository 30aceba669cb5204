"""Techniques: one electrochemical measurement each, its parameters and the columns it gives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import IntFlag
from typing import Any, ClassVar

# Time that an instrument spends per frequency beside the periods it averages, for estimates only.
_OVERHEAD_PER_POINT_S = 1.0
_PERIODS_PER_POINT = 4.0


@dataclass(frozen=True)
class Frame:
    """A columnar batch of points: every column has `n_points` numbers, in order of measurement."""

    columns: dict[str, list[float]]

    @property
    def n_points(self) -> int:
        """Return the number of points."""
        return len(next(iter(self.columns.values()), []))


class PointStatus(IntFlag):
    """The bits of the column `status_bits` of every technique; 0 means that all is well.

    The values are those of PalmSens's packets; other drivers translate theirs.
    """

    TIMING_NOT_MET = 1
    OVERLOAD = 2
    UNDERLOAD = 4
    OVERLOAD_WARNING = 8


@dataclass(frozen=True, kw_only=True)
class Eis:
    """Electrochemical impedance spectroscopy: a potential sine of falling or rising frequency.

    Attributes:
        frequency_start_hz: first frequency.
        frequency_end_hz: last frequency.
        n_points: frequencies, logarithmically spaced, both ends included.
        amplitude_v_rms: root-mean-square amplitude of the sine (not peak, not peak to peak).
        bias_v: DC potential under the sine, WE against RE.
        repeats_first: measure the first frequency once more at the end, to see drift.
        first_impedance_ohm: about |Z| at the first frequency, if known: an instrument that changes
            its current range point by point then begins in the right one.
    """

    NAME: ClassVar[str] = "eis"
    UNITS: ClassVar[dict[str, str]] = {
        "frequency_hz": "Hz",
        "z_real_ohm": "ohm",
        "z_imag_ohm": "ohm",
        "amplitude_v_rms": "V",
        "bias_v": "V",
        "current_range_a": "A",
        "status_bits": "1",
        "is_repeat": "1",
    }

    frequency_start_hz: float
    frequency_end_hz: float
    n_points: int
    amplitude_v_rms: float
    bias_v: float = 0.0
    repeats_first: bool = False
    first_impedance_ohm: float | None = None

    @property
    def expected_points(self) -> int:
        """Return how many points the technique gives when nothing goes wrong."""
        return self.n_points + int(self.repeats_first)

    def frequencies_hz(self) -> list[float]:
        """Return the frequencies asked for; an instrument may quantise them."""
        if self.n_points == 1:
            return [self.frequency_start_hz]
        ratio = self.frequency_end_hz / self.frequency_start_hz
        steps = self.n_points - 1
        return [self.frequency_start_hz * ratio ** (i / steps) for i in range(self.n_points)]

    def expected_duration_s(self) -> float:
        """Return about how long it takes, for progress and planning."""
        frequencies = self.frequencies_hz() + [self.frequency_start_hz] * self.repeats_first
        return sum(_OVERHEAD_PER_POINT_S + _PERIODS_PER_POINT / f for f in frequencies)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as a document holds them."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Ocp:
    """Open-circuit potential against time, cell off."""

    NAME: ClassVar[str] = "ocp"
    UNITS: ClassVar[dict[str, str]] = {
        "elapsed_s": "s",
        "potential_v": "V",
        "status_bits": "1",
    }

    duration_s: float
    interval_s: float = 1.0

    @property
    def expected_points(self) -> int:
        """Return how many points the technique gives when nothing goes wrong."""
        return max(1, math.floor(self.duration_s / self.interval_s + 1e-9))

    def expected_duration_s(self) -> float:
        """Return about how long it takes, for progress and planning."""
        return self.duration_s + _OVERHEAD_PER_POINT_S

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as a document holds them."""
        return asdict(self)


Technique = Eis | Ocp


@dataclass(frozen=True, kw_only=True)
class PotentiostatLimits:
    """What a potentiostat can do at most; from its manual."""

    potential_v: tuple[float, float]
    eis_frequency_hz: tuple[float, float]
    eis_amplitude_v_rms: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class StageLimits:
    """What a temperature stage can do at most."""

    temperature_k: tuple[float, float]
    rate_k_per_min: tuple[float, float]


@dataclass(frozen=True)
class StageReading:
    """What a temperature stage says at one instant; `status_bits` 0 means that all is well."""

    UNITS: ClassVar[dict[str, str]] = {
        "temperature_k": "K",
        "setpoint_k": "K",
        "heater_percent": "%",
        "status_bits": "1",
    }

    temperature_k: float
    setpoint_k: float
    heater_percent: float
    status_bits: int = 0


@dataclass(frozen=True)
class Identity:
    """Which physical instrument answered, in its own words."""

    maker: str
    model: str
    serial_number: str
    firmware: str
    extra: dict[str, str] = field(default_factory=dict[str, str])
