"""One simulated temperature_eis campaign, and what its settling has cost and left undone.

The simulated stage knows the true temperatures of block and sample. So what a campaign left
unsettled is told apart from noise: how far ln R of the sample, while its spectrum was measured, lay
from where it would have come to rest at the block's temperature.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.clock import RunClock, VirtualTimeLoop, run_on
from labctl.documents import Document, Kind, Reason, Room
from labctl.instruments.in_process import InProcessTransport
from labctl.quantities import BOLTZMANN_EV_PER_K
from labctl.request import Prepared, RunRequest, prepare
from labctl.run.executor import Executor, RunOrder
from labctl.wiring import wired_rig
from labctl_simulators.elements import growth
from labctl_simulators.lakeshore_336 import LakeShore336
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl_simulators.stage import Stage

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
RAMP_K_PER_MIN = 2.0


@dataclass(frozen=True)
class Material:
    """A pellet, 1 mm thick and 10 mm wide, and the sweep that a person would choose for it."""

    name: str
    sigma_s_per_cm: float
    ea_ev: float
    amplitude: str
    lowest: str


@dataclass(frozen=True)
class Campaign:
    """What one campaign took and gave.

    Attributes:
        duration_s: from the first ramp to the last point.
        eis_s: of this the spectra.
        temperatures_k: the block's mean temperature during each spectrum, shape (n_temperatures,).
        ea_error_ev: fitted minus true activation energy, noise and all; NaN if there is none.
        u_ea_ev: the standard uncertainty that the fit states.
        left_ln_r: by how much ln R lay off its value at rest, for each spectrum.
        settle_ea_error_ev: what `left_ln_r` alone, without any noise, does to the slope.
        ended_by: what ended each settle.
    """

    duration_s: float
    eis_s: float
    temperatures_k: tuple[float, ...]
    ea_error_ev: float
    u_ea_ev: float
    left_ln_r: tuple[float, ...]
    settle_ea_error_ev: float
    ended_by: tuple[str, ...]

    @property
    def worst_ln_r(self) -> float:
        """Return the largest deviation of any spectrum, as a share of R."""
        return max(abs(left) for left in self.left_ln_r)


class _Witness:
    """A sink that keeps events, and notes the true temperatures at every point of a spectrum."""

    room = Room.PLENTY

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.events: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.times_s: dict[float, list[float]] = defaultdict(list)
        self.block_k: dict[float, list[float]] = defaultdict(list)
        self.sample_k: dict[float, list[float]] = defaultdict(list)

    async def put(self, document: Document) -> None:
        """Note what one document tells."""
        if document.kind is Kind.EVENT:
            self.events[document.stream].append(document.body["data"])
        if document.kind is Kind.EVENT_PAGE and document.stream == "eis":
            now_s = asyncio.get_running_loop().time()
            step, state = document.body["columns"]["step"][0], self._stage.state(now_s)
            self.times_s[step].append(now_s)
            self.block_k[step].append(state.block_k)
            self.sample_k[step].append(state.sample_k)

    async def flush(self) -> None:
        """Have nothing to do."""

    async def room_again(self) -> None:
        """Have nothing to wait for."""


def run_campaign(
    material: Material,
    *,
    lag_s: float,
    celsius: tuple[float, ...],
    settling: Mapping[str, Any],
    seed: int,
) -> Campaign:
    """Return what became of temperature_eis on a pellet that lags its stage.

    Args:
        material: the pellet.
        lag_s: time constant with which the pellet follows its stage.
        celsius: the temperatures.
        settling: parameters of settling, as a person writes them.
        seed: of all noise.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_bench(folder, material, lag_s, seed)
        request = RunRequest(
            protocol="temperature_eis",
            rig=folder / "rig.toml",
            sample=folder / "sample.toml",
            parameters={
                "temperatures": [f"{each:g} degC" for each in celsius],
                "ramp_rate": f"{RAMP_K_PER_MIN:g} K/min",
                "amplitude_v_rms": material.amplitude,
                "frequency_end": material.lowest,
                **settling,
            },
            data=folder,
            is_simulated=True,
        )
        world = World.from_toml(folder / "world.toml")
        witness = _Witness(world.stage("stage"))
        duration_s = run_on(VirtualTimeLoop(), _run(prepare(request), world, witness))
    return _campaign(material, witness, duration_s)


def _write_bench(folder: Path, material: Material, lag_s: float, seed: int) -> None:
    """Write the demonstration's bench, which stands at 25 degC, with this pellet on it."""
    demo = files("labctl_simulators.demo") / "licl"
    values = {
        "seed": seed,
        "initial_temperature_c": 25.0,
        "sample_lag_s": lag_s,
        "conductivity_s_per_cm": material.sigma_s_per_cm,
        "activation_energy_ev": material.ea_ev,
        "electronic_conductivity_s_per_cm": 1e-6 * material.sigma_s_per_cm,
    }
    for file in ("rig.toml", "sample.toml", "world.toml"):
        lines = (demo / file).read_text(encoding="utf-8").splitlines()
        keys = [line.partition(" = ")[0] for line in lines]
        changed = [
            f"{key} = {values[key]!r}" if file == "world.toml" and key in values else line
            for key, line in zip(keys, lines, strict=True)
        ]
        (folder / file).write_text("\n".join(changed), encoding="utf-8")


async def _run(prepared: Prepared, world: World, witness: _Witness) -> float:
    """Carry the run out and return how long it took, in s."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)  # noqa: S101 - what run_campaign runs it on
    devices = {
        "potentiostat": PalmSensEmStat4Hr(world, "potentiostat"),
        "stage": LakeShore336(world, "stage"),
    }
    rig = wired_rig(
        [prepared],
        lambda name, _: (
            lambda link, lot: InProcessTransport(name, devices[name], link, loop=loop, lot=lot)
        ),
    )
    identities = await rig.open_safe(timeout_s=30.0)
    try:
        order = RunOrder(
            run_id="settling",
            protocol=prepared.protocol,
            parameters=prepared.parameters,
            sample=prepared.sample,
            provenance={},
            telemetry_interval_s=prepared.config.telemetry_interval,
            may_resume=_at_once,
        )
        clock = RunClock(loop, epoch=EPOCH)
        ending = await Executor(order, rig, witness, clock, lambda _: None).execute(
            {name: asdict(identity) for name, identity in identities.items()}
        )
        if ending.reason is not Reason.COMPLETED:
            raise RuntimeError(ending.message)
        return clock.elapsed_s()
    finally:
        await rig.close()


async def _at_once() -> None:
    return None


def _campaign(material: Material, witness: _Witness, duration_s: float) -> Campaign:
    block_k = np.array([np.mean(each) for each in witness.block_k.values()])
    sample_k = np.array([np.mean(each) for each in witness.sample_k.values()])
    ends = [step["result"] for step in witness.events["step"] if step["phase"] == "end"]
    line = witness.events["arrhenius"][0].get("primary")
    return Campaign(
        duration_s=duration_s,
        eis_s=sum(times[-1] - times[0] for times in witness.times_s.values()),
        temperatures_k=tuple(block_k),
        ea_error_ev=line["ea_ev"] - material.ea_ev if line else float("nan"),
        u_ea_ev=line["u_ea_ev"] if line else float("nan"),
        left_ln_r=left_ln_r(material.ea_ev, block_k, sample_k),
        settle_ea_error_ev=settle_ea_error_ev(material.ea_ev, block_k, sample_k),
        ended_by=tuple(each["ended_by"] for each in ends if "is_settled" in each),
    )


def left_ln_r(ea_ev: float, block_k: np.ndarray, sample_k: np.ndarray) -> tuple[float, ...]:
    """Return ln R of a sample against that of one at the block's temperature, shape (n,)."""
    pairs = zip(block_k, sample_k, strict=True)
    return tuple(float(np.log(growth(at, ea_ev) / growth(rest, ea_ev))) for rest, at in pairs)


def settle_ea_error_ev(ea_ev: float, block_k: np.ndarray, sample_k: np.ndarray) -> float:
    """Return what taking the block's temperature for the sample's does to the Arrhenius slope."""
    ln_sigma_t = -ea_ev / (BOLTZMANN_EV_PER_K * sample_k)
    slope = np.polyfit(1.0 / (BOLTZMANN_EV_PER_K * block_k), ln_sigma_t, 1)[0]
    return float(-slope - ea_ev)
