"""A MethodSCRIPT that runs: an interpreter and its clock, moved only by whoever calls `advance`.

An empty line ends the output. After a run-time error two vendor documents disagree whether it
comes; here it does.
"""

from collections.abc import Callable

from labctl_simulators.methodscript_actions import AbortRequested
from labctl_simulators.methodscript_errors import ScriptError
from labctl_simulators.methodscript_interpreter import EndMeasurementRequested, Interpreter
from labctl_simulators.methodscript_potentiostat import Potentiostat
from labctl_simulators.methodscript_syntax import Script


class ScriptRun:
    """One running script; every step happens at its own instant, however late it is asked for.

    Args:
        script: what the parser made of the text.
        potentiostat: what the script acts on.
        start_s: when it begins.
        emit: takes each line of output, without the line feed, and the instant it is sent.

    Attributes:
        is_running: False once the script has ended, by itself or by a run-time error.
    """

    def __init__(
        self,
        script: Script,
        potentiostat: Potentiostat,
        *,
        start_s: float,
        emit: Callable[[str, float], None],
    ) -> None:
        self.is_running = True
        self._emit = emit
        self._clock_s = start_s
        self._halted_s: float | None = None
        self._interpreter = Interpreter(
            script,
            potentiostat,
            emit=lambda line: emit(line, self._clock_s),
            now_s=lambda: self._clock_s,
        )
        self._steps = self._interpreter.run()
        self.advance(start_s)

    def next_step_s(self) -> float | None:
        """The instant of the next step; None while halted or when the script has ended."""
        is_waiting = self._halted_s is not None or not self.is_running
        return None if is_waiting else self._clock_s

    def advance(self, now_s: float) -> None:
        """Let every step due by `now_s` happen."""
        while self.is_running and self._halted_s is None and self._clock_s <= now_s:
            self._take(lambda: next(self._steps))

    def halt(self, now_s: float) -> None:
        """Stop the script's clock; a second halt changes nothing."""
        if self._halted_s is None:
            self._halted_s = now_s

    def resume(self, now_s: float) -> None:
        """Let the script's clock go on; what was under way takes that much longer."""
        if self._halted_s is not None:
            self._clock_s += now_s - self._halted_s
            self._halted_s = None

    def abort(self, now_s: float) -> None:
        """End the script through `on_finished:`; once that has begun, nothing more happens."""
        self.resume(now_s)
        if not self._interpreter.is_finishing:
            self._throw(AbortRequested(), now_s)

    def end_measurement(self, now_s: float) -> None:
        """End the open measurement loop, if there is one."""
        if self._interpreter.is_measuring:
            self.resume(now_s)
            self._throw(EndMeasurementRequested(), now_s)

    def _throw(self, request: Exception, now_s: float) -> None:
        self._clock_s = now_s
        self._take(lambda: self._steps.throw(request))

    def _take(self, step: Callable[[], float]) -> None:
        try:
            self._clock_s += step()
        except StopIteration:
            self._end()
        except ScriptError as error:
            self._emit(str(error), self._clock_s)
            self._end()

    def _end(self) -> None:
        self.is_running = False
        self._emit("", self._clock_s)
