"""What `labctl watch` draws: a card for each rig, or one line a channel where that is too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from labctl.cli.progress import point_text
from labctl.cli.watch_lines import age_s, duration_text, printable
from labctl.quantities import celsius, format_duration, format_si, with_uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from labctl.stream.status import ChannelStatus
    from labctl.stream.watching import Picture, WatchedRig, WatchedRun, Watcher

_STYLES = {
    "online": "green",
    "running": "green",
    "completed": "green",
    "degraded": "yellow",
    "paused": "yellow",
    "truncated": "yellow",
    "unknown": "yellow",
}
_CARD_LINES = 11
_STALE_S = 30.0
_HIDDEN = {"time_s", "step", "status_bits"}


def picture_view(watcher: Watcher, *, width: int, height: int | None) -> RenderableType:
    """Return everything a watcher knows, for a terminal of so many columns and lines."""
    rigs = sorted(watcher.picture.rigs.items())
    header = _header(watcher)
    if not rigs:
        return Group(header, Text("waiting for a rig to say something", style="dim"))
    n_channels = sum(max(1, len(rig.channels)) for _, rig in rigs)
    if height is not None and n_channels * _CARD_LINES + 2 > height and n_channels > 1:
        return Group(header, _overview(rigs))
    return Group(header, *(_card(watcher.picture, name, rig, width) for name, rig in rigs))


def _header(watcher: Watcher) -> Text:
    if watcher.problem is None:
        return Text.assemble(
            ("connected", "green"), f" to {watcher.address}   ", ("Ctrl-C ends", "dim")
        )
    return Text.assemble(("not connected", "bold yellow"), _said(f": {watcher.problem}"))


def _card(picture: Picture, name: str, rig: WatchedRig, width: int) -> Panel:
    """Return all about one rig in a frame."""
    style = _STYLES.get(rig.state, "red")
    reason = rig.status.reason if rig.status else ""
    grids: list[RenderableType] = []
    if reason and rig.state != "online":
        grids.append(_said(f"{rig.state}: {reason}", f"bold {style}"))
    for channel in sorted(rig.channels):
        run = picture.runs.get(rig.channels[channel].run_id)
        grids.append(_channel(rig, channel, run, width))
    if not rig.channels:
        grids.append(Text("no run yet", style="dim"))
    title = Text.assemble(_said(name, "bold"), "  ", (f"● {rig.state}", style))
    return Panel(
        Group(*grids), title=title, title_align="left", border_style=style, box=box.ROUNDED
    )


def _channel(rig: WatchedRig, channel: str, run: WatchedRun | None, width: int) -> Table:
    """Return all about one channel as two columns."""
    said = rig.channels[channel]
    state = rig.state_of(channel).value
    shown = said.outcome if state == "ended" else state
    style = _STYLES.get(shown, "red")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=11)
    grid.add_column(overflow="fold")
    grid.add_row(
        _said(channel, "bold not dim"),
        Text.assemble(_said(shown, f"bold {style}"), _said(f"   {said.protocol} on {said.sample}")),
    )
    alert = rig.alert_of(channel)
    if alert:
        grid.add_row("", _said(alert, f"bold {style}"))
    elif said.message:
        grid.add_row("", _said(said.message))
    grid.add_row("run", _said(said.run_id))
    _add_progress(grid, said, width, is_live=state in {"running", "paused"})
    _add_measured(grid, said, run)
    age = age_s(rig.channels_at[channel])
    grid.add_row("said", _age_text(age, is_live=state == "running"))
    return grid


def _add_progress(grid: Table, said: ChannelStatus, width: int, *, is_live: bool) -> None:
    """Add step, bar and time left."""
    note = f"   {said.note}" if said.note and is_live else ""
    grid.add_row("step", _said(f"{said.step} of {said.steps}: {said.step_key}{note}"))
    bar = Table.grid(padding=(0, 2))
    share = f"{said.progress:.0%}"
    left, done = duration_text(said.time_left_s), duration_text(said.elapsed_s)
    if said.state == "ended":
        times = f"took {done}"
    else:
        times = f"{left} left, running {done}" if is_live else f"when last heard, after {done}"
    cells = max(10, min(40, width - 60))
    bar.add_row(ProgressBar(total=1.0, completed=said.progress, width=cells), share, times)
    grid.add_row("progress", bar)


def _add_measured(grid: Table, said: ChannelStatus, run: WatchedRun | None) -> None:
    """Add temperature, newest points and the last fit."""
    if said.temperature_k is not None and said.setpoint_k is not None:
        grid.add_row("temperature", _temperature(said))
    streams = run.last_points if run else {}
    for stream, point in streams.items():
        if stream == "temperature":
            continue
        shown = {name: value for name, value in point.items() if name not in _HIDDEN}
        grid.add_row(_said(stream), _said(point_text(shown)))
    if not any(stream != "temperature" for stream in streams) and said.last_point:
        known = {name: value for name, value in said.last_point.items() if value is not None}
        grid.add_row("last point", _said(point_text(known)))
    if run and run.fit:
        grid.add_row("last fit", _said(_fit_text(run.fit)))


def _temperature(said: ChannelStatus) -> Text:
    now, wanted = celsius(said.temperature_k or 0.0), celsius(said.setpoint_k or 0.0)
    away = now - wanted
    return Text.assemble(
        (f"{now:.2f} degC", "bold"), f", setpoint {wanted:.2f} degC ({away:+z.2f} K)"
    )


def _fit_text(fit: Mapping[str, Any]) -> str:
    """Return what a spectrum gave, in one line; of a fit of another kind its numbers."""
    numbers = _numbers(fit)
    if not numbers.keys() >= {"temperature_k", "r_total_ohm"}:
        return point_text(numbers)
    total = format_si(numbers["r_total_ohm"], "ohm")
    text = f"{celsius(numbers['temperature_k']):.2f} degC: {total}"
    sigma = fit.get("conductivity")
    known = _numbers(sigma) if isinstance(sigma, dict) else {}
    if not known.keys() >= {"sigma_s_per_cm", "u_sigma_s_per_cm"}:
        return text
    return f"{text}, {with_uncertainty(known['sigma_s_per_cm'], known['u_sigma_s_per_cm'])} S/cm"


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """Return what is a number among some values."""
    return {name: value for name, value in data.items() if type(value) in (int, float)}


def _said(text: str, style: str = "") -> Text:
    """Return text that anybody may have said: no markup, no control characters."""
    return Text(printable(text), style=style)


def _age_text(age: float | None, *, is_live: bool) -> Text:
    if age is None:
        return Text("at an unknown time", style="dim")
    style = "bold yellow" if is_live and age > _STALE_S else "dim"
    return Text(f"{format_duration(age)} ago", style=style)


def _overview(rigs: list[tuple[str, WatchedRig]]) -> Table:
    """Return one line for each channel of many rigs."""
    table = Table(box=None, pad_edge=False)
    for heading in ("rig", "channel", "state", "step", "", "temperature", "left", "said"):
        table.add_column(heading, no_wrap=heading != "state")
    for name, rig in rigs:
        style = _STYLES.get(rig.state, "red")
        if not rig.channels:
            table.add_row(_said(name), "", Text(rig.state, style=style))
        for channel in sorted(rig.channels):
            table.add_row(_said(name), _said(channel), *_overview_cells(rig, channel))
    return table


def _overview_cells(rig: WatchedRig, channel: str) -> list[RenderableType]:
    said = rig.channels[channel]
    state = rig.state_of(channel).value
    shown = said.outcome if state == "ended" else state
    if rig.state in {"degraded", "offline"}:
        shown = f"{shown} ({rig.state})"
    style = _STYLES.get(shown, "red") if rig.state != "degraded" else "yellow"
    at = "" if said.temperature_k is None else f"{celsius(said.temperature_k):.1f} degC"
    left = duration_text(said.time_left_s) if state == "running" else ""
    age = _age_text(age_s(rig.channels_at[channel]), is_live=state == "running")
    step = _said(f"{said.step}/{said.steps} {said.step_key}")
    return [_said(shown, style), step, f"{said.progress:.0%}", at, left, age]
