"""A charge or a discharge between two potentials, as the cycling protocols take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labctl.analysis.cycling import HalfCycle, half_cycle, together
from labctl.instruments.dc_techniques import Ca, Cp, Stop
from labctl.run.protocol import PlannedStep, step
from labctl_protocols.currents import driven

if TYPE_CHECKING:
    from labctl.run.run import Measurement, Run
    from labctl_protocols.currents import Direction

_LONGEST_S = 200 * 3600.0  # where no nominal capacity says how long a half-cycle may take
_SPARE = 2.0  # a cell may hold more than its nominal capacity


@dataclass(frozen=True, kw_only=True)
class HalfCycleSettings:
    """How a half-cycle is taken.

    Attributes:
        current_a: its size.
        window_v: lower and upper potential against the cell's reference electrode.
        nominal_capacity_c: to plan by; None if unknown.
        interval_s: time between two points.
        cv_until: share of the current at which a hold at the upper potential ends; None: no hold.
        cv_longest_s: how long such a hold may last.
    """

    current_a: float
    window_v: tuple[float, float]
    nominal_capacity_c: float | None
    interval_s: float
    cv_until: float | None = None
    cv_longest_s: float = 7200.0

    @property
    def longest_s(self) -> float:
        """Return after how long a half-cycle is given up."""
        usual_s = self.usual_s
        return _LONGEST_S if usual_s is None else _SPARE * usual_s

    @property
    def usual_s(self) -> float | None:
        """Return how long it takes for the nominal capacity; None if that is unknown."""
        return None if self.nominal_capacity_c is None else self.nominal_capacity_c / self.current_a

    def current(self, direction: Direction, *, longest_s: float | None = None) -> Cp:
        """Return the step of constant current, up to the end of the window."""
        return driven(
            direction,
            self.current_a,
            window_v=self.window_v,
            duration_s=self.longest_s if longest_s is None else longest_s,
            interval_s=self.interval_s,
        )

    def hold(self) -> Ca | None:
        """Return the hold at the upper potential that follows a charge, if there is one."""
        if self.cv_until is None:
            return None
        return Ca(
            potential_v=self.window_v[1],
            duration_s=self.cv_longest_s,
            interval_s=self.interval_s,
            stop=Stop(current_below_a=self.cv_until * self.current_a),
            largest_current_a=self.current_a,
        )


def half_cycle_steps(
    key: str, direction: Direction, settings: HalfCycleSettings
) -> list[PlannedStep]:
    """Return the steps of a half-cycle."""
    current = step(f"{key}/{direction}", settings.current(direction))
    if settings.usual_s is not None:
        current = replace(current, expected_duration_s=settings.usual_s)
    hold = settings.hold() if direction == "charge" else None
    return [current] if hold is None else [current, step(f"{key}/charge-cv", hold)]


async def take_half_cycle(
    run: Run, key: str, direction: Direction, settings: HalfCycleSettings
) -> HalfCycle:
    """Charge or discharge once and return what passed."""
    current = settings.current(direction)
    parts = [summary(await run.cp(key=f"{key}/{direction}", parameters=current))]
    hold = settings.hold() if direction == "charge" else None
    if hold is not None:
        parts.append(summary(await run.ca(key=f"{key}/charge-cv", parameters=hold)))
    return together(parts)


def summary(measured: Measurement) -> HalfCycle:
    """Return what one step passed."""
    return half_cycle(
        measured.column("potential_v"),
        measured.column("charge_c"),
        measured.column("elapsed_s"),
        ended_by=measured.ended_by,
    )
