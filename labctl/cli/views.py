"""How runs and fits look on the terminal."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from labctl.cli.result_views import result_tables
from labctl.documents import IN_USE, OUTPUTS_OFF
from labctl.quantities import celsius, format_duration, si_with_uncertainty, with_uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labctl.store.reading import RunSummary, StoredRun

_NO_RESULTS = {"step", "fit", "arrhenius", "pause"}  # or shown in their own way
_STYLES = {"completed": "green", "running": "cyan", "interrupted": "yellow"}


def print_json(value: object) -> None:
    """Print a value as indented JSON; a number that is none as null."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    sys.stdout.write(orjson.dumps(value, option=options).decode())
    sys.stdout.flush()


def console(width: int = 120) -> Any:
    """Return a console for tables; so wide where the output is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=width)


def print_runs(summaries: Sequence[RunSummary]) -> None:
    """Print one line about each run."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("run", "protocol", "sample", "started (UTC)", "took", "points", "outcome"):
        table.add_column(heading, no_wrap=True)
    if any(run.campaign for run in summaries):
        table.add_column("campaign", overflow="fold")  # what gives way where there is little room
    for run in summaries:
        took = "" if run.duration_s is None else format_duration(run.duration_s)
        started = run.start_time[:16].replace("T", " ")
        outcome = f"[{_STYLES.get(run.outcome, 'red')}]{run.outcome}"
        points = str(run.n_points)
        names = escape(run.run_id), escape(run.protocol), escape(run.sample)
        campaign = [f"{run.campaign['name']}: {run.campaign['entry']}"] if run.campaign else []
        table.add_row(*names, started, took, points, outcome, *map(escape, campaign))
    console(width=160 if table.columns[-1].header == "campaign" else 120).print(table)


def run_data(run: StoredRun) -> dict[str, Any]:
    """Return what `labctl show --json` prints."""
    return {
        **asdict(run.summary),
        "outcome_reason": run.ending.sentence,
        "sample_data": run.start.get("sample", {}),
        "parameters": run.start.get("parameters", {}),
        "streams": {stream: run.units(stream) for stream in run.streams()},
        "fits": [event["data"] for event in run.events("fit")],
        "results": _results(run),
        "arrhenius": next((event["data"] for event in run.events("arrhenius")), None),
        "stop": run.stop,
    }


def _results(run: StoredRun) -> dict[str, list[Mapping[str, Any]]]:
    """Return what the protocol recorded, by stream."""
    return {
        stream: [event["data"] for event in run.events(stream)]
        for stream in run.event_streams()
        if stream not in _NO_RESULTS
    }


def print_run(run: StoredRun) -> None:
    """Print what a run was, how it ended, and what it found."""
    from rich.markup import escape

    summary = run.summary
    out = console()
    style = _STYLES.get(summary.outcome, "red")
    about = escape(f"{summary.protocol}, sample {summary.sample}")
    sentence = escape(run.ending.sentence)
    out.print(f"run       {escape(run.run_id)}", highlight=False)
    out.print(f"protocol  {about}", highlight=False)
    out.print(f"outcome   [{style}]{summary.outcome}[/]: {sentence}", highlight=False)
    for instrument, state in (run.stop or {}).get("safe_state", {}).items():
        out.print(escape(_safety(instrument, state)))
    if summary.duration_s is not None:
        took = format_duration(summary.duration_s)
        out.print(f"took      {took}, {summary.n_points} points", highlight=False)
    fits = [event["data"] for event in run.events("fit")]
    if fits:
        out.print(_fit_table(fits))
    for event in run.events("arrhenius"):
        for line in arrhenius_lines(event["data"]):
            out.print(line, highlight=False)
    for table in result_tables(_results(run)):
        out.print(table)


def _safety(instrument: str, state: str) -> str:
    """Return whether an instrument is safe; a problem names the instrument itself."""
    if state.startswith(IN_USE):
        return f"{'in use':10}{instrument}: {state}"
    word = "safe" if state == OUTPUTS_OFF else "NOT SAFE"
    return f"{word:10}{instrument}: {state.removeprefix(f'{instrument}: ')}"


def _fit_table(fits: Sequence[Mapping[str, Any]]) -> Any:
    """Return a table of what each spectrum gave."""
    from rich.table import Table

    table = Table()
    for heading in ("temperature", "branch", "R total", "sigma (S/cm)", "circuit", "remarks"):
        table.add_column(heading, justify="right" if heading in {"temperature"} else "left")
    for fit in fits:
        table.add_row(*_fit_row(fit))
    return table


def _fit_row(fit: Mapping[str, Any]) -> list[str]:
    at = f"{celsius(fit['temperature_k']):.2f} degC"
    remarks = "; ".join([*([] if fit["is_settled"] else [fit["settle_reason"]]), *fit["warnings"]])
    if "r_total_ohm" not in fit:
        return [at, fit["branch"], "", "", "", remarks]
    resistance = si_with_uncertainty(fit["r_total_ohm"], fit["u_r_total_ohm"], "ohm")
    sigma = fit["conductivity"]
    text = (
        ""
        if sigma is None
        else with_uncertainty(sigma["sigma_s_per_cm"], sigma["u_sigma_s_per_cm"])
    )
    return [at, fit["branch"], resistance, text, fit["circuit"], remarks]


def arrhenius_lines(data: Mapping[str, Any]) -> list[str]:
    """Return what an Arrhenius fit says, a line for each thing."""
    lines: list[str] = []
    if "primary" in data:
        for name, title in (
            ("primary", "ln(sigma T) against 1/T"),
            ("secondary", "ln(sigma) against 1/T"),
        ):
            lines.append(_line_text(data[name], title))
        for branch, line in data.get("branches", {}).items():
            lines.append(_line_text(line, f"ln(sigma T) against 1/T, {branch}"))
    return lines + [f"note: {warning}" for warning in data.get("warnings", [])]


def _line_text(line: Mapping[str, Any], title: str) -> str:
    energy = with_uncertainty(line["ea_ev"], line["u_ea_ev"])
    sigma = with_uncertainty(line["sigma_25_s_per_cm"], line["u_sigma_25_s_per_cm"])
    return f"Ea = {energy} eV, sigma(25 degC) = {sigma} S/cm from {title}"
