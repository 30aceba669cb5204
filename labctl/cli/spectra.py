"""`labctl analyze`: a spectrum file of any instrument, fitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.options import Json
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from labctl.analysis.conductivity import Conductivity
    from labctl.analysis.impedance_fit import ImpedanceFit
    from labctl.formats.spectrum import Spectrum


def analyze(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Spectrum file.")],
    thickness: Annotated[
        str | None, typer.Option(help='Pellet thickness with its unit, "0.8 mm".')
    ] = None,
    diameter: Annotated[
        str | None, typer.Option(help='Electrode diameter with its unit, "10 mm".')
    ] = None,
    sweep: Annotated[
        int | None, typer.Option(min=1, help="Which sweep of a file with several.  [default: 1]")
    ] = None,
    json: Json = False,
    output: Annotated[
        Path | None, typer.Option("--plot", help="Draw spectrum and fit into this file.")
    ] = None,
) -> None:
    """Fit the impedance spectrum of a pellet between blocking electrodes.

    Reads EC-Lab text (.txt, .mpt), Gamry .DTA, ZView .z, RelaxIS .txt and CSV (frequency, real,
    imaginary).
    """
    from labctl.analysis.impedance import fit_impedance

    geometry = _geometry(thickness, diameter)
    spectrum = _spectrum(file, sweep)
    fit = fit_impedance(spectrum.frequency_hz, spectrum.z_ohm)
    sigma = _conductivity(fit, geometry)
    if output is not None:
        _draw(file, spectrum, fit, output)
    if json:
        _print_json(file, spectrum, fit, sigma)
    else:
        _print(file, spectrum, fit, sigma)


def _spectrum(file: Path, sweep: int | None) -> Spectrum:
    """Return the sweep asked for, or the first, with a remark if there are more."""
    from dataclasses import replace

    from labctl.formats.spectrum import read_spectra

    spectra = read_spectra(file)
    count = len(spectra)
    if sweep is not None and sweep > count:
        raise BadInputError(f"--sweep = {sweep}: {file} holds {count} sweeps")
    chosen = spectra[(sweep or 1) - 1]
    if sweep is not None or count == 1:
        return chosen
    remark = f"the first of {count} sweeps in this file; --sweep takes another"
    return replace(chosen, warnings=(*chosen.warnings, remark))


def _geometry(thickness: str | None, diameter: str | None) -> tuple[float, float] | None:
    """Return thickness and diameter in m, or None if neither is given."""
    from labctl.quantities import parse_quantity

    if thickness is None and diameter is None:
        return None
    values: list[float] = []
    for name, text in (("--thickness", thickness), ("--diameter", diameter)):
        if text is None:
            raise BadInputError(f"{name}: missing; a conductivity needs thickness and diameter")
        try:
            values.append(parse_quantity(text, "m"))
        except ValueError as error:
            raise BadInputError(f"{name} = {text!r}: {error}") from error
        if values[-1] <= 0:
            raise BadInputError(f"{name} = {text!r}: expected a length above 0")
    return values[0], values[1]


def _conductivity(fit: ImpedanceFit, geometry: tuple[float, float] | None) -> Conductivity | None:
    from labctl.analysis.conductivity import conductivity

    if geometry is None:
        return None
    return conductivity(
        r_ohm=fit.r_total_ohm,
        u_r_ohm=fit.u_r_total_ohm,
        thickness_m=geometry[0],
        diameter_m=geometry[1],
    )


def _remarks(spectrum: Spectrum, fit: ImpedanceFit, sigma: Conductivity | None) -> list[str]:
    """Return what the result cannot know, in words."""
    missing = [] if sigma else ["no geometry, so no conductivity: give --thickness and --diameter"]
    exact = ["thickness and diameter taken as exact"] if sigma else []
    return [*spectrum.warnings, *fit.warnings, *missing, *exact]


def _print(file: Path, spectrum: Spectrum, fit: ImpedanceFit, sigma: Conductivity | None) -> None:
    """Print the fit for a person."""
    from labctl.cli.views import console
    from labctl.quantities import format_si, with_uncertainty

    out = console()
    low, high = min(spectrum.frequency_hz), max(spectrum.frequency_hz)
    window = f"{format_si(low, 'Hz', 3)} to {format_si(high, 'Hz', 3)}"
    lines = [
        f"file      {file}",
        f"read as   {spectrum.source_format}: {len(spectrum.frequency_hz)} points, {window}",
        f"circuit   {fit.circuit.name}",
        f"R total   {with_uncertainty(fit.r_total_ohm, fit.u_r_total_ohm)} ohm",
    ]
    for arc in fit.arcs:
        resistance = with_uncertainty(arc.r_ohm, arc.u_r_ohm)
        lines.append(
            f"arc       {resistance} ohm, {arc.capacitance_f:.2g} F, "
            f"{format_si(arc.peak_hz, 'Hz', 3)}: {arc.label}"
        )
    if sigma is not None:
        text = with_uncertainty(sigma.sigma_s_per_cm, sigma.u_sigma_s_per_cm)
        lines.append(f"sigma     {text} S/cm")
    lines.append(f"residual  {fit.noise:.2%} rms of |Z|")
    lines += [f"note: {remark}" for remark in _remarks(spectrum, fit, sigma)]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)


def _print_json(
    file: Path, spectrum: Spectrum, fit: ImpedanceFit, sigma: Conductivity | None
) -> None:
    from labctl.cli.views import print_json

    result: dict[str, Any] = {
        "file": str(file),
        "source_format": spectrum.source_format,
        "n_points": len(spectrum.frequency_hz),
        "circuit": fit.circuit.name,
        "r_total_ohm": fit.r_total_ohm,
        "u_r_total_ohm": fit.u_r_total_ohm,
        "arcs": [arc.model_dump() for arc in fit.arcs],
        "parameters": [parameter.model_dump() for parameter in fit.parameters],
        "conductivity": None if sigma is None else sigma.model_dump(),
        "noise": fit.noise,
        "warnings": _remarks(spectrum, fit, sigma),
    }
    print_json(result)


def _draw(file: Path, spectrum: Spectrum, fit: ImpedanceFit, output: Path) -> None:
    from labctl.report.figures import save_figure, spectrum_figure
    from labctl.report.panels import Trace

    trace = Trace(spectrum.frequency_hz, spectrum.z_ohm)
    save_figure(spectrum_figure(trace, fit, title=file.stem), output)
