"""Stop conditions as lines of a script, so that they act on the instrument, without a host.

They look at the very variables that were sent just before: what a reader of the last point finds
fulfilled is what the instrument found, but for the rounding of the text that was sent (some 5e-6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.instruments.dc_techniques import Stop
    from labctl.instruments.techniques import Ocp
    from labctl_drivers.methodscript_script import Comparison, Script, Var

_MISC, _SECONDS = "ja", "eb"


class StopLines:
    """The conditions of a technique against time; made before its loop, written inside."""

    def __init__(self, script: Script, stop: Stop) -> None:
        self._script = script
        self._stop = stop
        self._charge = None if stop.charge_above_c is None else ChargeSum(script)

    def write(self, elapsed: Var, potential: Var, current: Var) -> None:
        """Add what ends the loop once a condition holds."""
        stop = self._stop
        if stop.potential_above_v is not None:
            self._end_if(potential, ">=", stop.potential_above_v)
        if stop.potential_below_v is not None:
            self._end_if(potential, "<=", stop.potential_below_v)
        if stop.current_above_a is not None:
            self._end_if_beyond(current, stop.current_above_a)
        if stop.current_below_a is not None:
            _end_if_within(self._script, current, stop.current_below_a)
        if stop.charge_above_c is not None and self._charge is not None:
            self._charge.write(elapsed, current)
            self._end_if_beyond(self._charge.total, stop.charge_above_c)

    def _end_if_beyond(self, variable: Var, size: float) -> None:
        self._end_if(variable, ">=", size)
        self._end_if(variable, "<=", -size)

    def _end_if(self, variable: Var, comparison: Comparison, limit: float) -> None:
        with self._script.if_(variable, comparison, limit):
            self._script.breakloop()


class ChargeSum:
    """The integral of a measured current over the measured time, by trapezoids, on the instrument.

    Its variables are of single precision: a plain sum would be off by tenths of a percent after
    some ten thousand points, so what each addition loses is kept and added to the next (Kahan,
    Comm. ACM 1965, 8, 40).
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.total, self._lost, self._sum = (script.var(name) for name in ("q", "ql", "qs"))
        self._last_s, self._last_a = script.var("lt"), script.var("lc")
        self._step_s, self._part = script.var("dt"), script.var("dq")
        for variable, kind in ((self.total, _MISC), (self._lost, _MISC), (self._last_s, _SECONDS)):
            script.store_var(variable, 0.0, kind)

    def write(self, elapsed: Var, current: Var) -> None:
        """Add what has passed since the point before to the total."""
        script, part = self._script, self._part
        with script.if_(self._last_s, "<=", 0.0):  # the first point has none before it
            script.copy_var(current, self._last_a)
        script.copy_var(elapsed, self._step_s)
        script.sub_var(self._step_s, self._last_s)
        script.copy_var(current, part)
        script.add_var(part, self._last_a)
        script.mul_var(part, self._step_s)
        script.mul_var(part, 0.5)
        self._add_part()
        script.copy_var(elapsed, self._last_s)
        script.copy_var(current, self._last_a)

    def _add_part(self) -> None:
        script, part, lost, new = self._script, self._part, self._lost, self._sum
        script.sub_var(part, lost)
        script.copy_var(self.total, new)
        script.add_var(new, part)
        script.copy_var(new, lost)
        script.sub_var(lost, self.total)
        script.sub_var(lost, part)
        script.copy_var(new, self.total)


class RestStop:
    """Ends a loop once a potential has changed by less than so much, window by window."""

    def __init__(self, script: Script, parameters: Ocp) -> None:
        self._script = script
        self._change_v = parameters.stop_change_v or 0.0
        # Points that fall on a window's end do so but for the instrument's own time.
        self._window_s = parameters.stop_window_s - 0.5 * parameters.interval_s
        self._begin_s, self._begin_v = script.var("wt"), script.var("wp")
        self._length_s, self._moved_v = script.var("dt"), script.var("dp")
        script.store_var(self._begin_s, 0.0, _SECONDS)

    def write(self, elapsed: Var, potential: Var) -> None:
        """Add what looks at the window that ends now, if one does, and begins the next."""
        script = self._script
        with script.if_(self._begin_s, "<=", 0.0):  # the first window begins at the first point
            self._begin(elapsed, potential)
        script.copy_var(elapsed, self._length_s)
        script.sub_var(self._length_s, self._begin_s)
        with script.if_(self._length_s, ">=", self._window_s):
            script.copy_var(potential, self._moved_v)
            script.sub_var(self._moved_v, self._begin_v)
            _end_if_within(script, self._moved_v, self._change_v)
            self._begin(elapsed, potential)

    def _begin(self, elapsed: Var, potential: Var) -> None:
        self._script.copy_var(elapsed, self._begin_s)
        self._script.copy_var(potential, self._begin_v)


def _end_if_within(script: Script, variable: Var, size: float) -> None:
    with script.if_(variable, "<=", size), script.if_(variable, ">=", -size):
        script.breakloop()
