"""Techniques: one electrochemical measurement each, its parameters and the columns it gives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

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


Quantity = Literal[
    "frequency_hz",
    "amplitude_v_rms",
    "amplitude_a_rms",
    "potential_v",
    "current_a",
    "rate_v_per_s",
    "interval_s",
]


@dataclass(frozen=True)
class Asked:
    """A value that a technique asks for: its parameter's name, and the quantity whose limits hold.

    `quantity` is a field of `PotentiostatLimits`, and of a channel's limits.
    """

    parameter: str
    value: float
    quantity: Quantity


class Technique(Protocol):
    """What every technique is: parameters that know their columns, limits and duration.

    Attributes:
        NAME: the technique's name, the stream its points go to, and the step's kind.
        UNITS: its columns and their units.
    """

    NAME: ClassVar[str]
    UNITS: ClassVar[dict[str, str]]

    @property
    def expected_points(self) -> int:
        """Return how many points there will be, or at most if a condition may end it earlier."""
        ...

    def expected_duration_s(self) -> float:
        """Return about how long it takes, for progress and planning."""
        ...

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as a document holds them."""
        ...

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        ...

    def ended_by(self, last: Mapping[str, float]) -> str:
        """Return which condition a last point fulfils that ends it early, in words; or ""."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """What impedance spectra have in common: the way through their frequencies.

    Attributes:
        frequency_start_hz: first frequency.
        frequency_end_hz: last frequency.
        n_points: frequencies, logarithmically spaced, both ends included.
        repeats_first: measure the first frequency once more at the end, to see drift.
    """

    frequency_start_hz: float
    frequency_end_hz: float
    n_points: int
    repeats_first: bool = False

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

    def ended_by(self, last: Mapping[str, float]) -> str:
        """Return "": a spectrum is measured to its end."""
        return ""

    def _asked_frequencies(self) -> list[Asked]:
        return [
            Asked("frequency_start_hz", self.frequency_start_hz, "frequency_hz"),
            Asked("frequency_end_hz", self.frequency_end_hz, "frequency_hz"),
        ]


@dataclass(frozen=True, kw_only=True)
class Eis(_Sweep):
    """Electrochemical impedance spectroscopy: a potential sine of falling or rising frequency.

    Attributes:
        amplitude_v_rms: root-mean-square amplitude of the sine (not peak, not peak to peak).
        bias_v: DC potential under the sine, WE against RE.
        is_bias_known: False in a plan whose `bias_v` will be a potential measured before; it is
            checked once it is known.
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

    amplitude_v_rms: float
    bias_v: float = 0.0
    is_bias_known: bool = True
    first_impedance_ohm: float | None = None

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        peak_v = math.sqrt(2) * self.amplitude_v_rms
        sine = [
            *self._asked_frequencies(),
            Asked("amplitude_v_rms", self.amplitude_v_rms, "amplitude_v_rms"),
        ]
        if not self.is_bias_known:
            return sine
        return [
            *sine,
            Asked("bias_v less the sine's peak", self.bias_v - peak_v, "potential_v"),
            Asked("bias_v plus the sine's peak", self.bias_v + peak_v, "potential_v"),
        ]


@dataclass(frozen=True, kw_only=True)
class Geis(_Sweep):
    """Galvanostatic impedance spectroscopy: a current sine of falling or rising frequency.

    Attributes:
        amplitude_a_rms: root-mean-square amplitude of the sine (not peak, not peak to peak).
        bias_a: DC current under the sine.
    """

    NAME: ClassVar[str] = "geis"
    UNITS: ClassVar[dict[str, str]] = {
        "frequency_hz": "Hz",
        "z_real_ohm": "ohm",
        "z_imag_ohm": "ohm",
        "amplitude_a_rms": "A",
        "potential_v": "V",
        "current_range_a": "A",
        "status_bits": "1",
        "is_repeat": "1",
    }

    amplitude_a_rms: float
    bias_a: float = 0.0

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        peak_a = math.sqrt(2) * self.amplitude_a_rms
        return [
            *self._asked_frequencies(),
            Asked("amplitude_a_rms", self.amplitude_a_rms, "amplitude_a_rms"),
            Asked("bias_a less the sine's peak", self.bias_a - peak_a, "current_a"),
            Asked("bias_a plus the sine's peak", self.bias_a + peak_a, "current_a"),
        ]


@dataclass(frozen=True, kw_only=True)
class Ocp:
    """Open-circuit potential against time, cell off.

    Attributes:
        duration_s: how long, at most.
        interval_s: time between two points.
        stop_change_v: it ends early once the potential has changed by less than this within
            `stop_window_s`, looked at window by window on the instrument; None: it does not.
        stop_window_s: length of a window.
    """

    NAME: ClassVar[str] = "ocp"
    UNITS: ClassVar[dict[str, str]] = {
        "elapsed_s": "s",
        "potential_v": "V",
        "status_bits": "1",
    }

    duration_s: float
    interval_s: float = 1.0
    stop_change_v: float | None = None
    stop_window_s: float = 600.0

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

    def asked(self) -> list[Asked]:
        """Return every value that has to keep a limit."""
        return [Asked("interval_s", self.interval_s, "interval_s")]

    def ended_by(self, last: Mapping[str, float]) -> str:
        """Return that the potential has come to rest, if it may end for that reason."""
        if self.stop_change_v is None or last["elapsed_s"] < self.stop_window_s:
            return ""
        return f"changed by less than {self.stop_change_v:g} V in {self.stop_window_s:g} s"


@dataclass(frozen=True, kw_only=True)
class PotentiostatLimits:
    """What a potentiostat can do at most, a field for each `Quantity`; from its manual."""

    potential_v: tuple[float, float]
    current_a: tuple[float, float]
    frequency_hz: tuple[float, float]
    amplitude_v_rms: tuple[float, float]
    amplitude_a_rms: tuple[float, float]
    rate_v_per_s: tuple[float, float]
    interval_s: tuple[float, float]


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
