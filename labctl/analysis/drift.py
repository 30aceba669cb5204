"""Whether a cell changed during a sweep: its first frequency, measured again at the end."""

from pydantic import BaseModel, ConfigDict

_LARGE_CHANGE = 0.01


class DriftCheck(BaseModel):
    """How the impedance at one frequency changed between two measurements.

    Attributes:
        relative_change: |Z_repeat - Z_first| / |Z_first|; noise makes it positive, too.
        modulus_change: (|Z_repeat| - |Z_first|) / |Z_first|, with its sign.
    """

    model_config = ConfigDict(frozen=True)

    relative_change: float
    modulus_change: float
    warnings: tuple[str, ...] = ()


def drift_between(first_z_ohm: complex, repeat_z_ohm: complex) -> DriftCheck:
    """Return the change of the impedance in ohm at a frequency that was measured twice."""
    size = abs(first_z_ohm)
    change = abs(repeat_z_ohm - first_z_ohm) / size
    is_large = change > _LARGE_CHANGE
    said = (f"the cell drifted by {change:.1%} during the sweep",) if is_large else ()
    return DriftCheck(
        relative_change=change,
        modulus_change=(abs(repeat_z_ohm) - size) / size,
        warnings=said,
    )
