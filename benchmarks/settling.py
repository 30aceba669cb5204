"""What waiting for the sample costs and gains, against a fixed dwell and the physical minimum.

    python -m benchmarks.settling [--quick] [--json] [--write]

temperature_eis from 25 to 75 degC in steps of 10 K at 2 K/min, on simulated instruments in virtual
time, for pellets of three activation energies that lag their stage by 5, 15 and 30 min:

* adaptive: the stage stands and probes show the sample at rest (the defaults);
* fixed: the stage stands, then 1 h;
* equal: the stage stands, then the shortest dwell, to the minute, that leaves no larger error of
  the activation energy than the adaptive campaigns did;
* minimum: see `minimum_s`.

--write puts the tables into docs/explanations/settling.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.settling_campaign import RAMP_K_PER_MIN, Campaign, Material, run_campaign
from labctl.quantities import BOLTZMANN_EV_PER_K

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MATERIALS = (
    Material("0.20 eV, 5 mS/cm", 5e-3, 0.20, "10 mV", "10 Hz"),
    Material("0.38 eV, 1 mS/cm", 1.02e-3, 0.38, "10 mV", "10 Hz"),
    Material("0.78 eV, 10 nS/cm", 1e-8, 0.78, "300 mV", "0.5 Hz"),
)
LAGS_MIN = (5.0, 15.0, 30.0)
CELSIUS = (25.0, 35.0, 45.0, 55.0, 65.0, 75.0)
LONGEST_DWELL_MIN = 240
TIMEOUT = "8 hours"
PAGE = Path(__file__).parents[1] / "docs" / "explanations" / "settling.md"


@dataclass(frozen=True)
class Group:
    """Campaigns that differ in their noise only: means, and root mean squares of errors."""

    hours: float
    ea_error_mev: float
    u_ea_mev: float
    settle_ea_error_mev: float
    worst_percent: float

    @classmethod
    def of(cls, campaigns: Sequence[Campaign]) -> Group:
        """Return what several campaigns have in common."""
        return cls(
            hours=float(np.mean([each.duration_s for each in campaigns])) / 3600,
            ea_error_mev=1e3 * _rms([each.ea_error_ev for each in campaigns]),
            u_ea_mev=1e3 * _rms([each.u_ea_ev for each in campaigns]),
            settle_ea_error_mev=1e3 * _rms([each.settle_ea_error_ev for each in campaigns]),
            worst_percent=100 * max(each.worst_ln_r for each in campaigns),
        )


@dataclass(frozen=True)
class Case:
    """One material with one lag; `equal_dwell_min` is None if no dwell tried was long enough."""

    material: str
    lag_min: float
    adaptive: Group
    fixed: Group
    equal_dwell_min: int | None
    equal_hours: float
    equal_worst_percent: float
    minimum_hours: float


def measure(*, quick: bool) -> list[Case]:
    """Return every case; quick: one material, one seed."""
    materials, seeds = (MATERIALS[1:2], (1,)) if quick else (MATERIALS, (1, 2, 3, 4, 5))
    return [_case(material, lag_min, seeds) for material in materials for lag_min in LAGS_MIN]


def _case(material: Material, lag_min: float, seeds: Sequence[int]) -> Case:
    def campaign(seed: int, **settling: str) -> Campaign:
        return run_campaign(
            material,
            lag_s=60.0 * lag_min,
            celsius=CELSIUS,
            settling={"settle_timeout": TIMEOUT, **settling},
            seed=seed,
        )

    def dwelling(minutes: int, seed: int) -> Campaign:
        return campaign(seed, equilibration="fixed", dwell=f"{minutes} min")

    adaptive = [campaign(seed) for seed in seeds]
    group = Group.of(adaptive)
    dwell_min, equal = shortest_dwell(lambda m: dwelling(m, seeds[0]), group.settle_ea_error_mev)
    return Case(
        material=material.name,
        lag_min=lag_min,
        adaptive=group,
        fixed=Group.of([dwelling(60, seed) for seed in seeds]),
        equal_dwell_min=dwell_min,
        equal_hours=equal.duration_s / 3600,
        equal_worst_percent=100 * equal.worst_ln_r,
        minimum_hours=minimum_s(material.ea_ev, 60.0 * lag_min, adaptive) / 3600,
    )


def shortest_dwell(
    campaign: Callable[[int], Campaign], settle_ea_error_mev: float
) -> tuple[int | None, Campaign]:
    """Return the shortest dwell in whole minutes that leaves no larger error, and its campaign.

    None, and the campaign of the longest dwell, if that is not enough. By bisection: the longer
    the dwell, the smaller the error. What settling leaves is compared without the noise of the
    spectra, which has nothing to do with how long one waits.
    """

    def is_enough(found: Campaign) -> bool:
        return 1e3 * abs(found.settle_ea_error_ev) <= settle_ea_error_mev

    low, high, best = -1, LONGEST_DWELL_MIN, campaign(LONGEST_DWELL_MIN)
    if not is_enough(best):
        return None, best
    while high - low > 1:
        middle = (low + high) // 2
        found = campaign(middle)
        if is_enough(found):
            high, best = middle, found
        else:
            low = middle
    return high, best


def minimum_s(ea_ev: float, lag_s: float, campaigns: Sequence[Campaign]) -> float:
    """Return the shortest time in which the same spectra could have been measured as well.

    A stage that follows its ramp exactly and stops dead, nothing waited for and nothing probed:
    at each temperature the spectrum begins as soon as ln R in its middle is as far from rest as it
    was (root mean square) in the campaigns. Ramps, the wait for a sample of first order, spectra.
    """
    temperatures_k = np.mean([each.temperatures_k for each in campaigns], axis=0)
    allowed_k = [
        _rms(left) / (ea_ev / (BOLTZMANN_EV_PER_K * at_k**2) - 1.0 / at_k)
        for at_k, left in zip(
            temperatures_k, zip(*(each.left_ln_r for each in campaigns), strict=True), strict=True
        )
    ]
    eis_s = float(np.mean([each.eis_s for each in campaigns])) / len(temperatures_k)
    ramps_s = np.abs(np.diff(temperatures_k)) / RAMP_K_PER_MIN * 60.0
    return eis_s + minimum_waits_s(ramps_s, allowed_k[1:], lag_s=lag_s, eis_s=eis_s)


def minimum_waits_s(
    ramps_s: Sequence[float] | np.ndarray,
    allowed_k: Sequence[float],
    *,
    lag_s: float,
    eis_s: float,
) -> float:
    """Return the time of ramps, waits and spectra, from a sample at rest on.

    Args:
        ramps_s: how long each ramp takes.
        allowed_k: how far the sample may be behind in the middle of the spectrum after it.
        lag_s: its time constant.
        eis_s: how long a spectrum takes.
    """
    behind_k, total_s = 0.0, 0.0
    for ramp_s, enough_k in zip(ramps_s, allowed_k, strict=True):
        kept = math.exp(-ramp_s / lag_s)
        behind_k = behind_k * kept + RAMP_K_PER_MIN / 60.0 * lag_s * (1.0 - kept)
        wait_s = max(0.0, lag_s * math.log(behind_k / enough_k) - eis_s / 2.0)
        behind_k *= math.exp(-(wait_s + eis_s) / lag_s)
        total_s += ramp_s + wait_s + eis_s
    return total_s


def _rms(values: Sequence[float] | np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def tables(cases: Sequence[Case]) -> str:
    """Return the cases as two tables that Markdown and people can read: time, then error."""
    return f"{_table(_TIMES, cases, _times)}\n\n{_table(_ERRORS, cases, _errors)}"


_TIMES = ("adaptive, h", "fixed 1 h, h", "equal: dwell, min", "equal, h", "minimum, h")
_ERRORS = (
    "adaptive: dEa (u), meV",
    "of it settling",
    "R off, %",
    "fixed 1 h: dEa (u), meV",
    "of it settling",
    "R off, %",
    "equal: R off, %",
)


def _table(
    heads: Sequence[str], cases: Sequence[Case], cells: Callable[[Case], Sequence[str]]
) -> str:
    rows = [f"| material | lag, min | {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) + 1)}"]
    rows += [
        f"| {each.material} | {each.lag_min:g} | {' | '.join(cells(each))} |" for each in cases
    ]
    return "\n".join(rows)


def _times(case: Case) -> Sequence[str]:
    dwell = f"> {LONGEST_DWELL_MIN}" if case.equal_dwell_min is None else f"{case.equal_dwell_min}"
    adaptive, fixed = f"{case.adaptive.hours:.1f}", f"{case.fixed.hours:.1f}"
    return (adaptive, fixed, dwell, f"{case.equal_hours:.1f}", f"{case.minimum_hours:.1f}")


def _errors(case: Case) -> Sequence[str]:
    groups = [cell for group in (case.adaptive, case.fixed) for cell in _error_cells(group)]
    return [*groups, f"{case.equal_worst_percent:.2f}"]


def _error_cells(group: Group) -> Sequence[str]:
    error = f"{group.ea_error_mev:.1f} ({group.u_ea_mev:.1f})"
    return (error, f"{group.settle_ea_error_mev:.1f}", f"{group.worst_percent:.2f}")


def write(cases: Sequence[Case]) -> None:
    """Put the tables into its page, between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- tables: python -m benchmarks.settling --write -->", "<!-- end of tables -->"
    changed, n_found = re.subn(
        f"(?s){re.escape(begin)}.*{re.escape(end)}",
        lambda _: f"{begin}\n\n{tables(cases)}\n\n{end}",
        text,
    )
    if n_found != 1:
        raise SystemExit(f"{PAGE}: expected once {begin} and {end}")
    PAGE.write_text(changed, encoding="utf-8")


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one material, one seed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args()
    cases = measure(quick=options.quick)
    if options.write:
        write(cases)
    as_json: list[dict[str, Any]] = [asdict(case) for case in cases]
    print(json.dumps(as_json, indent=2) if options.json else tables(cases))


if __name__ == "__main__":
    main()
