"""Impedance spectra of a cell at rest, as the protocols of whole cells take them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from labctl.analysis.drt import distribution_of_relaxation_times
from labctl.errors import AnalysisError
from labctl.instruments.techniques import Eis, PointStatus
from labctl.quantities import FrequencyHz, VoltageV, format_si
from labctl.run.protocol import Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from labctl.run.run import Measurement


class SpectrumParameters(Parameters):
    """The sweep of a spectrum.

    Attributes:
        amplitude_v_rms: root-mean-square amplitude of the sine.
        frequency_start: first and highest frequency.
        frequency_end: last and lowest frequency.
        points_per_decade: of the spectrum.
    """

    amplitude_v_rms: VoltageV = Field(default=0.01, gt=0)
    frequency_start: FrequencyHz = Field(default=200e3, gt=0)
    frequency_end: FrequencyHz = Field(default=0.01, ge=1e-6)
    points_per_decade: int = Field(default=10, ge=1, le=100)

    @model_validator(mode="after")
    def _sweep_goes_down(self) -> Self:
        if not self.frequency_end < self.frequency_start:
            start, end = (format_si(f, "Hz") for f in (self.frequency_start, self.frequency_end))
            raise ValueError(f"frequency_end = {end}: expected less than frequency_start = {start}")
        return self

    def sweep(self, bias_v: float | None = None) -> Eis:
        """Return the spectrum to measure around a potential; None: one not known yet."""
        decades = math.log10(self.frequency_start / self.frequency_end)
        return Eis(
            frequency_start_hz=self.frequency_start,
            frequency_end_hz=self.frequency_end,
            n_points=max(2, round(decades * self.points_per_decade) + 1),
            amplitude_v_rms=self.amplitude_v_rms,
            bias_v=0.0 if bias_v is None else bias_v,
            is_bias_known=bias_v is not None,
            repeats_first=True,
        )


def usable(measured: Measurement) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Return frequencies in Hz and impedances in ohm without the points that overloaded."""
    status = measured.column("status_bits").astype(int)
    is_good = (status & PointStatus.OVERLOAD) == 0
    return measured.column("frequency_hz")[is_good], measured.impedance_ohm()[is_good]


def processes(measured: Measurement) -> dict[str, Any]:
    """Return the processes of a whole cell's spectrum as a document tells them, or why not.

    The diffusion into its electrodes, and the charge they store, are no processes of their own.
    """
    try:
        found = distribution_of_relaxation_times(*usable(measured), tail="diffusion")
    except AnalysisError as error:
        return {"peaks": [], "warnings": [str(error)]}
    return {
        "r0_ohm": found.best.r0_ohm,
        "r_polarization_ohm": found.r_polarization_ohm,
        "warburg_ohm_per_sqrt_s": found.best.warburg_ohm_per_sqrt_s,
        "lambda": found.best.lambda_,
        "residual": found.best.residual,
        "tau_window_s": list(found.tau_window_s),
        "peaks": [peak.model_dump(mode="json") for peak in found.peaks],
        "tau_s": list(found.tau_s),
        "gamma_ohm": list(found.best.gamma_ohm),
        "gamma_smoother_ohm": list(found.smoother.gamma_ohm),
        "gamma_rougher_ohm": list(found.rougher.gamma_ohm),
        "warnings": list(found.warnings),
    }
