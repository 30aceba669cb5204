"""What a potentiostat sees of a simulated cell."""

from __future__ import annotations

from typing import Protocol


class MeasuredCell(Protocol):
    """A cell between two leads; time is an argument that never falls, and nothing waits.

    A current is positive when it oxidises at the working electrode: when it charges a cathode.
    """

    def impedance(self, frequency_hz: float, now_s: float) -> complex:
        """Return the small-signal impedance in ohm, in the state the cell has at `now_s`."""
        ...

    def open_circuit(self, now_s: float) -> None:
        """Disconnect the leads from `now_s` on: no current."""
        ...

    def apply_potential(self, potential_v: float, now_s: float, *, limit_a: float) -> None:
        """Apply a potential from `now_s` on; the current is clipped at +-limit_a."""
        ...

    def apply_current(self, current_a: float, now_s: float, *, limit_v: float) -> None:
        """Apply a current from `now_s` on.

        Where it would take the potential beyond +-limit_v the potential stays there, and the
        current is what then flows.
        """
        ...

    def potential_v(self, now_s: float) -> float:
        """Return the potential between working and reference electrode at `now_s`, in V."""
        ...

    def current_a(self, now_s: float) -> float:
        """Return the current at `now_s`, in A."""
        ...
