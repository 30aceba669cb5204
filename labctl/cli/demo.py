"""`labctl demo`: three simulated pellets, from the wire to fitted activation energies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.options import Data, Json
from labctl.demo_bench import NAMES, write_bench
from labctl.errors import LabctlError

if TYPE_CHECKING:
    from labctl.assembly import RunReport
    from labctl.store.reading import StoredRun


class DemoError(LabctlError):
    """A run of the demonstration did not complete."""


@dataclass(frozen=True)
class _Pellet:
    """One pellet of the demonstration: its files, its run, and how long that took."""

    folder: Path
    report: RunReport
    wall_s: float


def demo(
    data: Data = None,
    json: Json = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Where the picture and the demonstration's files go.  [default: data folder/demo]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure three simulated pellets, 25 to 75 degC, and fit conductivity and activation energy.

    Simulated instruments answer the drivers' bytes in virtual time; every document goes through
    outbox, MQTT broker and recorder into the store. Then fitted and true values stand side by side.
    """
    from labctl.report.figures import save_figure
    from labctl.report.run_figures import comparison_figure
    from labctl.store.reading import default_data, open_store

    data_folder = data or default_data()
    demo_folder = folder or data_folder / "demo"
    pellets = [_measure(name, data_folder, demo_folder, quiet=json) for name in NAMES]
    store = open_store(pellets[0].report.store)
    stored = [store.run(pellet.report.run_id) for pellet in pellets]
    picture = demo_folder / "demo.png"
    save_figure(comparison_figure(stored), picture)
    if json:
        _print_json(pellets, stored)
    else:
        _print_table(pellets, stored, picture)


def _measure(name: str, data: Path, demo_folder: Path, *, quiet: bool) -> _Pellet:
    """Run temperature_eis on one pellet of the demonstration."""
    from labctl import assembly
    from labctl.cli.progress import shown_progress
    from labctl.config import read_toml

    began_s = perf_counter()
    own = write_bench(name, demo_folder / name)
    request = assembly.RunRequest(
        protocol="temperature_eis",
        rig=own / "rig.toml",
        sample=own / "sample.toml",
        parameters=read_toml(own / "parameters.toml"),
        data=data,
        is_simulated=True,
    )
    with shown_progress(quiet=quiet) as observer:
        report = assembly.run(request, observer)
    if report.ending.reason.exit_status != "success" or report.undelivered:
        raise DemoError(f"run {report.run_id} {report.ending.reason}: {report.ending.message}")
    return _Pellet(own, report, perf_counter() - began_s)


def _truth(pellet: _Pellet) -> tuple[float, float]:
    """Return the conductivity at 25 degC in S/cm and the activation energy in eV put in."""
    from labctl.config import read_toml

    cell = read_toml(pellet.folder / "world.toml")["cells"]["pellet"]
    return float(cell["conductivity_s_per_cm"]), float(cell["activation_energy_ev"])


def _result(pellet: _Pellet, run: StoredRun) -> dict[str, Any]:
    """Return one pellet's result as `--json` prints it."""
    line = run.events("arrhenius")[0]["data"]["primary"]
    return {
        "sample": run.summary.sample,
        "run_id": run.run_id,
        "sigma_25c_s_per_cm": line["sigma_25_s_per_cm"],
        "u_sigma_25c_s_per_cm": line["u_sigma_25_s_per_cm"],
        "activation_energy_ev": line["ea_ev"],
        "u_activation_energy_ev": line["u_ea_ev"],
        "n_spectra": len(run.events("fit")),
        "n_points": pellet.report.ending.actual_points["eis"],
        "simulated_hours": pellet.report.duration_s / 3600.0,
        "wall_seconds": pellet.wall_s,
    }


def _print_json(pellets: list[_Pellet], stored: list[StoredRun]) -> None:
    from labctl.cli.views import print_json

    print_json([_result(pellet, run) for pellet, run in zip(pellets, stored, strict=True)])


def _print_table(pellets: list[_Pellet], stored: list[StoredRun], picture: Path) -> None:
    """Print fitted values beside those put in, and where everything is."""
    from rich.table import Table

    from labctl.cli.views import console

    results = [_result(pellet, run) for pellet, run in zip(pellets, stored, strict=True)]
    table = Table(title="Conductivity at 25 degC and activation energy, from ln(sigma T)")
    for heading in ("sample", "sigma fitted (S/cm)", "put in", "Ea fitted (eV)", "put in"):
        table.add_column(heading, justify="left" if heading == "sample" else "right")
    for pellet, result in zip(pellets, results, strict=True):
        table.add_row(*_row(result, *_truth(pellet)))
    out = console()
    out.print(table)
    for line in _notes(results, pellets[0], picture):
        out.print(line, highlight=False, soft_wrap=True)


def _row(result: dict[str, Any], sigma_true: float, energy_true: float) -> list[str]:
    from labctl.quantities import with_uncertainty

    sigma, energy = result["sigma_25c_s_per_cm"], result["activation_energy_ev"]
    return [
        result["sample"],
        with_uncertainty(sigma, result["u_sigma_25c_s_per_cm"]),
        f"{sigma_true:.3g} ({sigma / sigma_true - 1:+.1%})",
        with_uncertainty(energy, result["u_activation_energy_ev"]),
        f"{energy_true:.3f} ({energy - energy_true:+.4f})",
    ]


def _notes(results: list[dict[str, Any]], pellet: _Pellet, picture: Path) -> list[str]:
    hours = sum(result["simulated_hours"] for result in results)
    seconds = sum(result["wall_seconds"] for result in results)
    spectra = sum(result["n_spectra"] for result in results)
    return [
        f"{spectra} spectra in {hours:.1f} simulated hours, {seconds:.1f} s on the clock.",
        "AlOCl-nanoLiCl and LiCl are as published; the values put in for LiAlCl4 are our choice.",
        f"picture: {picture}",
        f"files:   {pellet.folder.parent}  (rig, sample, parameters of each pellet)",
        f"data:    {pellet.report.store}  (labctl runs, show, plot, export)",
    ]
