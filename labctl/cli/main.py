"""The command line's entrance: all commands, and what an error looks like."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from labctl.cli import data, delivery, demo, instruments, protocols, recorder, spectra, watch
from labctl.cli import run as run_commands
from labctl.errors import LabctlError

app = typer.Typer(
    help="Instrument control and lab automation for solid-state battery electrochemistry.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"labctl {version('labctl-electrochem')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


app.command(rich_help_panel="Measure")(demo.demo)
app.command(rich_help_panel="Measure")(run_commands.run)
app.command(rich_help_panel="Measure")(run_commands.check)
app.command(rich_help_panel="Measure")(run_commands.resume)
app.command(rich_help_panel="Measure")(instruments.sim)
app.command(rich_help_panel="Experiments")(protocols.protocols)
app.add_typer(
    protocols.app,
    name="new",
    help="Begin a protocol of your own: a script that runs, and its test.",
    rich_help_panel="Experiments",
)
app.add_typer(recorder.app, name="recorder", rich_help_panel="Record")
app.command(rich_help_panel="Record")(delivery.drain)
app.command(rich_help_panel="Record")(delivery.verify)
app.command(rich_help_panel="Follow a rig")(watch.watch)
app.command(rich_help_panel="Follow a rig")(watch.send)
app.command(rich_help_panel="Look at data")(data.runs)
app.command(rich_help_panel="Look at data")(data.show)
app.command(rich_help_panel="Look at data")(data.plot)
app.command(rich_help_panel="Look at data")(data.export)
app.command(rich_help_panel="Look at data")(spectra.analyze)


def main() -> None:
    """Run the command line; labctl's own errors and a system's about a file are lines of text."""
    try:
        app()
    except LabctlError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"labctl: error: {line}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has left: nothing to say to nobody
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"labctl: error: {error.filename}: {error.strerror}\n")
        sys.exit(2)
