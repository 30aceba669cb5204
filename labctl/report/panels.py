"""What goes into one pair of axes: Nyquist, Bode, Arrhenius, residuals, temperatures over time.

Colours are Okabe and Ito's, which people with any colour vision can tell apart; temperatures run
through a part of "cividis", which is made for the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.quantities import ZERO_CELSIUS_K, with_uncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from labctl.analysis.arrhenius import ArrheniusLine
    from labctl.analysis.impedance_fit import ImpedanceFit

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Okabe and Ito's palette without black and yellow, which is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
COOLING = "cooling"  # drawn with open markers and broken lines, everything else filled and solid
_PREFIXES = {-2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}
_VIEW = 1.55  # how far beyond the largest resistance a Nyquist plot reaches
_HEIGHT = 0.66  # height of a Nyquist plot in units of its width
_SEEN = 1.08  # how far beyond the last arc, if that is an electrode's
_FINE = 200  # points of a fitted line
_NARROWEST = 0.004  # of the time axis: a spectrum of a minute must show in a run of days


class FittedCircuit(Protocol):
    """What is drawn of a fit; `ImpedanceFit` is one."""

    @property
    def r_total_ohm(self) -> float:
        """The ions' resistance in ohm."""
        ...

    @property
    def r_visible_ohm(self) -> float:
        """That and the resistances of the electrodes' arcs, in ohm."""
        ...

    def impedance_ohm(self, frequency_hz: FloatArray) -> ComplexArray:
        """Return the circuit's impedance in ohm, shape (n_frequencies,)."""
        ...


@dataclass(frozen=True)
class Trace:
    """One measured spectrum and its fit.

    Attributes:
        z_ohm: complex impedance, shape (n_points,), as is frequency_hz.
        temperature_k: colours and labels the trace; None where it is not known.
        branch: "heating" or "cooling"; "" where that makes no difference.
    """

    frequency_hz: FloatArray
    z_ohm: ComplexArray
    fit: FittedCircuit | None = None
    temperature_k: float | None = None
    branch: str = ""


@dataclass(frozen=True)
class ArrheniusSeries:
    """The conductivities of one sample and the line through them.

    Attributes:
        sigma_s_per_cm: shape (n_points,), as are temperature_k and u_sigma_s_per_cm.
        branch: what each point belongs to, n_points of them, or none.
        branch_lines: the lines of the branches; where there are two they are drawn for `line`.
    """

    name: str
    temperature_k: FloatArray
    sigma_s_per_cm: FloatArray
    u_sigma_s_per_cm: FloatArray
    line: ArrheniusLine | None = None
    branch: tuple[str, ...] = ()
    branch_lines: Mapping[str, ArrheniusLine] = field(default_factory=dict[str, "ArrheniusLine"])


def nyquist(axes: Axes, traces: Sequence[Trace], *, colour: str | None = None) -> None:
    """Draw -Im Z over Re Z to one scale, fits as lines, cut where only the electrode goes on."""
    reach = _reach_ohm(traces)
    scale, unit = _ohm_scale(reach)
    has_branches = len({trace.branch for trace in traces if trace.branch}) > 1
    for trace, shade in zip(traces, _temperature_colours(traces, colour), strict=True):
        is_filled = has_branches and trace.branch != COOLING
        axes.plot(
            trace.z_ohm.real / scale,
            -trace.z_ohm.imag / scale,
            linestyle="none",
            marker="s" if trace.branch == COOLING else "o",
            markersize=7.5 if has_branches and trace.branch == COOLING else 4.5,
            markerfacecolor=shade if is_filled else "none" if has_branches else "white",
            markeredgecolor=shade,
            label=_trace_label(trace, has_branches=has_branches),
        )
        if trace.fit is not None:
            fitted = trace.fit.impedance_ohm(_fine(trace))
            style = _line_style(trace.branch)
            axes.plot(fitted.real / scale, -fitted.imag / scale, style, color=shade, linewidth=1.4)
    lowest = min(0.0, *(float((-trace.z_ohm.imag).min()) for trace in traces))
    bottom = max(lowest, -0.15 * reach)
    top = _top_ohm(traces, reach)
    axes.set(xlim=(0, reach / scale), ylim=(1.1 * bottom / scale, top / scale))
    axes.set_aspect("equal", adjustable="box")
    axes.set(xlabel=f"Re Z / {unit}", ylabel=f"\N{MINUS SIGN}Im Z / {unit}")
    if bottom < 0:
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    if any(trace.temperature_k is not None for trace in traces):
        # Right of the coldest spike is the one place that stays empty.
        axes.legend(loc="upper right", handletextpad=0.1, borderaxespad=0.2)


def bode(modulus: Axes, phase: Axes, traces: Sequence[Trace]) -> None:
    """Draw |Z| and the phase over frequency, fits as lines."""
    for trace, shade in zip(traces, _temperature_colours(traces, None), strict=True):
        angle = np.angle(trace.z_ohm, deg=True)
        for axes, values in ((modulus, np.abs(trace.z_ohm)), (phase, -angle)):
            axes.plot(trace.frequency_hz, values, "o", mec=shade, mfc="white", markersize=4)
        if trace.fit is not None:
            fine = _fine(trace)
            fitted = trace.fit.impedance_ohm(fine)
            modulus.plot(fine, np.abs(fitted), color=shade, linewidth=1.4)
            phase.plot(fine, -np.angle(fitted, deg=True), color=shade, linewidth=1.4)
    modulus.set(xscale="log", yscale="log", ylabel="|Z| / \N{GREEK CAPITAL LETTER OMEGA}")
    modulus.tick_params(labelbottom=False)
    phase.set(xscale="log", xlabel="frequency / Hz", ylabel="\N{MINUS SIGN}phase / °")


def residuals(axes: Axes, fit: ImpedanceFit) -> None:
    """Draw what the circuit leaves unexplained, in percent of |Z|; open: points not fitted."""
    frequency = np.array(fit.frequency_hz)
    used = np.array(fit.is_used)
    parts = (("real", fit.residual_real, COLOURS[0]), ("imaginary", fit.residual_imag, COLOURS[1]))
    for name, values, colour in parts:
        percent = 100 * np.array([np.nan if each is None else each for each in values])
        axes.plot(frequency[used], percent[used], "o", color=colour, markersize=4, label=name)
        left_out = percent[~used]
        axes.plot(frequency[~used], left_out, "o", mec=colour, mfc="none", markersize=4)
    known = [
        abs(each) for at in np.flatnonzero(used) if (each := fit.residual_real[at]) is not None
    ]
    known += [
        abs(each) for at in np.flatnonzero(used) if (each := fit.residual_imag[at]) is not None
    ]
    half = 150 * max([1e-4, *known])
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(xscale="log", xlabel="frequency / Hz", ylabel="(fit \N{MINUS SIGN} data) / |Z| / %")
    axes.set_ylim(-half, half)
    axes.legend(loc="upper right", ncols=2, borderaxespad=0.1, handletextpad=0.1)


def arrhenius(axes: Axes, series: Sequence[ArrheniusSeries]) -> None:
    """Draw conductivities over 1000/T with their lines, 2u bands, and degrees Celsius on top.

    The legend lists the samples from the best conductor down, as the lines lie. Of one sample it
    stands in the corner that a falling line leaves empty, of several below the axes.
    """
    order = sorted(range(len(series)), key=lambda at: -float(np.median(series[at].sigma_s_per_cm)))
    for at in order:
        _arrhenius_series(axes, series[at], at, is_alone=len(series) == 1)
    axes.set(yscale="log", xlabel="1000 K / T", ylabel="\N{GREEK SMALL LETTER SIGMA} / (S/cm)")
    if len(series) == 1:
        axes.legend(loc="upper right")
    else:
        below = (0.5, -0.14)
        axes.legend(loc="upper center", bbox_to_anchor=below, ncols=len(series), columnspacing=4)
    top = axes.secondary_xaxis("top", functions=(_celsius_at, _inverse_at))
    temperatures = np.concatenate([each.temperature_k for each in series]) - ZERO_CELSIUS_K
    top.set_xticks(_celsius_ticks(float(temperatures.min()), float(temperatures.max())))
    top.set_xlabel("temperature / °C")


def temperature_log(
    axes: Axes,
    *,
    time_s: FloatArray,
    temperature_k: FloatArray,
    setpoint_k: FloatArray | None = None,
    measured_s: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw the stage's temperature over the hours, with the times of the spectra shaded.

    Args:
        axes: where to draw.
        time_s: since the start of the run, shape (n_readings,), as are the temperatures.
        temperature_k: read back.
        setpoint_k: commanded.
        measured_s: start and end of each spectrum.
    """
    hours = time_s / 3600
    narrowest = _NARROWEST * float(np.ptp(hours))
    for at, (start, end) in enumerate(measured_s):
        right = max(end / 3600, start / 3600 + narrowest)
        label = "spectrum" if at == 0 else None
        axes.axvspan(start / 3600, right, color=COLOURS[0], alpha=0.35, linewidth=0, label=label)
    if setpoint_k is not None:
        setpoint = setpoint_k - ZERO_CELSIUS_K
        axes.step(hours, setpoint, where="post", color="0.45", linewidth=1, label="setpoint")
    axes.plot(hours, temperature_k - ZERO_CELSIUS_K, color=COLOURS[1], label="stage")
    axes.set(xlabel="time / h", ylabel="temperature / °C")
    axes.margins(x=0.01)
    # Above the axes, where it can cover nothing.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1)


def _arrhenius_series(axes: Axes, series: ArrheniusSeries, at: int, *, is_alone: bool) -> None:
    """Draw one sample: its branches apart where each has a line, else all points and their line."""
    marker = MARKERS[at % len(MARKERS)]
    branch = np.array(series.branch or [""] * series.temperature_k.size)
    are_apart = len(series.branch_lines) > 1
    names = list(dict.fromkeys(branch.tolist()))
    for name in names:
        line = series.branch_lines.get(name) if are_apart else None
        title = f"{series.name}, {name}" if len(names) > 1 else series.name
        if not are_apart and name == names[0]:
            line = series.line
        wanted = branch == name
        is_ring = name == COOLING and len(names) > 1
        # A colour means a sample, unless there is but one.
        colour = COLOURS[(at + (is_alone and is_ring)) % len(COLOURS)]
        axes.errorbar(
            1000 / series.temperature_k[wanted],
            series.sigma_s_per_cm[wanted],
            yerr=2 * series.u_sigma_s_per_cm[wanted],
            linestyle="none",
            marker=marker,
            markersize=11 if is_ring else 7,  # a ring around the point it may lie on
            markerfacecolor="none" if name == COOLING else colour,
            markeredgewidth=1.5,
            color=colour,
            capsize=3,
            label=_arrhenius_label(title, line),
            zorder=3,
        )
        if line is not None:
            shown = series.temperature_k[wanted] if are_apart else series.temperature_k
            _arrhenius_line(axes, line, shown, colour, _line_style(name))


def _line_style(branch: str) -> str:
    return "--" if branch == COOLING else "-"


def _arrhenius_line(
    axes: Axes, line: ArrheniusLine, temperature_k: FloatArray, colour: str, style: str
) -> None:
    inverse = np.linspace(1 / temperature_k.max(), 1 / temperature_k.min(), _FINE)
    ln_sigma = line.ln_sigma(1 / inverse) - np.log(100.0)  # S/m to S/cm
    band = 2 * line.u_ln_sigma(1 / inverse)
    axes.plot(1000 * inverse, np.exp(ln_sigma), style, color=colour, linewidth=1.6)
    low, high = np.exp(ln_sigma - band), np.exp(ln_sigma + band)
    axes.fill_between(1000 * inverse, low, high, color=colour, alpha=0.25, linewidth=0)


def _arrhenius_label(title: str, line: ArrheniusLine | None) -> str:
    """Return three short lines: a long one would cover points."""
    if line is None:
        return title
    ea = with_uncertainty(line.ea_ev, line.u_ea_ev)
    sigma = line.sigma_25_s_per_cm
    exponent = int(np.floor(np.log10(1.0005 * sigma)))  # 9.9996e-9 is 1.000e-8
    factor = 10.0**-exponent
    room = with_uncertainty(sigma * factor, line.u_sigma_25_s_per_cm * factor)
    return (
        f"{title}\n"
        rf"$E_\mathrm{{a}}$ = {ea} eV from $\ln(\sigma T)$"
        "\n"
        rf"$\sigma_{{25\,°\mathrm{{C}}}}$ = {room} $\times\,10^{{{exponent}}}$ S/cm"
    )


def _celsius_at(inverse: ArrayLike) -> FloatArray:
    with np.errstate(divide="ignore"):
        return 1000 / np.asarray(inverse) - ZERO_CELSIUS_K


def _inverse_at(celsius: ArrayLike) -> FloatArray:
    with np.errstate(divide="ignore"):
        return 1000 / (np.asarray(celsius) + ZERO_CELSIUS_K)


def _celsius_ticks(low: float, high: float) -> FloatArray:
    """Return round temperatures, at most seven."""
    span = max(high - low, 1.0)
    step = next(each for each in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if span / each <= 6)
    return np.arange(np.ceil(low / step - 0.01) * step, high + 0.01 * step, step)


def _reach_ohm(traces: Sequence[Trace]) -> float:
    """Return how far the axes go: past the last arc, not to the electrode's far end."""
    fitted = [_reach_of_fit(trace, trace.fit) for trace in traces if trace.fit is not None]
    return max(fitted) if fitted else 1.05 * max(_widest(trace) for trace in traces)


def _reach_of_fit(trace: Trace, fit: FittedCircuit) -> float:
    reach, widest = _VIEW * fit.r_total_ohm, _widest(trace)
    if fit.r_visible_ohm <= fit.r_total_ohm:
        return reach
    # An electrode's arc is worth seeing, and so is a short tail behind it.
    is_short = widest < 2 * fit.r_visible_ohm
    return max(reach, _SEEN * (widest if is_short else fit.r_visible_ohm))


def _top_ohm(traces: Sequence[Trace], reach_ohm: float) -> float:
    """Return how high the axes go: all alike where temperatures are compared, else as the data."""
    if any(trace.temperature_k is not None for trace in traces):
        return _HEIGHT * reach_ohm
    shown = [-trace.z_ohm.imag[trace.z_ohm.real < reach_ohm] for trace in traces]
    highest = max((float(each.max()) for each in shown if each.size), default=0.0)
    return float(np.clip(1.2 * highest, _HEIGHT * reach_ohm / 2, _HEIGHT * reach_ohm))


def _widest(trace: Trace) -> float:
    return float(trace.z_ohm.real.max())


def _ohm_scale(reach_ohm: float) -> tuple[float, str]:
    """Return what to divide by and the unit that is left."""
    power = int(np.clip(np.floor(np.log10(reach_ohm) / 3), min(_PREFIXES), max(_PREFIXES)))
    return 10.0 ** (3 * power), f"{_PREFIXES[power]}\N{GREEK CAPITAL LETTER OMEGA}"


def _temperature_colours(traces: Sequence[Trace], colour: str | None) -> list[str]:
    """Return one colour per trace: cold dark, hot light; or one colour for all."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if colour is not None or len(traces) == 1:
        return [colour or COLOURS[0]] * len(traces)
    if any(trace.temperature_k is None for trace in traces):
        return [COLOURS[at % len(COLOURS)] for at in range(len(traces))]
    kelvins = np.array([trace.temperature_k for trace in traces], dtype=np.float64)
    place = (kelvins - kelvins.min()) / max(float(np.ptp(kelvins)), 1.0)
    return [to_hex(colormaps["cividis"](0.05 + 0.8 * each)) for each in place]


def _trace_label(trace: Trace, *, has_branches: bool) -> str | None:
    if trace.temperature_k is None:
        return None
    degrees = f"{trace.temperature_k - ZERO_CELSIUS_K:.0f} °C"
    return f"{degrees}, {trace.branch}" if has_branches and trace.branch else degrees


def _fine(trace: Trace) -> FloatArray:
    return np.geomspace(trace.frequency_hz.min(), trace.frequency_hz.max(), _FINE)
