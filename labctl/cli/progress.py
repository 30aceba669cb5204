"""Live progress of a run on the terminal; one line a step where nobody watches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from labctl.cli.silence import falling_silent
from labctl.quantities import celsius, format_duration, format_si

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from rich.live import Live
    from rich.table import Table

    from labctl.run.progress import Progress

_REFRESH_S = 0.1
_IMPEDANCE = {"frequency_hz", "z_real_ohm", "z_imag_ohm"}


@contextmanager
def shown_progress(*, quiet: bool = False) -> Generator[Callable[[Progress], None], None, None]:
    """Give an observer that shows a run's progress on stderr."""
    if quiet:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _LineObserver()
        return
    from rich.console import Console
    from rich.live import Live

    # No refresh thread: the run tells often enough.
    live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
    with falling_silent(sys.stderr):
        live.start()
    try:
        yield _LiveObserver(live)
    finally:
        with falling_silent(sys.stderr):
            live.stop()


@contextmanager
def shown_campaign(
    *, quiet: bool = False
) -> Generator[Callable[[str], Callable[[Progress], None]], None, None]:
    """Give what returns an observer that shows on stderr the progress on a channel."""
    if quiet:
        yield lambda _: lambda _: None
        return
    if not sys.stderr.isatty():
        yield lambda channel: _LineObserver(f"{channel} ")
        return
    from rich.console import Console
    from rich.live import Live

    live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
    with falling_silent(sys.stderr):
        live.start()
    try:
        yield _LiveChannels(live).observer_for
    finally:
        with falling_silent(sys.stderr):
            live.stop()


class _LineObserver:
    """Writes a line whenever a step begins, and when a trouble with the data begins or ends."""

    def __init__(self, label: str = "") -> None:
        self._label = label
        self._step = ""
        self._trouble = ""

    def __call__(self, progress: Progress) -> None:
        if progress.trouble != self._trouble:
            self._trouble = progress.trouble
            line = f"warning: {self._trouble}" if self._trouble else "all is well again"
            with falling_silent(sys.stderr):
                sys.stderr.write(f"labctl: {line}\n")
        if progress.step == self._step:
            return
        self._step = progress.step
        left = format_duration(progress.time_left_s)
        number = f"[{self._label}{progress.steps_done + 1}/{progress.steps_total}]"
        with falling_silent(sys.stderr):
            sys.stderr.write(f"{number} {progress.step}, about {left} left\n")


class _LiveObserver:
    """Keeps a small table up to date."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._shown_at_s = 0.0

    def __call__(self, progress: Progress) -> None:
        if perf_counter() - self._shown_at_s < _REFRESH_S:
            return
        self._shown_at_s = perf_counter()
        with falling_silent(sys.stderr):
            self._live.update(_table(progress), refresh=True)


class _LiveChannels:
    """Keeps a table with a line for each channel up to date."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._shown_at_s = 0.0
        self._now: dict[str, Progress] = {}

    def observer_for(self, channel: str) -> Callable[[Progress], None]:
        """Return what shows the progress on a channel."""
        return lambda progress: self._show(channel, progress)

    def _show(self, channel: str, progress: Progress) -> None:
        self._now[channel] = progress
        if perf_counter() - self._shown_at_s < _REFRESH_S:
            return
        self._shown_at_s = perf_counter()
        with falling_silent(sys.stderr):
            self._live.update(_channels_table(self._now), refresh=True)


def _channels_table(channels: Mapping[str, Progress]) -> Table:
    """Return the progress on several channels, a line for each."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("channel", "step", "", "temperature", "last point", "time left"):
        table.add_column(heading)
    for channel, progress in channels.items():
        step = f"{progress.steps_done + 1} of {progress.steps_total}"
        left = format_duration(progress.time_left_s)
        point = point_text(progress.last_point)
        note = progress.trouble or _temperature(progress)
        table.add_row(channel, step, progress.step, note, point, left)
    return table


def _table(progress: Progress) -> Table:
    """Return the progress as a table of two columns."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    done_s, left_s = progress.elapsed_s, progress.time_left_s
    table.add_row("step", f"{progress.steps_done + 1} of {progress.steps_total}: {progress.step}")
    table.add_row("", ProgressBar(total=max(done_s + left_s, 1.0), completed=done_s, width=40))
    table.add_row("temperature", _temperature(progress))
    table.add_row("last point", point_text(progress.last_point))
    if progress.trouble:
        table.add_row("trouble", Text(progress.trouble, style="bold yellow"))
    table.add_row("time left", f"{format_duration(left_s)} (running {format_duration(done_s)})")
    return table


def _temperature(progress: Progress) -> str:
    if progress.temperature_k is None or progress.setpoint_k is None:
        return "-"
    now, wanted = celsius(progress.temperature_k), celsius(progress.setpoint_k)
    return f"{now:.2f} degC, setpoint {wanted:.2f} degC  {progress.note}"


def point_text(point: Mapping[str, float]) -> str:
    """Return a point as a person reads it; "-" for none."""
    if point.keys() >= _IMPEDANCE:
        real, imag = point["z_real_ohm"], point["z_imag_ohm"]
        frequency = format_si(point["frequency_hz"], "Hz")
        return f"{frequency}: {format_si(real, 'ohm')}, imaginary {format_si(imag, 'ohm')}"
    return ", ".join(f"{name} {value:.6g}" for name, value in point.items()) or "-"
