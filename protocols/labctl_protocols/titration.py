"""Pulses of current and the rests after them, as people set them and as steps of a plan."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from labctl.analysis.diffusion import Shape
from labctl.config import SampleConfig
from labctl.instruments.dc_techniques import Cp
from labctl.instruments.techniques import Ocp
from labctl.quantities import DurationS, LengthM, VoltageV
from labctl.run.protocol import PlannedStep, step
from labctl_protocols.currents import CurrentParameters, Direction, driven
from labctl_protocols.potential_window import PotentialWindow

Mode = Literal["gitt", "ici"]

_PULSE_S = {"gitt": 600.0, "ici": 300.0}
_REST_S = {"gitt": 7200.0, "ici": 60.0}


class TitrationParameters(CurrentParameters, PotentialWindow):
    """How pulses and rests are taken, besides the current and where the branches end.

    Attributes:
        pulse_duration: how long a current flows; 10 min if not given, 5 min between interruptions.
        pulse_interval: between two points while it flows, and in an interruption.
        rest_duration: how long a rest lasts at most; 2 hours if not given. An interruption lasts
            as long as this; 1 min if not given.
        rest_change: a rest ends once the potential changed by less than this within `rest_window`.
        rest_window: see there.
        rest_interval: between two points of a rest.
        diffusion_length: of the material; without it the sample's. Without either no diffusion
            coefficient is given.
        diffusion_shape: "plane": a layer of that thickness that ions enter from one side; "sphere":
            particles of that radius.
    """

    pulse_duration: Annotated[DurationS, Field(gt=0)] | None = None
    pulse_interval: DurationS = Field(default=1.0, gt=0)
    rest_duration: Annotated[DurationS, Field(gt=0)] | None = None
    rest_change: VoltageV = Field(default=1e-4, gt=0)
    rest_window: DurationS = Field(default=600.0, gt=0)
    rest_interval: DurationS = Field(default=10.0, gt=0)
    diffusion_length: Annotated[LengthM, Field(gt=0)] | None = None
    diffusion_shape: Shape = "plane"

    @model_validator(mode="after")
    def _intervals_fit(self) -> Self:
        if self.rest_interval > self.rest_window:
            raise ValueError("rest_interval: expected at most rest_window")
        if self.pulse_interval > self.pulse_s():
            raise ValueError("pulse_interval: expected at most pulse_duration")
        return self

    def mode_of_rests(self) -> Mode:
        """Return whether the potential comes to rest between pulses, or they are interruptions."""
        return "gitt"

    def pulse_s(self) -> float:
        """Return how long a current flows."""
        given = self.pulse_duration
        return _PULSE_S[self.mode_of_rests()] if given is None else given

    def rest_s(self) -> float:
        """Return how long a rest lasts at most."""
        return _REST_S[self.mode_of_rests()] if self.rest_duration is None else self.rest_duration

    def length_m(self, sample: SampleConfig) -> float | None:
        """Return the diffusion length, if anybody knows it."""
        own = self.diffusion_length
        return sample.diffusion_length if own is None else own

    def pulse(self, direction: Direction, sample: SampleConfig) -> Cp:
        """Return the step of current; it ends at the potential where its branch ends."""
        return driven(
            direction,
            self.current_a(sample),
            window_v=self.window_v(sample),
            duration_s=self.pulse_s(),
            interval_s=self.pulse_interval,
        )

    def rest(self) -> Ocp:
        """Return the rest before the first pulse, and in a titration after each one."""
        return Ocp(
            duration_s=_REST_S["gitt"] if self.mode_of_rests() == "ici" else self.rest_s(),
            interval_s=self.rest_interval,
            stop_change_v=self.rest_change,
            stop_window_s=self.rest_window,
        )

    def pause(self) -> Ocp:
        """Return what follows a pulse: a rest, or an interruption of a fixed length."""
        if self.mode_of_rests() == "gitt":
            return self.rest()
        return Ocp(duration_s=self.rest_s(), interval_s=self.pulse_interval)


def pulse_keys(place: str) -> tuple[str, str]:
    """Return the keys of a pulse and of what follows it: "charge-001" to "charge-001/pulse"."""
    return f"{place}/pulse", f"{place}/rest"


def pulse_steps(
    parameters: TitrationParameters,
    place: str,
    direction: Direction,
    sample: SampleConfig,
    *,
    is_optional: bool = False,
) -> list[PlannedStep]:
    """Return the steps of one pulse."""
    pulse_key, rest_key = pulse_keys(place)
    return [
        step(pulse_key, parameters.pulse(direction, sample), is_optional=is_optional),
        step(rest_key, parameters.pause(), is_optional=is_optional),
    ]
