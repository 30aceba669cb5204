"""`labctl runs`, `show`, `plot` and `export`: what is stored."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.options import Data, Json, RunId

if TYPE_CHECKING:
    from labctl.store.reading import StoredRun

_Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where to.  [default: the data folder]")
]


class ExportFormat(StrEnum):
    """What a run can be exported as."""

    CSV = "csv"
    PARQUET = "parquet"


def runs(data: Data = None, json: Json = False) -> None:
    """List the stored runs, the newest first."""
    from labctl.cli.views import print_json, print_runs
    from labctl.store.reading import open_store

    summaries = open_store(data).runs()
    if json:
        print_json([asdict(summary) for summary in summaries])
    elif summaries:
        print_runs(summaries)
    else:
        typer.echo("no run is stored yet")


def show(run: RunId = "latest", data: Data = None, json: Json = False) -> None:
    """Show one run: how it ended, its fits, its activation energy."""
    from labctl.cli.views import print_json, print_run, run_data

    stored = _open(run, data)
    if json:
        print_json(run_data(stored))
    else:
        print_run(stored)


def plot(run: RunId = "latest", data: Data = None, output: _Output = None) -> None:
    """Draw a run's spectra, Arrhenius line and temperature into a .png, .svg or .pdf file."""
    from labctl.report.figures import save_figure
    from labctl.report.run_figures import run_figure

    stored = _open(run, data)
    path = output or _folder(data) / f"{stored.run_id}.png"
    save_figure(run_figure(stored), path)
    typer.echo(str(path))


def export(
    run: RunId = "latest",
    format_: Annotated[
        ExportFormat, typer.Option("--format", help="One file per stream.")
    ] = ExportFormat.CSV,
    data: Data = None,
    output: _Output = None,
) -> None:
    """Write a run's streams as CSV or Parquet, units included."""
    from labctl.store.export import export_csv, export_parquet

    folder = output or _folder(data) / "export"
    write = export_csv if format_ is ExportFormat.CSV else export_parquet
    for path in write(_open(run, data), folder):
        typer.echo(str(path))


def _folder(data: Path | None) -> Path:
    """Return the folder that a store lies in; --data may name the store's file as well."""
    from labctl.store.reading import default_data

    place = (data or default_data()).expanduser()
    return place.parent if place.is_file() else place


def _open(run: str, data: Path | None) -> StoredRun:
    from labctl.store.reading import open_store

    return open_store(data).run(run)
