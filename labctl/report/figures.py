"""Whole figures, ready for a report or a paper, and their files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labctl.errors import BadInputError
from labctl.report.panels import (
    COLOURS,
    ArrheniusSeries,
    Trace,
    arrhenius,
    bode,
    nyquist,
    residuals,
    temperature_log,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from labctl.analysis.impedance_fit import ImpedanceFit
    from labctl.report.panels import FloatArray

__all__ = [
    "COLOURS",
    "ArrheniusSeries",
    "SampleSummary",
    "Trace",
    "arrhenius",
    "bode",
    "nyquist",
    "residuals",
    "run_overview",
    "save_figure",
    "spectrum_figure",
    "summary_figure",
    "temperature_log",
]

_MOST_TRACES, _MOST_OF_A_BRANCH = 6, 4
_SAME_K = 1.0
_FORMATS = (".png", ".svg", ".pdf")
_DPI = 100  # with the sizes in inches below: 1600 pixels wide
_STYLE: dict[Any, Any] = {
    "font.size": 13,
    "axes.labelsize": 14,
    "axes.titlesize": 15,
    "axes.linewidth": 1.1,
    "axes.spines.top": True,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.major.size": 5,
    "ytick.major.size": 5,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class SampleSummary:
    """What a summary shows of one sample.

    Attributes:
        traces: its spectra, one per temperature.
        series: its conductivities and their line.
    """

    name: str
    traces: tuple[Trace, ...]
    series: ArrheniusSeries


def summary_figure(samples: Sequence[SampleSummary]) -> Figure:
    """Return the spectra of every sample beside one Arrhenius plot of all of them."""
    from matplotlib.figure import Figure

    with _style():
        figure = Figure(figsize=(16, 9), dpi=_DPI, layout="constrained")
        grid = figure.add_gridspec(2, max(2, len(samples)), height_ratios=(1, 1.25))
        for at, sample in enumerate(samples):
            axes = figure.add_subplot(grid[0, at])
            nyquist(axes, _spread(sample.traces))
            axes.set_title(sample.name, color=COLOURS[at % len(COLOURS)], fontweight="bold")
        arrhenius(figure.add_subplot(grid[1, :]), [sample.series for sample in samples])
    return figure


def run_overview(
    sample: SampleSummary,
    temperature: Mapping[str, FloatArray] | None,
    measured_s: Sequence[tuple[float, float]] = (),
) -> Figure:
    """Return one run: its spectra, its Arrhenius plot and the temperature of the stage.

    Args:
        sample: spectra and conductivities.
        temperature: the columns time_s, temperature_k and setpoint_k; None if not recorded.
        measured_s: start and end of each spectrum in s since the start of the run.
    """
    from matplotlib.figure import Figure

    with _style():
        rows = 1 if temperature is None else 2
        figure = Figure(figsize=(16, 4 + 4 * rows), dpi=_DPI, layout="constrained")
        grid = figure.add_gridspec(rows, 2, height_ratios=(2, 1)[:rows])
        nyquist(figure.add_subplot(grid[0, 0]), _spread(sample.traces))
        if sample.series.temperature_k.size:
            arrhenius(figure.add_subplot(grid[0, 1]), [sample.series])
        if temperature is not None:
            temperature_log(
                figure.add_subplot(grid[1, :]),
                time_s=temperature["time_s"],
                temperature_k=temperature["temperature_k"],
                setpoint_k=temperature["setpoint_k"],
                measured_s=measured_s,
            )
        figure.suptitle(sample.name, fontweight="bold")
    return figure


def spectrum_figure(trace: Trace, fit: ImpedanceFit | None = None, *, title: str = "") -> Figure:
    """Return one spectrum as Nyquist and Bode plots, with the residuals of its fit if given."""
    from matplotlib.figure import Figure

    trace = replace(trace, fit=fit or trace.fit)
    with _style():
        figure = Figure(figsize=(16, 8), dpi=_DPI, layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(1.15, 1))
        nyquist(figure.add_subplot(grid[:, 0]), [trace])
        modulus = figure.add_subplot(grid[0, 1])
        phase = figure.add_subplot(grid[1, 1], sharex=modulus)
        bode(modulus, phase, [trace])
        if fit is not None:
            phase.tick_params(labelbottom=False)
            phase.set_xlabel("")
            residuals(figure.add_subplot(grid[2, 1], sharex=modulus), fit)
        figure.suptitle(title)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, whichever the name ends with.

    Raises:
        BadInputError: the name ends with something else.
    """
    if path.suffix.lower() not in _FORMATS:
        raise BadInputError(f"{path}: a figure's name ends with one of {', '.join(_FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _style():
        figure.savefig(path)


@contextmanager
def _style() -> Generator[None]:
    """Draw with the house style, whatever the user's matplotlibrc says, and leave that alone."""
    import matplotlib

    with matplotlib.rc_context():
        # All that is about drawing; the backend is not, and naming it would load it.
        defaults: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
        matplotlib.rcParams.update(
            {key: value for key, value in defaults.items() if not key.startswith("backend")}
        )
        matplotlib.rcParams.update(_STYLE)
        yield


def _spread(traces: tuple[Trace, ...]) -> list[Trace]:
    """Return traces evenly through the temperatures, of all branches at the same ones.

    Six of a single branch, else four of the longest, first and last included, and their like.
    """
    ordered = sorted(traces, key=lambda trace: trace.temperature_k or 0.0)
    branches = {
        name: [trace for trace in ordered if trace.branch == name]
        for name in dict.fromkeys(trace.branch for trace in traces)
    }
    longest = max(branches.values(), key=len, default=[])
    count = _MOST_TRACES if len(branches) == 1 else _MOST_OF_A_BRANCH
    if len(longest) <= count:
        return [trace for each in branches.values() for trace in each[:count]]
    last = len(longest) - 1
    chosen = [longest[round(at * last / (count - 1))] for at in range(count)]
    return [t for each in branches.values() for t in each if _is_like_one_of(t, chosen)]


def _is_like_one_of(trace: Trace, chosen: list[Trace]) -> bool:
    """Return whether a trace is among the chosen or has the temperature of one, to 1 K."""
    if trace.temperature_k is None:
        return any(trace is each for each in chosen)
    return any(abs(trace.temperature_k - (c.temperature_k or 0.0)) < _SAME_K for c in chosen)
