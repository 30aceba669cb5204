"""`labctl run` and `labctl check`: a protocol on a rig."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.campaign import (
    check_campaign,
    is_campaign,
    refuse_only,
    refuse_options,
    run_campaign,
)
from labctl.cli.options import Data, Json, read_settings
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from labctl.assembly import RunReport, RunRequest
    from labctl.run.check import CheckedStep

_Protocol = Annotated[
    str,
    typer.Argument(metavar="PROTOCOL", help="Name of a protocol, SCRIPT.py, or CAMPAIGN.toml."),
]
_Only = Annotated[
    str | None,
    typer.Option("--only", metavar="NAME", help="The one entry of a campaign to carry out."),
]
_Rig = Annotated[
    Path | None,
    typer.Option("--rig", help="Rig file.  [default: the one in your configuration]"),
]
_Sample = Annotated[Path | None, typer.Option("--sample", help="Sample file.")]
_Params = Annotated[Path | None, typer.Option("--params", help="File with the parameters.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One parameter; may be repeated."),
]
_Channel = Annotated[str | None, typer.Option("--channel", help="Channel of the rig.")]
_Simulate = Annotated[
    bool, typer.Option("--simulate", help="Run on the rig's simulated twins, in virtual time.")
]


def run(
    protocol: _Protocol,
    rig: _Rig = None,
    sample: _Sample = None,
    params: _Params = None,
    set_: _Set = None,
    channel: _Channel = None,
    data: Data = None,
    mqtt: Annotated[
        str | None,
        typer.Option("--mqtt", help="Your broker: mqtts://host.  [default: one of the run's own]"),
    ] = None,
    simulate: _Simulate = False,
    speed: Annotated[
        float,
        typer.Option(
            min=1.0, help="How much faster than life `labctl sim --speed` instruments run."
        ),
    ] = 1.0,
    only: _Only = None,
    json: Json = False,
) -> None:
    """Run a protocol on a rig: every point is stored, and every way out ends cell off, heater off.

    Example: labctl run temperature_eis --rig rig.toml --sample pellet.toml
    --set temperatures='["25 degC", "50 degC"]'
    """
    from labctl import assembly
    from labctl.campaign_file import CampaignRequest
    from labctl.cli.progress import shown_progress
    from labctl.signals import held_signals
    from labctl.store.reading import default_data

    if is_campaign(protocol):
        refuse_options(_options_of_a_run(rig, sample, params, set_, channel))
        campaign = CampaignRequest(
            file=Path(protocol),
            data=data or default_data(),
            mqtt=mqtt,
            is_simulated=simulate,
            speed=speed,
            only=only,
        )
        raise typer.Exit(run_campaign(campaign, json=json))
    refuse_only(only)
    request = _request(
        protocol,
        rig,
        sample,
        params,
        set_,
        data=data or default_data(),
        channel=channel,
        mqtt=mqtt,
        is_simulated=simulate,
        speed=speed,
    )
    with held_signals():  # until it is said how the run ended
        with shown_progress(quiet=json) as observer:
            report = assembly.run(request, observer)
        _tell(report, json=json)
    raise typer.Exit(exit_code(report))


def exit_code(report: RunReport) -> int:
    """Return 0 for a run that is complete and stored, and ended in order, else 1."""
    is_success = report.ending.reason.exit_status == "success"
    return 0 if is_success and not report.undelivered and not report.went_wrong else 1


def check(
    protocol: _Protocol,
    rig: _Rig = None,
    sample: _Sample = None,
    params: _Params = None,
    set_: _Set = None,
    channel: _Channel = None,
    only: _Only = None,
    json: Json = False,
) -> None:
    """Check a run without touching an instrument: limits, capabilities, duration of each step."""
    from labctl import assembly
    from labctl.campaign_file import CampaignRequest

    if is_campaign(protocol):
        refuse_options(_options_of_a_run(rig, sample, params, set_, channel))
        campaign = CampaignRequest(file=Path(protocol), data=Path(), only=only)
        return check_campaign(campaign, json=json)
    refuse_only(only)
    request = _request(protocol, rig, sample, params, set_, data=Path(), channel=channel)
    steps = assembly.check(request)
    if json:
        return _print_json([asdict(step) for step in steps])
    return _print_steps(steps)


def resume(data: Data = None) -> None:
    """Let a paused run go on: one that has stopped because there was no room for its data."""
    from labctl.run.resumption import let_go_on
    from labctl.store.reading import default_data

    typer.echo(f"run {let_go_on(data or default_data())} goes on")


def _options_of_a_run(
    rig: Path | None,
    sample: Path | None,
    params: Path | None,
    settings: list[str] | None,
    channel: str | None,
) -> dict[str, object]:
    """Return the options that only one run has."""
    return {
        "--rig": rig,
        "--sample": sample,
        "--params": params,
        "--set": settings,
        "--channel": channel,
    }


def _request(
    protocol: str,
    rig: Path | None,
    sample: Path | None,
    params: Path | None,
    settings: list[str] | None,
    **rest: Any,
) -> RunRequest:
    """Return what the options ask for; --set overrules the file, and that the sample's own."""
    from labctl.assembly import RunRequest
    from labctl.config import read_toml

    from_file = {} if params is None else read_toml(params)
    from_options = read_settings(settings or [])
    return RunRequest(
        protocol=protocol,
        rig=rig or _configured_rig(),
        sample=sample,
        parameters={**from_file, **from_options},
        sources=dict.fromkeys(from_file, str(params)) | dict.fromkeys(from_options, "--set"),
        **rest,
    )


def _configured_rig() -> Path:
    """Return the rig that the user's configuration names.

    Raises:
        BadInputError: there is none; says how to name one.
    """
    from platformdirs import user_config_path

    from labctl.config import UserConfig, load

    path = user_config_path("labctl", appauthor=False) / "config.toml"
    rig = load(UserConfig, path).rig if path.is_file() else None
    if rig is None:
        raise BadInputError(
            "no rig: name its file with --rig, or write rig = '/path/rig.toml' to "
            f"{path}; `labctl demo` writes three rig files to start from"
        )
    return path.parent / rig


def _tell(report: RunReport, *, json: bool) -> None:
    """Print what came of a run."""
    from labctl.cli.views import print_run
    from labctl.store.reading import open_store

    if json:
        _print_json(_report_data(report))
        return
    if report.ending.unsafe:
        typer.secho(f"labctl: {report.ending.message}", fg="red", bold=True, err=True)
    if report.went_wrong:
        typer.echo(f"labctl: error: after the run's end: {report.went_wrong}", err=True)
    if report.n_left_by_others:
        typer.echo(
            f"labctl: note: {report.n_left_by_others} documents of earlier runs still wait in the "
            "outbox; `labctl drain` delivers them",
            err=True,
        )
    if report.undelivered or report.recorded_elsewhere:
        _tell_where_it_is(report)
        return
    print_run(open_store(report.store).run(report.run_id))


def _tell_where_it_is(report: RunReport) -> None:
    """Print how a run ended that the data folder's store does not hold, or not whole."""
    typer.echo(f"run {report.run_id} {report.ending.reason}: {report.ending.message}")
    if report.recorded_elsewhere:
        typer.echo(
            f"recorded by {report.recorded_elsewhere}; on its machine `labctl recorder status` "
            "says what is stored"
        )
    if report.undelivered:
        typer.echo(
            f"labctl: warning: {report.undelivered}; what is in the outbox waits there, and "
            "`labctl drain` or the next run on this data folder delivers it",
            err=True,
        )


def _report_data(report: RunReport) -> dict[str, Any]:
    """Return a report as a script reads it."""
    return {
        "run_id": report.run_id,
        "exit_status": report.ending.reason.exit_status.value,
        "reason": report.ending.reason.value,
        "message": report.ending.message,
        "expected_points": dict(report.ending.expected_points),
        "forgone_points": dict(report.ending.forgone_points),
        "actual_points": dict(report.ending.actual_points),
        "unsafe": dict(report.ending.unsafe),
        "duration_s": report.duration_s,
        "undelivered": report.undelivered,
        "recorded_elsewhere": report.recorded_elsewhere,
        "went_wrong": report.went_wrong,
        "n_left_by_others": report.n_left_by_others,
        "store": str(report.store),
    }


def _print_steps(steps: list[CheckedStep]) -> None:
    """Print a plan as a table."""
    from rich.table import Table

    from labctl.cli.views import console
    from labctl.quantities import celsius, format_duration

    table = Table(title="What this run will do")
    for heading in ("step", "begins after", "takes about", "temperature", "points", "note"):
        table.add_column(heading, justify="right" if heading in {"points"} else "left")
    for step in steps:
        at = "" if step.temperature_k is None else f"{celsius(step.temperature_k):.1f} degC"
        points = str(step.expected_points or "")
        begins, takes = format_duration(step.begins_s), format_duration(step.duration_s)
        table.add_row(step.key, begins, takes, at, points, step.note)
    out = console()
    out.print(table)
    total_s = steps[-1].begins_s + steps[-1].duration_s if steps else 0.0
    points = sum(step.expected_points for step in steps)
    out.print(f"All limits hold. {points} points in about {format_duration(total_s)}.")


def _print_json(value: object) -> None:
    from labctl.cli.views import print_json

    print_json(value)
