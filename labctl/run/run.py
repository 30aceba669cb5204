"""The run: what a protocol holds. Every measurement is one awaited step with a key."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.errors import BadInputError, LabctlError
from labctl.instruments.capabilities import CAPABILITY_OF
from labctl.run.limits import check_frame, check_rate, check_technique, check_temperature
from labctl.run.settle import Rest
from labctl.run.settling import ProbeSettings, Settling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from labctl.clock import RunClock
    from labctl.config import SampleConfig
    from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv
    from labctl.instruments.rig import Channel
    from labctl.instruments.techniques import Eis, Frame, Geis, Ocp, Technique
    from labctl.run.emitter import Emitter
    from labctl.run.pause import Pause
    from labctl.run.progress import ProgressTracker
    from labctl.run.protocol import PlannedStep
    from labctl.run.settle import SettleCriterion, SettleResult
    from labctl.run.telemetry import Telemetry

STEP_STREAM = "step"

Until = Callable[[Mapping[str, Sequence[float]]], str]
"""Told all points so far after each frame, says why a technique may end now, or "" to go on."""


class SettleTimeoutError(LabctlError, TimeoutError):
    """A temperature was not reached in time, and the protocol said to fail then."""


@dataclass(frozen=True)
class Measurement:
    """What a technique gave: columns of equal length, and the mean temperature meanwhile.

    Attributes:
        step: index of the step, as in the column `step` of the stored frames.
        columns: arrays of shape (n_points,) by column name.
        temperature_k: mean of the stage's readings while it was measured.
        ended_by: which of its conditions ended it early, in words; "" if none did.
    """

    step: int
    columns: dict[str, np.ndarray]
    temperature_k: float
    ended_by: str = ""

    @property
    def n_points(self) -> int:
        """Return the number of points."""
        return len(next(iter(self.columns.values())))

    def column(self, name: str, *, repeats: bool = False) -> np.ndarray:
        """Return one column; without the points that repeat the first frequency, or only those."""
        if "is_repeat" not in self.columns:
            return self.columns[name]
        return self.columns[name][(self.columns["is_repeat"] > 0) == repeats]

    def impedance_ohm(self, *, repeats: bool = False) -> np.ndarray:
        """Return the complex impedance of an EIS measurement, imaginary part < 0 if capacitive."""
        real = self.column("z_real_ohm", repeats=repeats)
        return real + 1j * self.column("z_imag_ohm", repeats=repeats)


class Run:
    """One execution of a protocol on one sample, seen from the protocol.

    `forgone` holds the keys of the planned steps that the script has chosen not to take,
    `unsettled` those of the temperatures that were not reached in time; `conclusion` says why the
    script has ended before its plan did, "" if it has not.
    """

    def __init__(
        self,
        *,
        run_id: str,
        sample: SampleConfig,
        channel: Channel,
        plan: Sequence[PlannedStep],
        emitter: Emitter,
        telemetry: Telemetry,
        tracker: ProgressTracker,
        clock: RunClock,
        pause: Pause,
    ) -> None:
        self.run_id = run_id
        self.sample = sample
        self._channel = channel
        self._emitter = emitter
        self._telemetry = telemetry
        self._tracker = tracker
        self._clock = clock
        self._pause = pause
        self._at_rest: Rest | None = None
        self.forgone: list[str] = []
        self.unsettled: list[str] = []
        self.conclusion = ""
        self._keys: list[str] = []
        self._expected = {
            step.key: (step.technique.NAME, step.technique.expected_points)
            for step in plan
            if step.technique is not None and not step.is_optional
        }

    @property
    def u_temperature_k(self) -> float:
        """Return the standard uncertainty of the sample's temperature, common to all readings."""
        return self._channel.u_temperature_k

    @property
    def elapsed_s(self) -> float:
        """Return how long the run has lasted, in its own time."""
        return self._clock.elapsed_s()

    @property
    def expected_points(self) -> dict[str, int]:
        """Return how many points each stream shall have, by plan and what was asked for besides."""
        return _totals(self._expected.values())

    @property
    def forgone_points(self) -> dict[str, int]:
        """Return how many of the expected points the script has chosen not to measure."""
        return _totals(self._expected[key] for key in self.forgone)

    @property
    def measures_nothing(self) -> bool:
        """Return whether every measuring step that there was has been forgone."""
        return bool(self.forgone) and set(self.forgone) == set(self._expected)

    async def eis(self, *, key: str, parameters: Eis) -> Measurement:
        """Measure an impedance spectrum and return it.

        Raises:
            LimitError: a parameter outside what the rig allows; nothing was sent.
            InstrumentError: the instrument failed; its cell is off.
        """
        return await self.measure(key=key, parameters=parameters)

    async def geis(self, *, key: str, parameters: Geis) -> Measurement:
        """Measure an impedance spectrum with a current sine and return it; errors as for `eis`."""
        return await self.measure(key=key, parameters=parameters)

    async def ocp(self, *, key: str, parameters: Ocp, until: Until | None = None) -> Measurement:
        """Measure the open-circuit potential and return it; `until` and errors as for `ca`."""
        return await self.measure(key=key, parameters=parameters, until=until)

    async def lsv(self, *, key: str, parameters: Lsv, until: Until | None = None) -> Measurement:
        """Sweep the potential once and return the points; `until` and errors as for `ca`."""
        return await self.measure(key=key, parameters=parameters, until=until)

    async def cv(self, *, key: str, parameters: Cv, until: Until | None = None) -> Measurement:
        """Sweep the potential to and fro and return the points; `until` and errors as for `ca`."""
        return await self.measure(key=key, parameters=parameters, until=until)

    async def ca(self, *, key: str, parameters: Ca, until: Until | None = None) -> Measurement:
        """Hold a potential and return the points; the script may end it early.

        Args:
            key: the step's key.
            parameters: what is held, and for how long at most.
            until: ends the hold once it says why; the instrument's script is aborted then, the cell
                goes off, and `ended_by` is what it said.

        Raises:
            As `eis`.
        """
        return await self.measure(key=key, parameters=parameters, until=until)

    async def cp(self, *, key: str, parameters: Cp, until: Until | None = None) -> Measurement:
        """Hold a current and return the points; `until` and errors as for `ca`."""
        return await self.measure(key=key, parameters=parameters, until=until)

    async def measure(
        self, *, key: str, parameters: Technique, until: Until | None = None
    ) -> Measurement:
        """Take whichever technique it is and return the points; `until` and errors as for `ca`.

        Each frame is recorded as it comes.
        """
        frames = self._frames_of(parameters)
        check_technique(self._channel.limits, parameters)
        self._expected[key] = (parameters.NAME, parameters.expected_points)
        about = key, parameters.NAME, parameters.parameters()
        async with self._step(*about) as outcome, self._channel.turn:
            step, began_s = len(self._keys) - 1, self._clock.elapsed_s()
            columns, said = await self._collect(step, parameters, frames, until)
            measured = Measurement(
                step,
                {name: np.array(values) for name, values in columns.items()},
                self._telemetry.mean_temperature_k(began_s),
                said or _ended_by(parameters, columns),
            )
            outcome.update(self._outcome(key, parameters, measured))
        return measured

    async def wait(self, *, key: str, duration_s: float) -> None:
        """Wait, cell off; the stage's temperature is recorded meanwhile."""
        async with self._step(key, "wait", {"duration_s": duration_s}):
            await asyncio.sleep(duration_s)

    async def settle(
        self,
        *,
        key: str,
        temperature_k: float,
        rate_k_per_min: float,
        criterion: SettleCriterion,
        probe: ProbeSettings | None = None,
        activation_energy_ev: float | None = None,
    ) -> SettleResult:
        """Go to a temperature and return when stage and sample have reached it, or time is up.

        Args:
            key: the step's key.
            temperature_k: where to.
            rate_k_per_min: how fast.
            criterion: when it counts as reached, and what to do if it is not.
            probe: how to probe the sample; without it the stage alone decides.
            activation_energy_ev: the sample's, if known yet, to scale the probe's tolerance;
                otherwise what its resistance tells, at rest last and now.

        Raises:
            LimitError: temperature or rate outside what the rig allows; nothing was sent.
            SettleTimeoutError: not reached in time and `criterion.on_timeout` is "fail".
        """
        check_temperature(self._channel.limits, temperature_k)
        check_rate(self._channel.limits, rate_k_per_min)
        async with self._step(key, "settle", {"temperature_k": temperature_k}) as outcome:
            await self._channel.stage.ramp_to(temperature_k, rate_k_per_min=rate_k_per_min)
            settling = Settling(
                self._channel, self._telemetry, self._emitter, self._tracker, self._clock, criterion
            )
            result = await settling.wait(
                temperature_k,
                probe,
                activation_energy_ev=activation_energy_ev,
                before=self._at_rest,
            )
            outcome.update(asdict(result))
        if result.ended_by == "probe":
            self._at_rest = Rest(temperature_k, result.probe_resistance_ohm)
        if not result.is_settled:
            self.unsettled.append(key)
        if not result.is_settled and criterion.on_timeout == "fail":
            raise SettleTimeoutError(f"{key}: {result.reason}")
        return result

    async def record(self, stream: str, data: Mapping[str, Any]) -> None:
        """Put something worth knowing into the stream of documents: a fit, a verdict."""
        await self._emitter.event(stream, data)

    def forgo(self, key: str) -> None:
        """Say that a planned step will not be taken; run_stop counts its points as forgone.

        Raises:
            BadInputError: no step of the plan that still lies ahead has this key.
        """
        if key not in self._expected or key in (*self._keys, *self.forgone):
            raise BadInputError(f"step {key!r}: not one of the plan that still lies ahead")
        self.forgone.append(key)
        self._tracker.end(key)

    def conclude(self, reason: str) -> None:
        """Say that the plan ends here because its aim is reached; what lay ahead is not missed."""
        self.conclusion = reason
        taken = (*self._keys, *self.forgone)
        self._expected = {key: due for key, due in self._expected.items() if key in taken}

    def _frames_of(self, parameters: Technique) -> Callable[[Any], AsyncGenerator[Frame, None]]:
        """Return what measures a technique on the channel's potentiostat."""
        potentiostat, capability = self._channel.potentiostat, CAPABILITY_OF[parameters.NAME]
        if not isinstance(potentiostat, capability):
            raise BadInputError(f"{self._channel.name}: its potentiostat is no {capability}")
        return getattr(potentiostat, parameters.NAME)

    async def _collect(
        self,
        step: int,
        parameters: Technique,
        frames: Callable[[Any], AsyncGenerator[Frame, None]],
        until: Until | None,
    ) -> tuple[dict[str, list[float]], str]:
        """Return the columns of all points, and why the script has ended it; "" if it has not."""
        columns: dict[str, list[float]] = {name: [] for name in parameters.UNITS}
        # Closed explicitly: a generator left to the collector would leave its cell on.
        async with aclosing(frames(parameters)) as arriving:
            async for frame in arriving:
                await self._keep(parameters, step, frame)
                for name, values in columns.items():
                    values += frame.columns[name]
                if until is not None and (said := until(columns)):
                    return columns, said
        return columns, ""

    def _outcome(self, key: str, parameters: Technique, measured: Measurement) -> dict[str, Any]:
        """Return what the step's end says; what a condition has ended is as long as it is."""
        n_points = measured.n_points
        if measured.ended_by:
            self._expected[key] = (parameters.NAME, n_points)
        return {
            "temperature_k": measured.temperature_k,
            "n_points": n_points,
            "ended_by": measured.ended_by,
        }

    async def _keep(self, parameters: Technique, step: int, frame: Frame) -> None:
        """Record one frame with its time and step; LimitError if it lies beyond the limits."""
        n_points = frame.n_points
        stamps = {"time_s": [self._clock.elapsed_s()] * n_points, "step": [float(step)] * n_points}
        units = {"time_s": "s", "step": "1", **parameters.UNITS}
        await self._emitter.page(parameters.NAME, {**stamps, **frame.columns}, units)
        check_frame(self._channel.limits, frame)
        self._tracker.point({name: column[-1] for name, column in frame.columns.items()})

    @asynccontextmanager
    async def _step(
        self, key: str, kind: str, parameters: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Record a step's start and its end, durable before the next step begins."""
        if key in self._keys:
            raise BadInputError(f"step {key!r} twice in one run: a key names one step")
        if key in self.forgone:
            raise BadInputError(f"step {key!r}: the script has forgone it")
        await self._pause.while_no_room()
        self._keys.append(key)
        about: dict[str, Any] = {"key": key, "index": len(self._keys) - 1, "kind": kind}
        self._tracker.begin(key)
        await self._emitter.event(
            STEP_STREAM, {**about, "phase": "start", "parameters": dict(parameters)}
        )
        outcome: dict[str, Any] = {}
        yield outcome
        await self._emitter.event(STEP_STREAM, {**about, "phase": "end", "result": outcome})
        await self._emitter.flush()
        self._tracker.end(key)


def _ended_by(parameters: Technique, columns: Mapping[str, Sequence[float]]) -> str:
    """Return which condition ended a technique before its last point; "" if none did."""
    n_points = len(next(iter(columns.values())))
    if not 0 < n_points < parameters.expected_points:
        return ""
    return parameters.ended_by({name: values[-1] for name, values in columns.items()})


def _totals(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the sum of each stream's points."""
    totals: Counter[str] = Counter()
    for stream, n_points in counts:
        totals[stream] += n_points
    return dict(totals)
