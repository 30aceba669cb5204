"""Conductivities at several temperatures, as a protocol collects them, and their line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.analysis.arrhenius import ArrheniusFit, fit_arrhenius
from labctl.errors import AnalysisError
from labctl.quantities import celsius

if TYPE_CHECKING:
    from labctl.analysis.conductivity import Conductivity
    from labctl.run.settle import SettleResult

FEWEST_TEMPERATURES = 3
_UNPROBED = "sample not probed: what it had still to relax is in no uncertainty"


@dataclass(frozen=True)
class Point:
    """One conductivity, and what decides whether it may be trusted."""

    temperature_k: float
    branch: str
    sigma: Conductivity
    is_arc_closed: bool
    settled: SettleResult

    @property
    def objection(self) -> str:
        """Why it may not be trusted, in words; "" if it may."""
        if not self.settled.is_settled:
            return "not settled"
        return "" if self.is_arc_closed else "the ions' arc is not closed"

    @property
    def u_ln_settling(self) -> float:
        """Relative standard uncertainty from what the sample had still to relax; 0 if not known."""
        if not self.is_probed:
            return 0.0
        return math.hypot(self.settled.probe_remainder, self.settled.u_probe_remainder)

    @property
    def is_probed(self) -> bool:
        """Whether probes have told what the sample had still to relax."""
        return math.isfinite(self.settled.u_probe_remainder)


@dataclass
class ConductivitySeries:
    """The conductivities measured so far; the line goes through those that may be trusted."""

    u_temperature_k: float
    points: list[Point] = field(default_factory=list[Point])
    left_out: list[str] = field(default_factory=list[str])

    def add(self, point: Point) -> None:
        """Take one temperature; one that may not be trusted is named in `left_out`."""
        if point.objection:
            self.left_out.append(f"{celsius(point.temperature_k):.1f} degC ({point.objection})")
        else:
            self.points.append(point)

    def remarks(self) -> list[str]:
        """Return what a reader of the line has to know of the temperatures behind it, in words."""
        remarks = [f"left out: {', '.join(self.left_out)}"] if self.left_out else []
        if not all(point.is_probed for point in self.points):
            remarks.append(_UNPROBED)
        return remarks

    def fit(self) -> ArrheniusFit | None:
        """Return the Arrhenius line, or None with too few temperatures for one."""
        if len({round(point.temperature_k) for point in self.points}) < FEWEST_TEMPERATURES:
            return None
        return fit_arrhenius(
            [point.temperature_k for point in self.points],
            [point.sigma.sigma_s_per_m for point in self.points],
            u_ln_r=[point.sigma.u_ln_r for point in self.points],
            u_ln_settling=[point.u_ln_settling for point in self.points],
            u_ln_geometry=self.points[0].sigma.u_ln_geometry,
            u_temperature_k=self.u_temperature_k,
            branch=[point.branch for point in self.points],
        )

    def activation_energy_ev(self) -> float | None:
        """Return the activation energy as far as it is known."""
        try:
            line = self.fit()
        except AnalysisError:
            return None
        return None if line is None else line.primary.ea_ev
