"""What a temperature controller computes: a setpoint that ramps and a PID loop that follows it.

Scales and defaults are Lake Shore's: I as 1000 / seconds (Model 335 manual, 4.5.1.7), D in percent
of a quarter of the integral time (Model 332 manual, 4.8.3). That the 336 shares them, and that P is
in percent of the output per kelvin, is inference.
"""

from __future__ import annotations

_FULL_OUTPUT_PERCENT = 100.0


class Setpoint:
    """A setpoint as a function of time; with a ramp it moves to its target at a fixed rate."""

    def __init__(self) -> None:
        self.is_ramp_on = False
        self.ramp_k_per_min = 0.0
        self._target_k = 0.0
        self._start_k = 0.0
        self._start_s = 0.0

    def at(self, now_s: float) -> float:
        """Return the setpoint at `now_s`, in K."""
        if self._start_k == self._target_k:
            return self._target_k
        moved_k = self.ramp_k_per_min / 60.0 * (now_s - self._start_s)
        if self._target_k > self._start_k:
            return min(self._start_k + moved_k, self._target_k)
        return max(self._start_k - moved_k, self._target_k)

    def is_ramping(self, now_s: float) -> bool:
        """Return whether the setpoint is on its way at `now_s`."""
        return self.at(now_s) != self._target_k

    def set_target(self, target_k: float, now_s: float) -> None:
        """Go to `target_k`: from the present setpoint if the ramp is on, else at once.

        A rate of 0 stands for infinitely fast (Lake Shore 335 manual, RAMP).
        """
        is_moving = self.is_ramp_on and self.ramp_k_per_min > 0.0
        self._start_k = self.at(now_s) if is_moving else target_k
        self._start_s = now_s
        self._target_k = target_k

    def set_ramp(self, *, is_on: bool, rate_k_per_min: float, now_s: float) -> None:
        """Switch the ramp; one under way goes on at the new rate, or stays where it is.

        What the real instrument does with a ramp under way is not in its manual: inference.
        """
        present_k = self.at(now_s)
        target_k = self._target_k if is_on else present_k
        self.is_ramp_on, self.ramp_k_per_min = is_on, rate_k_per_min
        self._start_k, self._start_s = present_k, now_s
        self.set_target(target_k, now_s)


class PidLoop:
    """P (e + integral of e dt / Ti + Td de/dt), held within 0 to 100 percent.

    The integral stands still while the output is at an end and the error would drive it further;
    the real instrument guards against wind-up too, in a way its manual does not tell (inference).
    """

    def __init__(self) -> None:
        self.p = 50.0  # as delivered
        self.i = 20.0
        self.d = 0.0
        self.output_percent = 0.0
        self._integral_k = 0.0
        self._last_error_k: float | None = None

    def reset(self) -> None:
        """Give no output and forget the past, as with the heater off."""
        self.output_percent = 0.0
        self._integral_k = 0.0
        self._last_error_k = None

    def step(self, error_k: float, tick_s: float) -> float:
        """Return the output in percent for an error that holds for one tick."""
        gained_k = error_k * tick_s * self.i / 1000.0
        rest_k = error_k + self._integral_k + self._derivative_k(error_k, tick_s)
        wanted = self.p * (rest_k + gained_k)
        if (wanted < _FULL_OUTPUT_PERCENT or gained_k < 0.0) and (wanted > 0.0 or gained_k > 0.0):
            self._integral_k += gained_k
        else:
            wanted = self.p * rest_k
        self._last_error_k = error_k
        self.output_percent = min(max(wanted, 0.0), _FULL_OUTPUT_PERCENT)
        return self.output_percent

    def _derivative_k(self, error_k: float, tick_s: float) -> float:
        if self.d == 0.0 or self.i == 0.0 or self._last_error_k is None:
            return 0.0
        derivative_time_s = self.d / 100.0 * 0.25 * 1000.0 / self.i
        return derivative_time_s * (error_k - self._last_error_k) / tick_s
