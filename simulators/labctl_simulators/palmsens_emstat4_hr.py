"""Simulated PalmSens EmStat4 HR potentiostat: USB serial line, LF, MethodSCRIPT.

Source: PalmSens communication protocol for the EmStat4 and MethodSCRIPT manual; recorded replies
where there are any. Inference: a script is judged when its closing empty line has arrived; an empty
line is answered with an empty line during a script too (the vendor's own client waits for it); `Z`
during `on_finished:`, `Y` outside a measurement loop and `R` are answered and change nothing; which
registers exist; output is lost while no client has the line open.
"""

from collections.abc import Callable
from typing import Any

from labctl_simulators.device import LineInstrument
from labctl_simulators.methodscript_commands import capability_bits
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_parser import parse_script
from labctl_simulators.methodscript_potentiostat import Potentiostat
from labctl_simulators.methodscript_run import ScriptRun
from labctl_simulators.methodscript_syntax import Script
from labctl_simulators.world import World

FIRMWARE = "es4_hr1500#Mar 12 2026 14:28:01"
RELEASE_MARK = "R*"
METHODSCRIPT_VERSION = "01.09.00"
DEFAULT_SERIAL_NUMBER = "ES4HR20B0008"
DEFAULT_NOISE_FRACTION = 1e-3

MAX_LINE_CHARACTERS = 256  # the line feed counts
DEAF_AFTER_ERROR_S = 0.05

# bit of each command in the bitmap that `CC` reports
_COMMUNICATION_BITS = {
    "t": 1, "CC": 32, "CM": 33, "S": 34, "G": 35, "l": 36, "r": 37, "e": 38, "i": 48, "v": 49,
    "m": 60, "h": 96, "H": 97, "Z": 98, "Y": 99, "R": 101,
}  # fmt: skip
_RUNNING_ONLY = frozenset("hHZYR")
_SERIAL_NUMBER_REGISTER = 0x06
_AUTORUN_REGISTER = 0x08

_Handler = Callable[[str, float], None]


class PalmSensEmStat4Hr(LineInstrument):
    """An EmStat4 HR wired to the cell that `world` gives `name`, or to several by a multiplexer.

    Settings in the world: `serial_number`, `noise_fraction` (rms error of the current relative to
    itself, 0.001 if not given).

    Raises:
        ValueError: a setting that cannot be used; the message names instrument, key and value.
    """

    def __init__(self, world: World, name: str) -> None:
        super().__init__()
        settings = world.settings(name)
        self._serial_number = _serial_number(settings.get("serial_number"), where=name)
        self._potentiostat = Potentiostat(
            *world.cells(name),
            noise_fraction=_noise_fraction(settings.get("noise_fraction"), where=name),
            rng=world.rng(name),
            faults=self.faults,
        )
        self._handlers: dict[str, _Handler] = {
            "t": self._tell_firmware,
            "i": lambda _, now_s: self._answer("i" + self._serial_number, now_s),
            "v": lambda _, now_s: self._answer("v" + METHODSCRIPT_VERSION, now_s),
            "m": lambda _, now_s: self._refuse("m", ErrorCode.NOT_A_MULTI_DEVICE, now_s),
            "CC": lambda _, now_s: self._answer(f"C{_communication_bits():X}", now_s),
            "CM": lambda _, now_s: self._answer(f"C{capability_bits():X}", now_s),
            "e": self._begin_upload,
            "l": self._begin_upload,
            "r": self._run_loaded,
            "h": self._halt,
            "H": self._resume,
            "Z": self._abort,
            "Y": self._end_measurement,
            "R": self._answer,
        }
        self._forget_all()

    @property
    def cell_is_on(self) -> bool:
        """Whether the cell is connected."""
        return self._potentiostat.cell_is_on

    @property
    def is_running(self) -> bool:
        """Whether a script runs."""
        return self._run is not None and self._run.is_running

    def advance(self, now_s: float) -> None:
        """Let a running script do what it does by `now_s`."""
        if self._run is not None:
            self._run.advance(now_s)

    def connect(self, now_s: float) -> None:
        """A client opened the line; what was sent before is lost."""
        self.advance(now_s)
        super().connect(now_s)

    def disconnect(self, now_s: float) -> None:
        """A client closed the line; a script goes on to its end."""
        self.advance(now_s)
        super().disconnect(now_s)

    def receive(self, data: bytes, now_s: float) -> None:
        """Take in bytes; for 50 ms after a reply that holds `!` they are ignored."""
        self.advance(now_s)
        if now_s < self._deaf_until_s:
            return
        super().receive(data, now_s)
        if now_s < self._deaf_until_s:
            self._partial = b""

    def next_due_s(self) -> float | None:
        """The earliest instant at which `transmit` may give bytes.

        While a script runs this is its next step, which need not send anything: what a later step
        will send depends on what the world does until then.
        """
        instants = (super().next_due_s(), self._run.next_step_s() if self._run else None)
        return min((each for each in instants if each is not None), default=None)

    def transmit(self, now_s: float) -> bytes:
        """All bytes due by `now_s`, in order, each once."""
        self.advance(now_s)
        return super().transmit(now_s)

    def power_cycle(self, now_s: float) -> None:
        """Switch off and on: the script and its output are gone, the cell is off."""
        self.advance(now_s)
        super().power_cycle(now_s)
        self._potentiostat.reset(now_s)
        self._forget_all()

    def _forget_all(self) -> None:
        self._run: ScriptRun | None = None
        self._loaded: Script | None = None
        self._upload_command = ""
        self._upload: list[str] | None = None
        self._deaf_until_s = float("-inf")
        self._registers: dict[int, str] = {
            _SERIAL_NUMBER_REGISTER: self._serial_number,
            _AUTORUN_REGISTER: "00",
        }

    def _handle_line(self, line: str, now_s: float) -> None:
        if now_s < self._deaf_until_s:
            return
        if len(line) + 1 > MAX_LINE_CHARACTERS:
            self._refuse(self._upload_command or line[0], ErrorCode.LINE_TOO_LONG, now_s)
            self._end_upload()
        elif self._upload is not None:
            self._take_script_line(self._upload, line, now_s)
        else:
            self._obey(line, now_s)

    def _obey(self, line: str, now_s: float) -> None:
        if not line:
            self._answer("", now_s)
        elif line[0] in "GS":
            self._access_register(line, now_s)
        elif line not in self._handlers:
            self._refuse(line[0], ErrorCode.UNKNOWN_COMMAND, now_s)
        elif line != "t" and (line in _RUNNING_ONLY) != self.is_running:
            self._refuse(line[0], ErrorCode.WRONG_MODE, now_s)
        else:
            self._handlers[line](line, now_s)

    def _answer(self, line: str, now_s: float) -> None:
        self._reply(line.encode("ascii", errors="replace") + b"\n", due_s=now_s)
        if "!" in line:
            self._deaf_until_s = now_s + DEAF_AFTER_ERROR_S

    def _refuse(self, prefix: str, code: ErrorCode, now_s: float) -> None:
        self._answer(prefix + str(ScriptError(code)), now_s)

    def _tell_firmware(self, line: str, now_s: float) -> None:
        self._answer("t" + FIRMWARE, now_s)
        self._answer(RELEASE_MARK, now_s)

    def _begin_upload(self, line: str, now_s: float) -> None:
        self._upload_command = line
        self._upload = []

    def _end_upload(self) -> None:
        self._upload_command = ""
        self._upload = None

    def _take_script_line(self, upload: list[str], line: str, now_s: float) -> None:
        if line:
            upload.append(line)
            return
        command = self._upload_command
        self._end_upload()
        try:
            self._loaded = parse_script(upload)
        except ScriptError as error:
            self._loaded = None
            self._answer(f"{command}{error}", now_s)
            return
        self._answer(command, now_s)
        if command == "e":
            self._start(self._loaded, now_s)

    def _run_loaded(self, line: str, now_s: float) -> None:
        if self._loaded is None:
            self._refuse("r", ErrorCode.NO_SCRIPT_LOADED, now_s)
        else:
            self._answer("r", now_s)
            self._start(self._loaded, now_s)

    def _start(self, script: Script, now_s: float) -> None:
        self._run = ScriptRun(script, self._potentiostat, start_s=now_s, emit=self._answer)

    def _halt(self, line: str, now_s: float) -> None:
        self._answer(line, now_s)
        self._running().halt(now_s)

    def _resume(self, line: str, now_s: float) -> None:
        self._answer(line, now_s)
        self._running().resume(now_s)

    def _abort(self, line: str, now_s: float) -> None:
        self._answer(line, now_s)
        self._running().abort(now_s)

    def _end_measurement(self, line: str, now_s: float) -> None:
        self._answer(line, now_s)
        self._running().end_measurement(now_s)

    def _running(self) -> ScriptRun:
        if self._run is None:
            raise RuntimeError("a command for a running script was let through without one")
        return self._run

    def _access_register(self, line: str, now_s: float) -> None:
        try:
            self._answer(self._register_reply(line), now_s)
        except ScriptError as error:
            self._answer(f"{line[0]}{error}", now_s)

    def _register_reply(self, line: str) -> str:
        if self.is_running:
            raise ScriptError(ErrorCode.WRONG_MODE)
        register, value = _register_number(line[1:3]), line[3:]
        if register not in self._registers:
            raise ScriptError(ErrorCode.UNKNOWN_REGISTER)
        if line[0] == "G":
            return "G" + self._registers[register]
        if register == _SERIAL_NUMBER_REGISTER:
            raise ScriptError(ErrorCode.READ_ONLY_REGISTER)
        _check_hexadecimal(value)
        self._registers[register] = value
        return "S"


def _communication_bits() -> int:
    return sum(1 << bit for bit in _COMMUNICATION_BITS.values())


def _register_number(text: str) -> int:
    if len(text) < 2:
        raise ScriptError(ErrorCode.ARGUMENT_TOO_SHORT)
    _check_hexadecimal(text)
    return int(text, 16)


def _check_hexadecimal(text: str) -> None:
    if not text:
        raise ScriptError(ErrorCode.ARGUMENT_TOO_SHORT)
    if any(character not in "0123456789abcdefABCDEF" for character in text):
        raise ScriptError(ErrorCode.NOT_HEXADECIMAL)


def _serial_number(value: Any, *, where: str) -> str:
    if value is None:
        return DEFAULT_SERIAL_NUMBER
    if not isinstance(value, str) or not value.isascii() or not value.isalnum():
        raise ValueError(f"{where}.serial_number = {value!r}: expected letters and digits")
    return value


def _noise_fraction(value: Any, *, where: str) -> float:
    if value is None:
        return DEFAULT_NOISE_FRACTION
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{where}.noise_fraction = {value!r}: expected a number from 0 to below 1")
    return float(value)
