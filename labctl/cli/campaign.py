"""`labctl run campaign.toml` and `labctl check campaign.toml`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from labctl.documents import ExitStatus, Reason
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labctl.campaign import CampaignReport, CampaignRun, CheckedRun
    from labctl.campaign_file import CampaignRequest

_STYLES = {"completed": "green", "not started": "yellow"}


def is_campaign(name: str) -> bool:
    """Return whether what is to be run is a campaign's file."""
    return name.endswith(".toml")


def refuse_options(options: Mapping[str, object]) -> None:
    """Raise BadInputError if an option was given that a campaign's file speaks for."""
    given = [name for name, value in options.items() if value]
    if given:
        raise BadInputError(f"{given[0]}: a campaign's file says that; leave the option out")


def refuse_only(only: str | None) -> None:
    """Raise BadInputError if one entry is asked for of what has no entries."""
    if only is not None:
        raise BadInputError(f"--only {only}: expected a campaign's file, such as campaign.toml")


def run_campaign(request: CampaignRequest, *, json: bool) -> int:
    """Carry a campaign out, say what came of it, and return the exit code."""
    from labctl import campaign
    from labctl.cli.progress import shown_campaign
    from labctl.signals import held_signals

    with held_signals():  # until it is said how the campaign ended
        with shown_campaign(quiet=json) as observer_for:
            report = campaign.run(request, observer_for)
        if json:
            _print_json([_run_data(run, report) for run in report.runs])
        else:
            _tell(report)
    return 0 if report.is_complete else 1


def check_campaign(request: CampaignRequest, *, json: bool) -> None:
    """Check a campaign and say what it will do."""
    from labctl import campaign

    runs = campaign.check(request)
    if json:
        _print_json([asdict(run) for run in runs])
    else:
        _print_plan(runs)


def _run_data(run: CampaignRun, report: CampaignReport) -> dict[str, Any]:
    """Return one run's part of a report as a script reads it."""
    is_known = run.reason in list(Reason)
    status = Reason(run.reason).exit_status if is_known else ExitStatus.FAIL
    return {
        **asdict(run),
        "exit_status": status.value,
        "campaign_id": report.campaign_id,
        "undelivered": report.undelivered,
        "recorded_elsewhere": report.recorded_elsewhere,
        "went_wrong": report.went_wrong,
        "store": str(report.store),
    }


def _tell(report: CampaignReport) -> None:
    """Print a line about each run, and what a person must know besides."""
    for problem in dict.fromkeys(p for run in report.runs for p in run.unsafe.values()):
        typer.secho(f"labctl: NOT SAFE: {problem}", fg="red", bold=True, err=True)
    if report.went_wrong:
        typer.echo(f"labctl: error: {report.went_wrong}", err=True)
    _print_runs(report)
    if report.recorded_elsewhere:
        typer.echo(f"recorded by {report.recorded_elsewhere}")
    if report.undelivered:
        typer.echo(
            f"labctl: warning: {report.undelivered}; what is in the outbox waits there, and "
            "`labctl drain` or the next run on this data folder delivers it",
            err=True,
        )


def _print_runs(report: CampaignReport) -> None:
    from rich.markup import escape
    from rich.table import Table

    from labctl.cli.views import console

    table = Table(title=f"Campaign {report.campaign_id}")
    for heading in ("run", "sample", "channel", "ended", "points", ""):
        table.add_column(heading, justify="right" if heading == "points" else "left")
    for run in report.runs:
        ended = f"[{_STYLES.get(run.reason, 'red')}]{run.reason}"
        points = str(sum(run.actual_points.get(name, 0) for name in run.expected_points))
        names = escape(run.run_id), escape(run.sample), escape(run.channel)
        table.add_row(*names, ended, points, "" if run.reason == "completed" else run.message)
    console().print(table)


def _print_plan(runs: Sequence[CheckedRun]) -> None:
    """Print a line about each run that is going to be."""
    from rich.markup import escape
    from rich.table import Table

    from labctl.cli.views import console
    from labctl.quantities import format_duration

    table = Table(title="What this campaign will do")
    for heading in ("entry", "channel", "sample", "protocol", "temperatures", "points", "alone"):
        table.add_column(heading, justify="right" if heading == "points" else "left")
    for run in runs:
        points = str(sum(step.expected_points for step in run.steps))
        takes = format_duration(sum(step.duration_s for step in run.steps))
        names = map(escape, (run.entry, run.channel, run.sample, run.protocol))
        table.add_row(*names, _temperatures(run), points, takes)
    out = console()
    out.print(table)
    out.print("All limits hold. Cells that share a stage or a potentiostat wait for each other.")


def _temperatures(run: CheckedRun) -> str:
    from labctl.quantities import celsius

    visited = [celsius(s.temperature_k) for s in run.steps if s.temperature_k is not None]
    if len(visited) > 3:
        return f"{visited[0]:g}, {visited[1]:g}, ... {visited[-1]:g} degC ({len(visited)})"
    return ", ".join(f"{each:g}" for each in visited) + " degC" * bool(visited)


def _print_json(value: object) -> None:
    from labctl.cli.views import print_json

    print_json(value)
