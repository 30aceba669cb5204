"""What weighing points by how well they fill their current range does to the demonstration's fits.

Measures its three pellets with `labctl demo`, fits each spectrum as the run did and once more with
equal weights, and compares both with the resistance put in.

python docs/explanations/decisions/evidence/range_weights.py
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

import labctl
from labctl.analysis.impedance import fit_impedance
from labctl.config import read_toml
from labctl.quantities import BOLTZMANN_EV_PER_K, kelvin

_LABCTL = [sys.executable, "-c", "from labctl.cli.main import main; main()"]
_PELLETS = {"AlOCl-nanoLiCl": "alocl", "LiCl": "licl", "LiAlCl4": "lialcl4"}


def _true_r_ohm(world: Path, temperature_k: float) -> float:
    """Return the ions' resistance that a world file puts in, at a temperature."""
    cell = read_toml(world)["cells"]["pellet"]
    area_cm2 = math.pi * (cell["diameter_mm"] / 20.0) ** 2
    room_ohm = cell["thickness_mm"] / 10.0 / (cell["conductivity_s_per_cm"] * area_cm2)
    inverse = (1.0 / temperature_k - 1.0 / kelvin(25.0)) / BOLTZMANN_EV_PER_K
    return (
        room_ohm * temperature_k / kelvin(25.0) * math.exp(cell["activation_energy_ev"] * inverse)
    )


def _percent_off(data: Path, run_id: str, world: Path) -> tuple[list[float], list[float], float]:
    """Return deviations from the truth, weighted and not, and the seconds of one fit."""
    run = labctl.open_store(data).run(run_id)
    points = run.frames("eis").query("is_repeat == 0")
    weighted, equal, seconds = [], [], []
    for event in run.events("fit"):
        fit, data_of_step = event["data"], points[points["step"] == event["data"]["step"]]
        z_ohm = data_of_step["z_real_ohm"].to_numpy() + 1j * data_of_step["z_imag_ohm"].to_numpy()
        began_s = perf_counter()
        other = fit_impedance(
            data_of_step["frequency_hz"].to_numpy(),
            z_ohm,
            is_usable=(data_of_step["status_bits"].to_numpy().astype(int) & 2) == 0,
        )
        seconds.append(perf_counter() - began_s)
        true_ohm = _true_r_ohm(world, fit["temperature_k"])
        weighted.append(100.0 * (fit["r_total_ohm"] / true_ohm - 1.0))
        equal.append(100.0 * (other.r_total_ohm / true_ohm - 1.0))
    return weighted, equal, float(np.median(seconds))


def main() -> None:
    """Print one line about each pellet."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        subprocess.run([*_LABCTL, "demo", "--json", "--data", folder], check=True)  # noqa: S603
        for summary in labctl.open_store(data).runs():
            world = data / "demo" / _PELLETS[summary.sample] / "world.toml"
            weighted, equal, fit_s = _percent_off(data, summary.run_id, world)
            worst = max(map(abs, weighted)), max(map(abs, equal))
            spread = np.std(weighted), np.std(equal)
            sys.stdout.write(
                f"{summary.sample:15s} R off by at most {worst[0]:.2f} % weighted, "
                f"{worst[1]:.2f} % with equal weights; scatter {spread[0]:.3f} and "
                f"{spread[1]:.3f} %; {1e3 * fit_s:.0f} ms a fit\n"
            )


if __name__ == "__main__":
    main()
