"""Onsets and charges of a linear sweep: where a stability window ends, by several criteria at once.

There is no unique onset: a cut-off current is arbitrary, and a tangent depends on where the sweep
ends (Mery et al., Materials 2021, 14, 3840; Han et al., Adv. Energy Mater. 2016, 6, 1501590). So
all of them are given: thresholds above the capacitive baseline, the tangent, and the first current
that noise does not explain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy.signal import savgol_filter

from labctl.analysis.baseline import Baseline, fit_baseline
from labctl.errors import AnalysisError

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = NDArray[np.float64]
Direction = Literal["anodic", "cathodic"]

THRESHOLDS_UA_PER_CM2 = (1.0, 2.0, 5.0, 10.0)
_A_PER_M2 = 0.01  # that are 1 uA/cm2
_SIGMAS = 5.0
_SUSTAINED = 3  # points in a row that a current must stay above what it crosses
_AROUND = 4  # points on each side of a crossing that place it
_TANGENT_V = 0.02  # over which a slope is taken
_PAST_PEAK = 0.9  # of a maximum: a current that falls below has passed it
_FEWEST = 40


class Onset(BaseModel):
    """The potential where a current begins, by one criterion.

    Attributes:
        criterion: "1 uA/cm2" above the baseline, "tangent", "5 sigma".
        potential_v: against the reference electrode; None if there is none.
        u_potential_v: its standard uncertainty.
        potential_vs_li_v: against Li+/Li; None if the reference's potential is not known.
        reason: why there is none, in words; "" if there is one.
    """

    model_config = ConfigDict(frozen=True)

    criterion: str
    potential_v: float | None = None
    u_potential_v: float | None = None
    potential_vs_li_v: float | None = None
    reason: str = ""


class SweepAnalysis(BaseModel):
    """What one sweep says.

    Attributes:
        direction: "anodic" or "cathodic".
        begin_v, end_v: first and last measured potential, against the reference electrode.
        reference_shift_v: what was added for potentials against Li+/Li; None if it is not known.
        baseline: the capacitive current, from the first part of the sweep.
        onsets: by every criterion.
        largest_ua_per_cm2: largest current density above the baseline, in the sweep's direction.
        charge_c, u_charge_c: charge above the baseline, from where that begins to the sweep's end,
            positive in the sweep's direction.
        warnings: what a reader should know.
    """

    model_config = ConfigDict(frozen=True)

    direction: Direction
    begin_v: float
    end_v: float
    reference_shift_v: float | None
    baseline: Baseline
    onsets: tuple[Onset, ...]
    largest_ua_per_cm2: float | None
    charge_c: float
    u_charge_c: float
    warnings: tuple[str, ...] = ()

    def onset(self, criterion: str) -> Onset:
        """Return the onset by a criterion; KeyError if there is no such criterion."""
        return {each.criterion: each for each in self.onsets}[criterion]


class ChargeRatio(BaseModel):
    """The charge of a scan as a share of that of the scan before, above their baselines.

    Attributes:
        ratio, u_ratio: second / first; None if there is none.
        first_c, second_c: the charges, over the potentials that both scans cover.
        from_v, to_v: these potentials.
        reason: why there is no ratio, in words; "" if there is one.
    """

    model_config = ConfigDict(frozen=True)

    ratio: float | None
    u_ratio: float | None
    first_c: float
    second_c: float
    from_v: float
    to_v: float
    reason: str = ""


@dataclass(frozen=True)
class Sweep:
    """A sweep with its baseline taken off.

    Attributes:
        sign: +1 for an anodic sweep, -1 for a cathodic one.
        elapsed_s, potential_v: as measured, shape (n_points,).
        net_a: current above the baseline, positive in the sweep's direction, shape (n_points,).
        u_net_a: noise and doubt about the baseline, shape (n_points,).
        u_baseline_a: the latter alone, shape (n_points,).
        baseline: what was taken off.
        area_m2: of the electrode, if known.
    """

    sign: float
    elapsed_s: FloatArray
    potential_v: FloatArray
    net_a: FloatArray
    u_net_a: FloatArray
    u_baseline_a: FloatArray
    baseline: Baseline
    area_m2: float | None

    @property
    def along_v(self) -> FloatArray:
        """Return the potential, turned so that it rises along the sweep."""
        return self.sign * self.potential_v

    @property
    def span_v(self) -> tuple[float, float]:
        """Return the lowest and highest potential whose charge counts: from the baseline on.

        Before that flows the double layer's own transient, and an instrument looks for its range.
        """
        ends_v = self.baseline.from_v, float(self.potential_v[-1])
        return min(ends_v), max(ends_v)

    def charge_c(self, low_v: float, high_v: float) -> tuple[float, float]:
        """Return the charge between two potentials, and its standard uncertainty."""
        inside = (self.potential_v >= low_v) & (self.potential_v <= high_v)
        if inside.sum() < 2:
            return math.nan, math.nan
        t_s, net_a = self.elapsed_s[inside], self.net_a[inside]
        noise_a2 = self.u_net_a[inside] ** 2 - self.u_baseline_a[inside] ** 2
        u_noise_c = math.sqrt(float((noise_a2 * np.gradient(t_s) ** 2).sum()))
        u_common_c = float(np.trapezoid(self.u_baseline_a[inside], t_s))
        return float(np.trapezoid(net_a, t_s)), math.hypot(u_noise_c, u_common_c)


def sweep_of(
    elapsed_s: ArrayLike,
    potential_v: ArrayLike,
    current_a: ArrayLike,
    *,
    area_m2: float | None = None,
    range_a: ArrayLike | None = None,
) -> Sweep:
    """Return a sweep with its baseline taken off.

    Args:
        elapsed_s: shape (n_points,).
        potential_v: measured, one direction only, shape (n_points,).
        current_a: measured, positive for oxidation, shape (n_points,).
        area_m2: of the electrode; without it there are no current densities.
        range_a: current range of each point, which its noise goes with, shape (n_points,).

    Raises:
        AnalysisError: fewer than 40 points, or values that are not finite.
    """
    t, e, i = (np.asarray(each, dtype=np.float64) for each in (elapsed_s, potential_v, current_a))
    if t.size < _FEWEST or not t.shape == e.shape == i.shape:
        raise AnalysisError(f"{t.size} points: the analysis of a sweep needs {_FEWEST}")
    if not np.all(np.isfinite(t) & np.isfinite(e) & np.isfinite(i)):
        raise AnalysisError("every point of a sweep must be finite")
    ranges = np.ones_like(i) if range_a is None else np.asarray(range_a, dtype=np.float64)
    baseline = fit_baseline(e, i, ranges)
    expected_a, u_baseline_a = baseline.at(e)
    return Sweep(
        sign=baseline.sign,
        elapsed_s=t,
        potential_v=e,
        net_a=baseline.sign * (i - expected_a),
        u_net_a=np.hypot(baseline.noise_of(ranges), u_baseline_a),
        u_baseline_a=u_baseline_a,
        baseline=baseline,
        area_m2=area_m2,
    )


def analyse_sweep(
    sweep: Sweep,
    *,
    reference_shift_v: float | None = None,
    thresholds_ua_per_cm2: Sequence[float] = THRESHOLDS_UA_PER_CM2,
) -> SweepAnalysis:
    """Return onsets and charge of a sweep.

    Args:
        sweep: with its baseline taken off.
        reference_shift_v: potential of the reference electrode against Li+/Li, if known.
        thresholds_ua_per_cm2: current densities above the baseline that count as an onset each.
    """
    onsets = [_threshold(sweep, threshold) for threshold in thresholds_ua_per_cm2]
    tangent, said = _tangent(sweep)
    onsets += [tangent, _first_seen(sweep)]
    ends_v = float(sweep.potential_v[0]), float(sweep.potential_v[-1])
    charge_c, u_charge_c = sweep.charge_c(*sweep.span_v)
    largest_a = float(sweep.net_a.max())
    lacks = () if reference_shift_v is not None else ("no reference potential: none vs Li+/Li",)
    return SweepAnalysis(
        direction="anodic" if sweep.sign > 0 else "cathodic",
        begin_v=ends_v[0],
        end_v=ends_v[1],
        reference_shift_v=reference_shift_v,
        baseline=sweep.baseline,
        onsets=tuple(_shifted(onset, reference_shift_v) for onset in onsets),
        largest_ua_per_cm2=None if sweep.area_m2 is None else _ua_per_cm2(largest_a, sweep.area_m2),
        charge_c=charge_c,
        u_charge_c=u_charge_c,
        warnings=(*said, *sweep.baseline.warnings, *lacks),
    )


def charge_ratio(first: Sweep, second: Sweep) -> ChargeRatio:
    """Return the charge of a second scan as a share of the first, above their baselines."""
    spans = [each.span_v for each in (first, second)]
    low_v, high_v = max(span[0] for span in spans), min(span[1] for span in spans)
    (first_c, u_first_c), (second_c, u_second_c) = (
        each.charge_c(low_v, high_v) for each in (first, second)
    )
    reason = ""
    if not math.isfinite(first_c) or not math.isfinite(second_c):
        reason = "the scans have no potentials in common"
    elif first_c < _SIGMAS * u_first_c:
        reason = "the first scan's charge is not above its uncertainty"
    ratio = None if reason else second_c / first_c
    u_ratio = None if ratio is None else math.hypot(u_second_c, ratio * u_first_c) / first_c
    return ChargeRatio(
        ratio=ratio,
        u_ratio=u_ratio,
        first_c=first_c,
        second_c=second_c,
        from_v=low_v,
        to_v=high_v,
        reason=reason,
    )


def _ua_per_cm2(current_a: float, area_m2: float) -> float:
    return current_a / area_m2 / _A_PER_M2


def _shifted(onset: Onset, shift_v: float | None) -> Onset:
    if onset.potential_v is None or shift_v is None:
        return onset
    return onset.model_copy(update={"potential_vs_li_v": onset.potential_v + shift_v})


def _threshold(sweep: Sweep, threshold_ua_per_cm2: float) -> Onset:
    """Return where the current density first stays above a threshold."""
    criterion = f"{threshold_ua_per_cm2:g} uA/cm2"
    if sweep.area_m2 is None:
        return Onset(criterion=criterion, reason="the electrode's area is not known")
    limit_a = threshold_ua_per_cm2 * _A_PER_M2 * sweep.area_m2
    at = _first_sustained(sweep.net_a > limit_a)
    if at is None:
        most = _ua_per_cm2(float(sweep.net_a.max()), sweep.area_m2)
        return Onset(criterion=criterion, reason=f"not reached: at most {most:.2g} uA/cm2")
    if limit_a < 3 * sweep.u_net_a[at]:
        doubt = _ua_per_cm2(float(sweep.u_net_a[at]), sweep.area_m2)
        reason = f"noise and baseline are known to {doubt:.2g} uA/cm2 only"
        return Onset(criterion=criterion, reason=reason)
    potential_v, u_potential_v = _crossing(sweep, at, limit_a)
    return Onset(criterion=criterion, potential_v=potential_v, u_potential_v=u_potential_v)


def _first_seen(sweep: Sweep) -> Onset:
    """Return the first potential whose current neither noise nor baseline explains."""
    criterion = f"{_SIGMAS:g} sigma"
    at = _beginning(sweep)
    if at is None:
        return Onset(criterion=criterion, reason="no current beyond noise and baseline")
    potential_v, u_potential_v = _crossing(sweep, at, _SIGMAS * float(sweep.u_net_a[at]))
    return Onset(criterion=criterion, potential_v=potential_v, u_potential_v=u_potential_v)


def _beginning(sweep: Sweep) -> int | None:
    """Return the index of the first point that neither noise nor baseline explains."""
    is_seen = sweep.net_a > _SIGMAS * sweep.u_net_a
    return _first_sustained(is_seen & sweep.baseline.is_past(sweep.potential_v))


def _first_sustained(is_above: NDArray[np.bool_]) -> int | None:
    """Return the first index from which on several points in a row are above; None if none is."""
    runs = np.convolve(is_above, np.ones(_SUSTAINED), mode="valid") == _SUSTAINED
    return int(np.argmax(runs)) if runs.any() else None


def _crossing(sweep: Sweep, at: int, limit_a: float) -> tuple[float, float]:
    """Return where a line through the points around an index crosses a current, and its u."""
    near = slice(max(0, at - _AROUND), at + _AROUND + 1)
    along_v, net_a = sweep.along_v[near], sweep.net_a[near]
    middle_v = float(along_v.mean())
    slope, at_middle = np.polyfit(along_v - middle_v, net_a, 1)
    step_v = float(np.ptp(along_v)) / (along_v.size - 1)
    crossing_v = middle_v + (limit_a - at_middle) / slope if slope > 0 else math.inf
    if not along_v[0] <= crossing_v <= along_v[-1]:  # noise, or a jump: no line to speak of
        return sweep.sign * float(sweep.along_v[at]), _AROUND * step_v
    off_a = net_a - at_middle - slope * (along_v - middle_v)
    scatter_a = max(float(np.sqrt((off_a**2).sum() / (off_a.size - 2))), float(sweep.u_net_a[at]))
    u_line_v = scatter_a / math.sqrt(off_a.size) / slope
    u_baseline_v = float(sweep.u_baseline_a[at]) / slope
    u_potential_v = math.hypot(u_line_v, u_baseline_v, step_v / math.sqrt(12))
    return sweep.sign * float(crossing_v), float(u_potential_v)


def _tangent(sweep: Sweep) -> tuple[Onset, tuple[str, ...]]:
    """Return where the steepest tangent of the first rise meets the baseline."""
    begins = _beginning(sweep)
    if begins is None:
        return Onset(criterion="tangent", reason="no current beyond noise and baseline"), ()
    width = _window(sweep)
    net_a, per_point_a = _smoothed(sweep.net_a, width)
    along_v, per_point_v = _smoothed(sweep.along_v, width)
    slopes = per_point_a / per_point_v
    ends = _end_of_rise(net_a, begins)
    at = begins + int(np.argmax(slopes[begins : ends + 1]))
    slope = float(slopes[at])
    if slope <= 0:
        return Onset(criterion="tangent", reason="the current does not rise"), ()
    onset_v = float(along_v[at] - net_a[at] / slope)
    u_a = float(sweep.u_net_a[at]) / math.sqrt(width)
    u_slope = float(sweep.u_net_a[at]) / float(per_point_v[at]) * math.sqrt(12 / width**3)
    u_onset_v = math.hypot(u_a / slope, float(net_a[at]) * u_slope / slope**2)
    onset = Onset(
        criterion="tangent", potential_v=sweep.sign * onset_v, u_potential_v=float(u_onset_v)
    )
    said = "the current is steepest at the sweep's end: its tangent depends on where it ends"
    return onset, (said,) if at >= sweep.net_a.size - width else ()


def _smoothed(values: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Return the line through the points around each one: its value and its slope per point."""
    return (
        np.asarray(savgol_filter(values, width, 1), dtype=np.float64),
        np.asarray(savgol_filter(values, width, 1, deriv=1), dtype=np.float64),
    )


def _window(sweep: Sweep) -> int:
    """Return over how many points a slope is taken, an odd number."""
    step_v = float(np.ptp(sweep.along_v)) / (sweep.along_v.size - 1)
    most = sweep.along_v.size // 5
    return max(5, min(round(_TANGENT_V / step_v), most)) // 2 * 2 + 1


def _end_of_rise(net_a: FloatArray, begins: int) -> int:
    """Return the index of the first maximum that the current falls from, or the last one."""
    rise = net_a[begins:]
    peaks_a = np.maximum.accumulate(rise)
    fallen = np.flatnonzero(rise < _PAST_PEAK * peaks_a)
    ends = int(fallen[0]) if fallen.size else rise.size
    return begins + int(np.argmax(rise[: ends + 1]))
