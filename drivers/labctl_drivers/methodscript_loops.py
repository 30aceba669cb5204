"""Measurement loops of MethodSCRIPT: one function each, arguments in the device's order.

Each opens a block of a script; what is written inside is done for every point. Source: PalmSens
MethodSCRIPT manual, "Measurement loop commands", and the vendor's loop examples: several public
generators get the order of the EIS loops wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl_drivers.methodscript_script import Script, Value, Var, integer, literal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class AcDc:
    """Variables for what an EIS loop measured beside the impedance, in the order of `eis_acdc`."""

    potential_ac: Var
    potential_dc: Var
    current_ac: Var
    current_dc: Var

    def option(self) -> str:
        """Return the option as a loop takes it."""
        names = (self.potential_ac, self.potential_dc, self.current_ac, self.current_dc)
        return f"eis_acdc({' '.join(variable.name for variable in names)})"


@dataclass(frozen=True)
class Added:
    """A reading that a loop against time adds to each of its points, into a variable.

    A third party's transcription of the manual; the vendor's validator accepts it, and no vendor's
    example and no captured packet shows it.
    """

    channel: int
    variable_type: str
    target: Var

    def option(self) -> str:
        """Return the option as a loop takes it."""
        return f"add_meas({self.channel} {self.variable_type} {self.target.name})"


def _text(value: Value) -> Var | str:
    return value if isinstance(value, Var) else literal(value)


def _options(option: AcDc | Added | None) -> tuple[str, ...]:
    return () if option is None else (option.option(),)


def lsv(
    script: Script,
    potential: Var,
    current: Var,
    *,
    begin_v: Value,
    end_v: Value,
    step_v: Value,
    rate_v_per_s: Value,
    added: Added | None = None,
) -> AbstractContextManager[None]:
    """Open a linear sweep of potential."""
    numbers = (begin_v, end_v, step_v, rate_v_per_s)
    return script.measurement(
        "meas_loop_lsv", potential, current, *map(_text, numbers), *_options(added)
    )


def cv(
    script: Script,
    potential: Var,
    current: Var,
    *,
    begin_v: Value,
    vertex_1_v: Value,
    vertex_2_v: Value,
    step_v: Value,
    rate_v_per_s: Value,
    n_scans: int = 1,
    added: Added | None = None,
) -> AbstractContextManager[None]:
    """Open a cyclic sweep of potential; more than one scan is marked in the output."""
    numbers = (begin_v, vertex_1_v, vertex_2_v, step_v, rate_v_per_s)
    scans = (f"nscans({n_scans})",) if n_scans > 1 else ()
    arguments = (*map(_text, numbers), *scans, *_options(added))
    return script.measurement("meas_loop_cv", potential, current, *arguments)


def ca(
    script: Script,
    potential: Var,
    current: Var,
    *,
    potential_v: Value,
    interval_s: Value,
    duration_s: Value,
    added: Added | None = None,
) -> AbstractContextManager[None]:
    """Open a constant potential against time."""
    numbers = (potential_v, interval_s, duration_s)
    return script.measurement(
        "meas_loop_ca", potential, current, *map(_text, numbers), *_options(added)
    )


def cp(
    script: Script,
    potential: Var,
    current: Var,
    *,
    current_a: Value,
    interval_s: Value,
    duration_s: Value,
    added: Added | None = None,
) -> AbstractContextManager[None]:
    """Open a constant current against time; galvanostat mode."""
    numbers = (current_a, interval_s, duration_s)
    return script.measurement(
        "meas_loop_cp", potential, current, *map(_text, numbers), *_options(added)
    )


def lsp(
    script: Script,
    potential: Var,
    current: Var,
    *,
    begin_a: Value,
    end_a: Value,
    step_a: Value,
    rate_a_per_s: Value,
    added: Added | None = None,
) -> AbstractContextManager[None]:
    """Open a linear sweep of current; galvanostat mode."""
    numbers = (begin_a, end_a, step_a, rate_a_per_s)
    return script.measurement(
        "meas_loop_lsp", potential, current, *map(_text, numbers), *_options(added)
    )


def ocp(
    script: Script, potential: Var, *, interval_s: Value, duration_s: Value
) -> AbstractContextManager[None]:
    """Open an open-circuit potential against time; the cell has to be off."""
    return script.measurement("meas_loop_ocp", potential, *map(_text, (interval_s, duration_s)))


def eis(
    script: Script,
    frequency: Var,
    z_real: Var,
    z_imag: Var,
    *,
    amplitude_v_rms: Value,
    start_hz: Value,
    end_hz: Value,
    n_points: int,
    bias_v: Value,
    acdc: AcDc | None = None,
) -> AbstractContextManager[None]:
    """Open impedance against frequency under a potential sine; high-speed mode."""
    arguments = [_text(item) for item in (amplitude_v_rms, start_hz, end_hz)]
    return _impedance(
        script, "meas_loop_eis", (frequency, z_real, z_imag), arguments, n_points, bias_v, acdc
    )


def geis(
    script: Script,
    frequency: Var,
    z_real: Var,
    z_imag: Var,
    *,
    amplitude_a_rms: Value,
    start_hz: Value,
    end_hz: Value,
    n_points: int,
    bias_a: Value,
    acdc: AcDc | None = None,
) -> AbstractContextManager[None]:
    """Open impedance against frequency under a current sine; galvanostat mode."""
    arguments = [_text(item) for item in (amplitude_a_rms, start_hz, end_hz)]
    return _impedance(
        script, "meas_loop_geis", (frequency, z_real, z_imag), arguments, n_points, bias_a, acdc
    )


def _impedance(
    script: Script,
    command: str,
    targets: tuple[Var, Var, Var],
    sine: list[Var | str],
    n_points: int,
    bias: Value,
    acdc: AcDc | None,
) -> AbstractContextManager[None]:
    options = _options(acdc)
    return script.measurement(command, *targets, *sine, integer(n_points), _text(bias), *options)
