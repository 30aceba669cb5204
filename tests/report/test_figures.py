"""Figures: what they show, in which units, and that they become files."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.analysis.arrhenius import fit_arrhenius
from labctl.analysis.impedance import fit_impedance
from labctl.errors import BadInputError
from labctl.report.figures import (
    ArrheniusSeries,
    SampleSummary,
    Trace,
    arrhenius,
    nyquist,
    run_overview,
    save_figure,
    spectrum_figure,
    summary_figure,
    temperature_log,
)

F = np.geomspace(2e5, 1.0, 40)
UP_K = 298.15 + np.arange(0.0, 31.0, 10.0)


def spectrum(r_ohm):
    s = 2j * np.pi * F
    return r_ohm / (1 + (s * r_ohm * 7e-12) ** 0.97) + 1 / (1e-3 / r_ohm * s**0.9)


def trace(r_ohm, temperature_k=None):
    z = spectrum(r_ohm)
    return Trace(F, z, fit_impedance(F, z), temperature_k)


def series(name="LiCl", sigma_25=1e-8):
    sigma = sigma_25 * np.exp(-0.78 / 8.617e-5 * (1 / UP_K - 1 / 298.15))
    line = fit_arrhenius(UP_K, 100 * sigma).primary
    return ArrheniusSeries(name, UP_K, sigma, 0.02 * sigma, line)


def sample(name="LiCl", r_ohm=1e7):
    resistances = zip(r_ohm / np.arange(1.0, 5.0), UP_K, strict=True)
    return SampleSummary(name, tuple(trace(r, k) for r, k in resistances), series(name))


@pytest.fixture
def axes():
    return Figure().add_subplot()


@pytest.mark.parametrize(
    ("r_ohm", "unit", "scale"), [(50.0, "Ω", 1), (5e4, "kΩ", 1e3), (1.27e7, "MΩ", 1e6)]
)
def test_nyquist_shows_the_unit_that_suits_the_resistance(axes, r_ohm, unit, scale):
    nyquist(axes, [Trace(F, spectrum(r_ohm), fit_impedance(F, spectrum(r_ohm) + 0))])

    assert axes.get_xlabel() == f"Re Z / {unit}"
    points, fitted = axes.get_lines()[:2]
    assert np.array(points.get_xdata()) * scale == pytest.approx(spectrum(r_ohm).real)
    assert fitted.get_linestyle() == "-"


def test_nyquist_has_one_scale_and_shows_the_whole_arc(axes):
    nyquist(axes, [trace(1.27e7)])

    assert axes.get_aspect() == 1.0
    low, high = axes.get_xlim()
    assert low == 0
    assert high > 12.7


def test_temperatures_are_named_in_degrees_celsius(axes):
    nyquist(axes, [trace(1e6, 298.15), trace(1e5, 348.15)])

    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["25 °C", "75 °C"]


def test_arrhenius_has_kelvin_below_and_celsius_above(axes):
    arrhenius(axes, [series()])

    assert axes.get_xlabel() == "1000 K / T"
    assert axes.get_yscale() == "log"
    top = axes.child_axes[0]
    assert top.get_xlabel() == "temperature / °C"
    assert list(top.get_xticks()) == [25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0]


def test_arrhenius_line_goes_through_its_points(axes):
    arrhenius(axes, [series()])

    line = max(axes.get_lines(), key=lambda each: len(each.get_xdata()))
    x, y = line.get_data()
    at_25 = np.interp(1000 / 298.15, x, y)
    assert at_25 == pytest.approx(1e-8, rel=0.01)


def test_temperature_log_is_in_hours_and_shades_the_spectra(axes):
    time_s = np.array([0.0, 3600.0, 7200.0])

    temperature_log(
        axes,
        time_s=time_s,
        temperature_k=np.array([298.15, 310.0, 323.15]),
        setpoint_k=np.array([298.15, 323.15, 323.15]),
        measured_s=[(3600.0, 5400.0)],
    )

    assert axes.get_xlabel() == "time / h"
    assert len(axes.patches) == 1
    stage = axes.get_lines()[-1]
    assert list(stage.get_xdata()) == [0, 1, 2]
    assert stage.get_ydata() == pytest.approx([25.0, 36.85, 50.0])


def test_summary_has_a_panel_per_sample_and_one_arrhenius_plot():
    figure = summary_figure([sample("LiCl"), sample("LiAlCl4", 1e5), sample("AlOCl", 100.0)])

    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes[:3]] == ["LiCl", "LiAlCl4", "AlOCl"]
    assert figure.get_size_inches()[0] * figure.dpi == 1600


def test_a_figure_of_a_run_shows_spectra_line_and_temperature():
    temperature = {
        "time_s": np.array([0.0, 60.0]),
        "temperature_k": np.array([298.0, 298.1]),
        "setpoint_k": np.array([298.15, 298.15]),
    }

    figure = run_overview(sample(), temperature)

    assert [axes.get_xlabel() for axes in figure.axes] == ["Re Z / MΩ", "1000 K / T", "time / h"]


def branched():
    """Return a sample that was heated and cooled, and conducts better after that."""
    warm, cool = UP_K, UP_K[:-1]
    sigma = [f * 1e-8 * np.exp(-9052 * (1 / t - 1 / 298.15)) for f, t in ((1, warm), (1.1, cool))]
    lines = {
        name: fit_arrhenius(t, 100 * s).primary
        for name, t, s in zip(("heating", "cooling"), (warm, cool), sigma, strict=True)
    }
    both, at_k = np.concatenate(sigma), np.concatenate([warm, cool])
    branch = ("heating",) * 4 + ("cooling",) * 3
    traces = tuple(
        replace(trace(0.1 / s, k), branch=b) for s, k, b in zip(both, at_k, branch, strict=True)
    )
    line = fit_arrhenius(at_k, 100 * both).primary
    points = ArrheniusSeries("LiCl", at_k, both, 0.02 * both, line, branch, lines)
    return SampleSummary("LiCl", traces, points)


def test_heating_and_cooling_have_markers_and_lines_of_their_own(axes):
    arrhenius(axes, [branched().series])

    points = [each for each in axes.get_lines() if each.get_marker() == "o"]
    assert [each.get_markerfacecolor() != "none" for each in points] == [True, False]
    fitted = [each for each in axes.get_lines() if len(each.get_xdata()) > 50]
    assert [each.get_linestyle() for each in fitted] == ["-", "--"]
    titles = [text.get_text().split("\n")[0] for text in axes.get_legend().get_texts()]
    assert titles == ["LiCl, heating", "LiCl, cooling"]


def test_a_branch_without_a_line_is_drawn_with_the_line_of_all(axes):
    arrhenius(axes, [replace(branched().series, branch_lines={})])

    assert len([each for each in axes.get_lines() if len(each.get_xdata()) > 50]) == 1
    assert len(axes.get_legend().get_texts()) == 2


def test_nyquist_names_the_branch(axes):
    nyquist(axes, [t for t in branched().traces if t.temperature_k == 298.15])

    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["25 °C, heating", "25 °C, cooling"]


def test_an_overview_shows_both_branches_at_the_same_temperatures():
    figure = run_overview(branched(), None)

    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    warm = [name.split(",")[0] for name in names if "heating" in name]
    assert [name.split(",")[0] for name in names if "cooling" in name] == warm[:-1]


def test_a_short_spectrum_is_seen_in_a_long_run(axes):
    time_s = np.array([0.0, 36e4])

    temperature_log(axes, time_s=time_s, temperature_k=UP_K[:2], measured_s=[(1e5, 1e5 + 60)])

    assert axes.patches[0].get_width() >= 0.003 * 100


def test_an_electrodes_arc_is_inside_the_axes(axes):
    s = 2j * np.pi * np.geomspace(1e4, 3e-3, 60)
    z = 0.015 + 0.02 / (1 + (s * 0.01) ** 0.8) + 1 / (300 * s**0.6)

    nyquist(axes, [Trace(s.imag / 2 / np.pi, z, fit_impedance(s.imag / 2 / np.pi, z))])

    assert axes.get_xlim()[1] > 1e3 * min(z.real.max(), 0.035)


def test_the_legend_of_a_comparison_lists_samples_as_their_lines_lie(axes):
    arrhenius(axes, [series("LiCl", 1e-8), series("AlOCl", 1e-3), series("LiAlCl4", 1e-6)])

    names = [text.get_text().split("\n")[0] for text in axes.get_legend().get_texts()]
    assert names == ["AlOCl", "LiAlCl4", "LiCl"]


def test_a_figure_of_one_spectrum_shows_its_residuals():
    fit = fit_impedance(F, spectrum(1e5))

    figure = spectrum_figure(Trace(F, spectrum(1e5)), fit)

    assert len(figure.axes) == 4
    assert "|Z| / %" in figure.axes[-1].get_ylabel()


@pytest.mark.parametrize(
    ("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")]
)
def test_figures_become_files_of_the_kind_asked_for(tmp_path, name, begins):
    path = tmp_path / "new" / name

    save_figure(spectrum_figure(Trace(F, spectrum(1e5))), path)

    assert path.read_bytes().startswith(begins)


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="ends with one of"):
        save_figure(Figure(), tmp_path / "a.bmp")


def test_importing_the_figures_does_not_load_matplotlib():
    code = "import sys, labctl.report.figures as f; sys.exit('matplotlib' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
