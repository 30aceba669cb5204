"""The commands of a Lake Shore 336 as pymeasure properties.

Source: Lake Shore 336 manual, remote interface chapter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from pymeasure.instruments import Channel, Instrument
from pymeasure.instruments.lakeshore.lakeshore3xx import LakeShore3xx
from pymeasure.instruments.lakeshore.lakeshore_base import (
    LakeShoreHeaterChannel,
    LakeShoreTemperatureChannel,
)

from labctl.errors import DeviceError, ReplyError

if TYPE_CHECKING:
    from pymeasure.adapters import Adapter

_POWER_ON = 128
_ESR_FAULTS = {4: "query error", 16: "not able to execute it", 32: "no such command"}


class Input336(LakeShoreTemperatureChannel):
    """A sensor input."""

    reading_status = Instrument.measurement(
        "RDGST? {ch}",
        """Get the reading's status bits: 1 invalid, 16 under and 32 over temperature, 64 sensor
        units zero, 128 sensor units over range (int).""",
        cast=int,
    )
    # The manual's name for it is sure; the form of the arguments (input, kelvin) is inference.
    temperature_limit = Instrument.control(
        "TLIMIT? {ch}",
        "TLIMIT {ch},%.3f;*ESR?",
        """Control the temperature in K above which all outputs switch off (float, 0 is off).""",
        check_set_errors=True,
    )


class Output336(LakeShoreHeaterChannel):
    """A heater output, 1 or 2.

    pymeasure's setters send a command and read nothing; here each asks for the event status in
    the same message, as the maker's own client does, so that a refused command does not go
    unnoticed. Its setpoint is written with six decimals where the controller keeps three.
    """

    range = Instrument.control(
        "RANGE? {ch}",
        "RANGE {ch},%d;*ESR?",
        """Control the heater range (str, off, low, medium or high).""",
        values={"off": 0, "low": 1, "medium": 2, "high": 3},
        map_values=True,
        check_set_errors=True,
    )
    setpoint = Instrument.control(
        "SETP? {ch}",
        "SETP {ch},%.3f;*ESR?",
        """Control the setpoint in K (float).""",
        check_set_errors=True,
    )
    ramp = Instrument.control(
        "RAMP? {ch}",
        "RAMP {ch},%d,%.3f;*ESR?",
        """Control whether the setpoint ramps, and its rate in K/min (0 or 1, float 0.1 to 100).""",
        check_set_errors=True,
    )
    mode = Instrument.control(
        "OUTMODE? {ch}",
        "OUTMODE {ch},%d,%d,%d;*ESR?",
        """Control the mode (1 is closed-loop PID), the number of the sensor input (1 is A) and
        whether the heater comes on at power-up (0 or 1) (list of int).""",
        cast=int,
        check_set_errors=True,
    )


def _channel(kind: type[Channel], identifier: str | int) -> Any:
    """Return pymeasure's creator of a channel; what stands in an instance is the channel."""
    return Instrument.ChannelCreator(cast("Any", kind), identifier)


class LakeShore336Wire(LakeShore3xx):
    """The commands of a Lake Shore 336, on pymeasure's class for this family.

    Corrected here: pymeasure's `check_errors` asks `SYST:ERR?`, which the controller does not
    know; and the outputs' setters (see `Output336`).
    """

    input_A: Input336 = _channel(Input336, "A")  # noqa: N815 - pymeasure's name
    input_B: Input336 = _channel(Input336, "B")  # noqa: N815
    input_C: Input336 = _channel(Input336, "C")  # noqa: N815
    input_D: Input336 = _channel(Input336, "D")  # noqa: N815
    output_1: Output336 = _channel(Output336, 1)
    output_2: Output336 = _channel(Output336, 2)

    def __init__(self, adapter: Adapter, name: str = "Lake Shore 336", **kwargs: Any) -> None:
        super().__init__(adapter, name, **kwargs)
        self.power_was_lost = False

    def write(self, command: str, **kwargs: Any) -> None:
        """Send a message; an answer to an earlier one that came too late is thrown away first."""
        self.adapter.flush_read_buffer()
        super().write(command, **kwargs)

    def check_errors(self) -> list[str]:
        """Ask for the event status and raise DeviceError if it holds a fault."""
        self.write("*ESR?")
        return self.check_set_errors()

    def check_set_errors(self) -> list[str]:
        """Read the event status that the last command asked for.

        Raises:
            DeviceError: the controller did not understand the command or could not execute it.
            ReplyError: the answer is no number.
        """
        bits = self._note_events(self.read())
        faults = [text for bit, text in _ESR_FAULTS.items() if bits & bit]
        if faults:
            raise DeviceError(self.name, ", ".join(faults), code=f"ESR {bits}")
        return []

    def ask_together(self, *queries: str) -> list[str]:
        """Return the answers to several queries sent as one message.

        Raises:
            ReplyError: not as many answers as queries.
        """
        reply = self.ask(";".join(queries))
        answers = reply.strip().split(";")
        if len(answers) != len(queries):
            raise ReplyError(self.name, f"expected {len(queries)} answers", reply=reply)
        return answers

    def ask_numbers(self, *queries: str) -> list[float]:
        """Return the numbers that several queries, sent as one message, are answered with.

        Raises:
            ReplyError: not as many answers as queries, or one that is no number.
        """
        return [self.number(answer) for answer in self.ask_together(*queries)]

    def number(self, answer: object) -> float:
        """Return a part of an answer as a number; ReplyError if it is none."""
        try:
            number = float(answer)  # type: ignore[arg-type]
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ReplyError(self.name, "expected a number", reply=str(answer))
        return number

    def ask_with_events(self, *queries: str) -> list[str]:
        """Return as `ask_together`, and note from the event status whether power was lost.

        Faults in it are not told: a query that was not understood has no answer.
        """
        *answers, events = self.ask_together(*queries, "*ESR?")
        self._note_events(events)
        return answers

    def forget_events(self) -> None:
        """Clear the event status, and forget that power was ever lost."""
        self.ask_together("*ESR?")
        self.power_was_lost = False

    def _note_events(self, reply: str) -> int:
        """Return the bits of an event status; the one for power-on stays noted."""
        if not reply.strip().isdigit():
            raise ReplyError(self.name, "expected the event status", reply=reply)
        bits = int(reply)
        self.power_was_lost = self.power_was_lost or bool(bits & _POWER_ON)
        return bits
