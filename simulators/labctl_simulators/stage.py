"""A simulated temperature stage: a heated block on a cold base, its sensor and the sample on it.

The block loses heat to a base that is always colder, so it heats as fast as its heater allows and
cools only by itself. The sensor follows the block after a short lag and shows it with an offset;
the sample follows after minutes, and it is the sample's temperature that a cell is measured at.

The state moves in ticks on a fixed grid from t = 0, each tick solved for constant heater power, and
between two ticks it is interpolated. Whatever is asked, and however often, the ticks are the same:
one long step equals many short ones to the last bit. With the heater off for good the ticks follow
a closed form (`Cooling`), so that days of rest cost next to nothing.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from labctl_simulators.table import above, at_least

TICK_S = 1.0
HISTORY_TICKS = 10
HISTORY_TICK_S = HISTORY_TICKS * TICK_S
# How often the temperature controllers that read these sensors convert: ten times a second.
_CONVERSIONS_PER_S = 10.0
ZERO_CELSIUS_K = 273.15
_ALIKE = 1e-8  # time constants closer than this, per tick, are moved apart by it


class HeaterController(Protocol):
    """Whatever decides on the heater's power, once a tick."""

    def heater_share(self, sensor_temperature_k: float, now_s: float) -> float:
        """Return the share of the heater's full power, 0 to 1, until the next tick."""
        ...


@runtime_checkable
class RestingController(HeaterController, Protocol):
    """A controller that can say that it gives no power until it is told something."""

    @property
    def is_at_rest(self) -> bool:
        """Whether every `heater_share` to come is 0 unless a command changes that."""
        ...


@dataclass(frozen=True)
class StageProperties:
    """What a stage is made of; the fields are the keys of a [stages.NAME] table."""

    base_temperature_c: float = field(metadata=at_least(-ZERO_CELSIUS_K))
    initial_temperature_c: float = field(metadata=at_least(-ZERO_CELSIUS_K))
    heat_capacity_j_per_k: float = field(metadata=above(0.0))
    loss_w_per_k: float = field(metadata=above(0.0))
    heater_max_w: float = field(metadata=above(0.0))
    sensor_lag_s: float = field(metadata=above(0.0))
    sensor_offset_k: float = field(metadata={})
    sensor_noise_k: float = field(metadata=at_least(0.0))
    sample_lag_s: float = field(metadata=above(0.0))


@dataclass(frozen=True)
class StageState:
    """The three temperatures of a stage at one instant, in K."""

    block_k: float
    sensor_k: float
    sample_k: float


class Stage:
    """A stage that knows its temperatures at any instant; asking for one moves it there.

    Args:
        properties: what it is made of.
        noise_seed: what the noise of its sensor is drawn from, a number >= 0.
    """

    def __init__(self, properties: StageProperties, *, noise_seed: int) -> None:
        self.properties = properties
        self._noise_seed = noise_seed
        self._controller: HeaterController | None = None
        self._resting: RestingController | None = None
        start_k = properties.initial_temperature_c + ZERO_CELSIUS_K
        self._heater_w = 0.0
        self._ticks = 0  # how many ticks have been decided: the last one at (_ticks - 1) * TICK_S
        self._at_tick = StageState(start_k, start_k, start_k)
        self._at_next_tick = self._at_tick
        self._cooling: Cooling | None = None
        self._sample_history_k = array("d")
        self._factors = _tick_factors(properties)

    def attach(self, controller: HeaterController) -> None:
        """Let `controller` decide on the heater from the next tick on."""
        self._controller = controller
        self._resting = controller if isinstance(controller, RestingController) else None

    def heater_power_w(self, now_s: float) -> float:
        """Return the power of the heater at `now_s`, in W."""
        self.advance(now_s)
        return self._heater_w

    def sample_temperature_k(self, now_s: float) -> float:
        """Return the temperature of the sample at `now_s`, in K."""
        return self.state(now_s).sample_k

    def sample_history_k(self, index: int) -> float:
        """Return the temperature the sample had, or has, at `index` times `HISTORY_TICK_S`, in K.

        What follows the sample's temperature from one instant of this grid to the next finds the
        same values whenever it looks.
        """
        if index >= len(self._sample_history_k):
            self.advance(index * HISTORY_TICK_S)
        return self._sample_history_k[index]

    def sensor_reading_k(self, now_s: float) -> float:
        """Return what the sensor shows at `now_s`, in K: lagging, offset and noisy.

        The noise belongs to the instant and not to the question: two readings within one conversion
        are the same, and a reading does not change the ones after it.
        """
        shown_k = self.state(now_s).sensor_k + self.properties.sensor_offset_k
        conversion = int(now_s * _CONVERSIONS_PER_S)
        noise = np.random.default_rng([self._noise_seed, conversion]).standard_normal()
        return shown_k + self.properties.sensor_noise_k * float(noise)

    def state(self, now_s: float) -> StageState:
        """Return the true temperatures at `now_s`, interpolated within the tick."""
        self.advance(now_s)
        share = max(0.0, now_s / TICK_S - (self._ticks - 1))
        before, after = self._at_tick, self._at_next_tick
        if self._cooling is not None:
            before, after = self._cooling.state(self._ticks - 1), self._cooling.state(self._ticks)
        return StageState(
            block_k=before.block_k + share * (after.block_k - before.block_k),
            sensor_k=before.sensor_k + share * (after.sensor_k - before.sensor_k),
            sample_k=before.sample_k + share * (after.sample_k - before.sample_k),
        )

    def advance(self, now_s: float) -> None:
        """Let every tick up to `now_s` happen; what a controller is told later acts after it."""
        due = int(now_s / TICK_S) + 1
        if due > self._ticks:
            if self._cooling is not None and self._gives_no_heat():
                self._cool(self._cooling, self._ticks, due)
            else:
                self._run(self._ticks, due)
            self._ticks = due

    def _gives_no_heat(self) -> bool:
        if self._resting is not None:
            return self._resting.is_at_rest
        return self._controller is None

    def _run(self, first: int, stop: int) -> None:
        """Run the ticks `first` to `stop - 1`; plain floats, since a day has 86,400 of them."""
        made_of, controller = self.properties, self._controller
        base_k = made_of.base_temperature_c + ZERO_CELSIUS_K
        full_w, loss_w_per_k = made_of.heater_max_w, made_of.loss_w_per_k
        offset_k = made_of.sensor_offset_k
        block_kept, sensor_gain, sample_gain = self._factors
        now, then, power_w = self._at_tick, self._at_next_tick, self._heater_w
        if self._cooling is not None:
            then, self._cooling = self._cooling.state(first), None
        block_k, sensor_k, sample_k = then.block_k, then.sensor_k, then.sample_k
        for tick in range(first, stop):
            if controller is None or self._gives_no_heat():
                state = StageState(block_k, sensor_k, sample_k)
                self._cool(self._begin_to_cool(tick, state), tick, stop)
                return
            if tick % HISTORY_TICKS == 0:
                self._sample_history_k.append(sample_k)
            before = (block_k, sensor_k, sample_k)
            power_w = full_w * controller.heater_share(sensor_k + offset_k, tick * TICK_S)
            end_k = base_k + power_w / loss_w_per_k
            next_block_k = end_k + (block_k - end_k) * block_kept
            mean_k = 0.5 * (block_k + next_block_k)
            block_k = next_block_k
            sensor_k += (mean_k - sensor_k) * sensor_gain
            sample_k += (mean_k - sample_k) * sample_gain
            if tick == stop - 1:
                now = StageState(*before)
        self._at_tick, self._at_next_tick = now, StageState(block_k, sensor_k, sample_k)
        self._heater_w = power_w

    def _begin_to_cool(self, tick: int, state: StageState) -> Cooling:
        if self._controller is not None:  # it may have to forget what it was doing
            shown_k = state.sensor_k + self.properties.sensor_offset_k
            self._controller.heater_share(shown_k, tick * TICK_S)
        self._heater_w = 0.0
        self._cooling = Cooling(self.properties, tick, state)
        return self._cooling

    def _cool(self, cooling: Cooling, first: int, stop: int) -> None:
        """Run the ticks `first` to `stop - 1` without heat, all counted from where it began."""
        for tick in range(-(-first // HISTORY_TICKS) * HISTORY_TICKS, stop, HISTORY_TICKS):
            self._sample_history_k.append(cooling.sample_k(tick))


class Cooling:
    """A stage without heat from a tick on: what the ticks would give, in closed form."""

    def __init__(self, properties: StageProperties, first: int, state: StageState) -> None:
        self._base_k = properties.base_temperature_c + ZERO_CELSIUS_K
        self._first = first
        self._kept, sensor_gain, sample_gain = _tick_factors(properties)
        self._block_k = state.block_k - self._base_k
        self._sensor = self._follower(state.sensor_k, sensor_gain)
        self._sample = self._follower(state.sample_k, sample_gain)

    def state(self, tick: int) -> StageState:
        """Return the temperatures at a tick."""
        block_k = self._base_k + self._block_k * self._kept ** (tick - self._first)
        return StageState(block_k, self._at(self._sensor, tick), self.sample_k(tick))

    def sample_k(self, tick: int) -> float:
        """Return the temperature of the sample at a tick, in K."""
        return self._at(self._sample, tick)

    def _follower(self, start_k: float, gain: float) -> tuple[float, float, float]:
        """Return what one that lags shares with the block, what it keeps of its own, and how."""
        own_kept = 1.0 - gain
        difference = self._kept - own_kept
        if abs(difference) < _ALIKE:
            difference = math.copysign(_ALIKE, difference)
        mean_k = 0.5 * (1.0 + self._kept) * self._block_k
        shared_k = gain * mean_k / difference
        return shared_k, start_k - self._base_k - shared_k, own_kept

    def _at(self, follower: tuple[float, float, float], tick: int) -> float:
        shared_k, own_k, own_kept = follower
        n = tick - self._first
        return self._base_k + (shared_k * self._kept**n + own_k * own_kept**n)


def _tick_factors(properties: StageProperties) -> tuple[float, float, float]:
    """Return what the block keeps in a tick, and what sensor and sample gain of the difference."""
    block_kept = math.exp(-TICK_S * properties.loss_w_per_k / properties.heat_capacity_j_per_k)
    sensor_gain = -math.expm1(-TICK_S / properties.sensor_lag_s)
    sample_gain = -math.expm1(-TICK_S / properties.sample_lag_s)
    return block_kept, sensor_gain, sample_gain
