"""The steps that a sequence may hold, as a file writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv, Stop
from labctl.instruments.techniques import Eis, Geis, Ocp
from labctl.quantities import (
    ChargeC,
    CurrentA,
    CurrentDensityAPerM2,
    DurationS,
    FrequencyHz,
    ScanRateVPerS,
    TemperatureK,
    TemperatureRateKPerMin,
    VoltageV,
)
from labctl.run.protocol import Parameters
from labctl_protocols.currents import CurrentParameters
from labctl_protocols.spectra import SpectrumParameters

if TYPE_CHECKING:
    from labctl.config import SampleConfig


class SettleStep(Parameters):
    """Go to a temperature and wait there."""

    do: Literal["settle"]
    temperature: TemperatureK
    ramp_rate: TemperatureRateKPerMin = Field(default=2.0, gt=0)
    dwell: DurationS = Field(default=3600.0, ge=0)
    timeout: DurationS = Field(default=14400.0, gt=0)


class WaitStep(Parameters):
    """Wait, cell off."""

    do: Literal["wait"]
    duration: DurationS = Field(gt=0)


class _Timed(Parameters):
    duration: DurationS = Field(gt=0)
    interval: DurationS = Field(default=1.0, gt=0)


class OcpStep(_Timed):
    """Record the open-circuit potential."""

    do: Literal["ocp"]
    ends_below: VoltageV | None = Field(default=None, gt=0)
    window: DurationS = Field(default=600.0, gt=0)

    def technique(self, _: SampleConfig) -> Ocp:
        """Return it as a technique."""
        return Ocp(
            duration_s=self.duration,
            interval_s=self.interval,
            stop_change_v=self.ends_below,
            stop_window_s=self.window,
        )


class _Stopped(Parameters):
    potential_above: VoltageV | None = None
    potential_below: VoltageV | None = None
    current_above: CurrentA | None = Field(default=None, gt=0)
    current_below: CurrentA | None = Field(default=None, gt=0)
    charge_above: ChargeC | None = Field(default=None, gt=0)

    def stop(self) -> Stop:
        """Return what ends the step early."""
        return Stop(
            potential_above_v=self.potential_above,
            potential_below_v=self.potential_below,
            current_above_a=self.current_above,
            current_below_a=self.current_below,
            charge_above_c=self.charge_above,
        )


class CaStep(_Timed, _Stopped):
    """Hold a potential."""

    do: Literal["ca"]
    potential: VoltageV

    def technique(self, _: SampleConfig) -> Ca:
        """Return it as a technique."""
        return Ca(
            potential_v=self.potential,
            duration_s=self.duration,
            interval_s=self.interval,
            stop=self.stop(),
        )


class CpStep(_Timed, _Stopped):
    """Hold a current: positive charges a cathode, negative discharges it."""

    do: Literal["cp"]
    current: CurrentA | None = None
    current_density: CurrentDensityAPerM2 | None = None
    c_rate: float | None = None

    @model_validator(mode="after")
    def _one_current(self) -> Self:
        given = [each for each in self._ways().values() if each is not None]
        if len(given) != 1 or given[0] == 0:
            raise ValueError("expected one of current, current_density, c_rate, not zero")
        return self

    def _ways(self) -> dict[str, float | None]:
        return {
            "current": self.current,
            "current_density": self.current_density,
            "c_rate": self.c_rate,
        }

    def technique(self, sample: SampleConfig) -> Cp:
        """Return it as a technique."""
        name, value = next((n, v) for n, v in self._ways().items() if v is not None)
        size_a = CurrentParameters.model_validate({name: abs(value)}).current_a(sample)
        return Cp(
            current_a=size_a if value > 0 else -size_a,
            duration_s=self.duration,
            interval_s=self.interval,
            stop=self.stop(),
            largest_current_a=size_a,
        )


class _Swept(_Stopped):
    step: VoltageV = Field(default=1e-3, gt=0)
    rate: ScanRateVPerS = Field(default=1e-3, gt=0)


class LsvStep(_Swept):
    """Sweep the potential once."""

    do: Literal["lsv"]
    begin: VoltageV
    end: VoltageV

    def technique(self, _: SampleConfig) -> Lsv:
        """Return it as a technique."""
        return Lsv(
            begin_v=self.begin,
            end_v=self.end,
            step_v=self.step,
            rate_v_per_s=self.rate,
            stop=self.stop(),
        )


class CvStep(_Swept):
    """Sweep the potential to and fro."""

    do: Literal["cv"]
    begin: VoltageV
    vertex_1: VoltageV
    vertex_2: VoltageV
    n_scans: int = Field(default=1, ge=1)

    def technique(self, _: SampleConfig) -> Cv:
        """Return it as a technique."""
        return Cv(
            begin_v=self.begin,
            vertex_1_v=self.vertex_1,
            vertex_2_v=self.vertex_2,
            step_v=self.step,
            rate_v_per_s=self.rate,
            n_scans=self.n_scans,
            stop=self.stop(),
        )


class EisStep(SpectrumParameters):
    """Measure a spectrum around a bias, or around the potential that the last step ended with."""

    do: Literal["eis"]
    at: Literal["bias", "ocp"] = "bias"
    bias: VoltageV = 0.0

    def technique(self, _: SampleConfig) -> Eis:
        """Return it as a technique."""
        return self.sweep(self.bias if self.at == "bias" else None)


class GeisStep(Parameters):
    """Measure a spectrum with a current sine."""

    do: Literal["geis"]
    amplitude_a_rms: CurrentA = Field(gt=0)
    bias: CurrentA = 0.0
    frequency_start: FrequencyHz = Field(default=200e3, gt=0)
    frequency_end: FrequencyHz = Field(default=1.0, gt=0)
    n_points: int = Field(default=54, ge=2)

    def technique(self, _: SampleConfig) -> Geis:
        """Return it as a technique."""
        return Geis(
            frequency_start_hz=self.frequency_start,
            frequency_end_hz=self.frequency_end,
            n_points=self.n_points,
            amplitude_a_rms=self.amplitude_a_rms,
            bias_a=self.bias,
        )


class Repeat(Parameters):
    """Do some steps several times."""

    do: Literal["repeat"]
    times: int = Field(ge=1, le=10_000)
    steps: tuple[Step, ...] = Field(min_length=1)


Step = Annotated[
    SettleStep
    | WaitStep
    | OcpStep
    | CaStep
    | CpStep
    | LsvStep
    | CvStep
    | EisStep
    | GeisStep
    | Repeat,
    Field(discriminator="do"),
]
Repeat.model_rebuild()
