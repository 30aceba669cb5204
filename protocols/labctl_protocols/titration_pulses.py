"""Taking pulses and rests, with their results as documents and an account of the charge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.analysis.gitt import GittPulse, analyze_pulse
from labctl.analysis.ici import EndOfFlow, Interruption, analyze_interruption, end_of_flow
from labctl.analysis.traces import RestEnd, rest_end
from labctl.errors import AnalysisError
from labctl.instruments.techniques import PointStatus
from labctl_protocols.titration import TitrationParameters, pulse_keys

if TYPE_CHECKING:
    from labctl.analysis.diffusion import Diffusion
    from labctl.run.run import Measurement, Run
    from labctl_protocols.currents import Direction


@dataclass(frozen=True, kw_only=True)
class PulseTaken:
    """A pulse with what follows it, as measured and as analyzed."""

    direction: Direction
    temperature_k: float
    charge_c: float
    ended_by: str
    diffusion: Diffusion | None
    rest: RestEnd | None


@dataclass
class Titration:
    """One titration under way: what was taken, the charge so far, and the last rest or flow.

    `charge_c` is the net charge since the begin; a charge counts positive. `first_rest` is where
    the cell stood then, and the `rest` of what was `taken` the last one in which it came to rest.
    """

    run: Run
    parameters: TitrationParameters
    charge_c: float = 0.0
    taken: list[PulseTaken] = field(default_factory=list[PulseTaken])
    first_rest: RestEnd | None = None
    _rest: RestEnd | None = None
    _flow: EndOfFlow | None = None
    _flowed_s: float = 0.0

    @property
    def is_interrupted(self) -> bool:
        """Return whether pulses are only interrupted, with no rest between them."""
        return self.parameters.mode_of_rests() == "ici"

    async def rest(self, key: str) -> None:
        """Let the potential come to rest before the pulses."""
        measured = await self.run.ocp(key=key, parameters=self.parameters.rest())
        self._rest = _end_of_rest(measured)
        self.first_rest = self.first_rest or self._rest
        self._turn()

    def _turn(self) -> None:
        """Forget the current that flowed: what comes now is another one."""
        self._flow, self._flowed_s = None, 0.0

    async def take(self, place: str, direction: Direction) -> PulseTaken:
        """Take a pulse and what follows it, record what they say, and return it."""
        if self.taken and self.taken[-1].direction != direction:
            self._turn()
        pulse_key, rest_key = pulse_keys(place)
        run, parameters = self.run, self.parameters
        pulse = await run.cp(key=pulse_key, parameters=parameters.pulse(direction, run.sample))
        pause = await run.ocp(key=rest_key, parameters=parameters.pause())
        charge_c = float(pulse.column("charge_c")[-1]) if pulse.n_points else 0.0
        self.charge_c += charge_c
        found, warnings = self._analyze(pulse, pause)
        taken = PulseTaken(
            direction=direction,
            temperature_k=pulse.temperature_k,
            charge_c=charge_c,
            ended_by=pulse.ended_by,
            diffusion=None if found is None else found.diffusion,
            rest=self._rest,
        )
        self.taken.append(taken)
        await run.record(
            "gitt",
            {
                "place": place,
                "step": pulse.step,
                "rest_step": pause.step,
                "direction": direction,
                "temperature_k": pulse.temperature_k,
                "charge_c": charge_c,
                "net_charge_c": self.charge_c,
                "state_of_charge": self._state_of_charge(),
                "pulse_ended_by": pulse.ended_by,
                "rest_ended_by": pause.ended_by,
                **self._potentials(pulse, pause),
                **({} if found is None else _told(found)),
                "warnings": warnings,
            },
        )
        return taken

    def _analyze(
        self, pulse: Measurement, pause: Measurement
    ) -> tuple[GittPulse | Interruption | None, list[str]]:
        """Return what a pulse says, and what a reader must know; data without result are none."""
        analyze = self._as_flow if self.is_interrupted else self._as_pulse
        try:
            found = analyze(pulse, pause)
        except AnalysisError as error:
            return None, [str(error)]
        return found, list(found.diffusion.objections)

    def _as_pulse(self, pulse: Measurement, pause: Measurement) -> GittPulse:
        before, self._rest = self._rest, _end_of_rest(pause)
        if before is None or self._rest is None:
            raise AnalysisError("a rest beside the pulse is too short to tell a potential")
        elapsed, potential, current = _usable(pulse, "elapsed_s", "potential_v", "current_a")
        return analyze_pulse(
            elapsed,
            potential,
            current,
            before=before,
            after=self._rest,
            diffusion_length_m=self.parameters.length_m(self.run.sample),
            shape=self.parameters.diffusion_shape,
        )

    def _as_flow(self, pulse: Measurement, pause: Measurement) -> Interruption:
        before, self._flow = self._flow, None
        self._flow = end_of_flow(*_usable(pulse, "elapsed_s", "potential_v", "current_a"))
        self._flowed_s += self._flow.duration_s
        return analyze_interruption(
            *_usable(pause, "elapsed_s", "potential_v"),
            flow=self._flow,
            before=before,
            flowed_s=self._flowed_s,
            diffusion_length_m=self.parameters.length_m(self.run.sample),
            shape=self.parameters.diffusion_shape,
        )

    def _potentials(self, pulse: Measurement, pause: Measurement) -> dict[str, Any]:
        """Return the potentials at the end of pulse and rest, also against Li+/Li if known."""
        rest = _end_of_rest(pause)
        told: dict[str, Any] = {
            "pulse_end_v": float(pulse.column("potential_v")[-1]) if pulse.n_points else None,
            "rest_v": None if rest is None else rest.potential_v,
            "rest_slope_v_per_s": None if rest is None else rest.slope_v_per_s,
            "rest_s": None if rest is None else rest.duration_s,
        }
        shift_v = self.run.sample.reference_potential
        for name in ("pulse_end", "rest"):
            against_reference_v = told[f"{name}_v"]
            told[f"{name}_v_vs_li"] = (
                None
                if shift_v is None or against_reference_v is None
                else against_reference_v + shift_v
            )
        return told

    def _state_of_charge(self) -> float | None:
        """Return the share of the nominal capacity that is charged, if that is known.

        A cell that is charged first counts as empty at the begin, one that is discharged as full.
        """
        capacity_c = self.run.sample.nominal_capacity
        if capacity_c is None:
            return None
        at_begin = 0.0 if self.taken[0].direction == "charge" else 1.0
        return at_begin + self.charge_c / capacity_c


def _end_of_rest(measured: Measurement) -> RestEnd | None:
    try:
        return rest_end(*_usable(measured, "elapsed_s", "potential_v"))
    except AnalysisError:
        return None


def _usable(measured: Measurement, *names: str) -> list[np.ndarray]:
    """Return columns without the points that overloaded the instrument."""
    status = np.nan_to_num(measured.column("status_bits")).astype(int)
    is_usable = (status & PointStatus.OVERLOAD) == 0
    return [measured.column(name)[is_usable] for name in names]


def _told(found: GittPulse | Interruption) -> dict[str, Any]:
    """Return a result as an event holds it: the coefficient beside the rest, not inside."""
    data = found.model_dump(mode="json")
    diffusion = data.pop("diffusion")
    return {**data, **{name: value for name, value in diffusion.items() if name != "objections"}}
