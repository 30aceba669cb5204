"""Charge and discharge of a cell: capacities, efficiencies, retention.

Charges are integrals of the measured current, so that a source that could not keep its current
shows in them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Reals = NDArray[np.float64]

_C_PER_MAH = 3.6
_KG_PER_G = 1e-3


class HalfCycle(BaseModel):
    """One charge or one discharge.

    Attributes:
        charge_c: the charge passed, a positive number.
        energy_j: the energy that went with it.
        duration_s: how long it took.
        end_potential_v: where it ended.
        ended_by: which condition ended it; "" if its time was up.
    """

    model_config = ConfigDict(frozen=True)

    charge_c: float
    energy_j: float
    duration_s: float
    end_potential_v: float
    ended_by: str

    @property
    def mean_potential_v(self) -> float:
        """Return the mean potential, weighted by charge; NaN if none passed."""
        return self.energy_j / self.charge_c if self.charge_c else math.nan


class Cycle(BaseModel):
    """One cycle: its capacities, and what became of them.

    Attributes:
        cycle: its number, from 1.
        charge_capacity_c, discharge_capacity_c: charge passed either way.
        charge_capacity_mah_per_g, discharge_capacity_mah_per_g: per mass of active material; None
            where that is not known.
        coulombic_efficiency: discharge over charge of this cycle; NaN if nothing was charged.
        energy_efficiency: likewise of the energies.
        mean_charge_v, mean_discharge_v: mean potentials, weighted by charge.
        retention: discharge capacity over that of the reference cycle; NaN before that.
        reference_cycle: which cycle that is.
        warnings: what to know before believing it, in words.
    """

    model_config = ConfigDict(frozen=True)

    cycle: int
    charge_capacity_c: float
    discharge_capacity_c: float
    charge_capacity_mah_per_g: float | None
    discharge_capacity_mah_per_g: float | None
    coulombic_efficiency: float
    energy_efficiency: float
    mean_charge_v: float
    mean_discharge_v: float
    retention: float
    reference_cycle: int
    warnings: tuple[str, ...] = ()


def half_cycle(
    potential_v: Reals, charge_c: Reals, elapsed_s: Reals, *, ended_by: str
) -> HalfCycle:
    """Return what one step of constant current or potential passed.

    Args:
        potential_v: measured, shape (n_points,).
        charge_c: integral of the measured current since the step began, shape (n_points,).
        elapsed_s: since the step began, shape (n_points,).
        ended_by: which condition ended it.
    """
    passed_c = np.diff(charge_c, prepend=0.0)
    mean_v = (potential_v + np.concatenate([potential_v[:1], potential_v[:-1]])) / 2
    return HalfCycle(
        charge_c=abs(float(charge_c[-1])),
        energy_j=abs(float(passed_c @ mean_v)),
        duration_s=float(elapsed_s[-1]),
        end_potential_v=float(potential_v[-1]),
        ended_by=ended_by,
    )


def together(parts: Sequence[HalfCycle]) -> HalfCycle:
    """Return several steps of one direction as one half-cycle."""
    return HalfCycle(
        charge_c=sum(part.charge_c for part in parts),
        energy_j=sum(part.energy_j for part in parts),
        duration_s=sum(part.duration_s for part in parts),
        end_potential_v=parts[-1].end_potential_v,
        ended_by=parts[-1].ended_by,
    )


def cycle_from(
    number: int,
    charge: HalfCycle,
    discharge: HalfCycle,
    *,
    reference: Cycle | None = None,
    active_mass_kg: float | None = None,
) -> Cycle:
    """Return a cycle's capacities and efficiencies.

    Args:
        number: of the cycle, from 1.
        charge: its charge.
        discharge: its discharge.
        reference: the cycle whose discharge capacity counts as whole; None: this one.
        active_mass_kg: of the active material.
    """
    whole_c = discharge.charge_c if reference is None else reference.discharge_capacity_c
    return Cycle(
        cycle=number,
        charge_capacity_c=charge.charge_c,
        discharge_capacity_c=discharge.charge_c,
        charge_capacity_mah_per_g=_per_gram(charge.charge_c, active_mass_kg),
        discharge_capacity_mah_per_g=_per_gram(discharge.charge_c, active_mass_kg),
        coulombic_efficiency=_ratio(discharge.charge_c, charge.charge_c),
        energy_efficiency=_ratio(discharge.energy_j, charge.energy_j),
        mean_charge_v=charge.mean_potential_v,
        mean_discharge_v=discharge.mean_potential_v,
        retention=_ratio(discharge.charge_c, whole_c),
        reference_cycle=number if reference is None else reference.cycle,
        warnings=_warnings(charge, discharge),
    )


def _warnings(charge: HalfCycle, discharge: HalfCycle) -> tuple[str, ...]:
    halves = (("charge", charge), ("discharge", discharge))
    return tuple(
        f"the {name} ended because its time was up: its capacity is a lower bound"
        for name, half in halves
        if not half.ended_by
    )


def _per_gram(charge_c: float, mass_kg: float | None) -> float | None:
    return None if mass_kg is None else charge_c / _C_PER_MAH / (mass_kg / _KG_PER_G)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
