"""Whether a cell changed during a sweep: its first frequency, measured again at the end."""

from pydantic import BaseModel, ConfigDict

_LARGE_CHANGE = 0.005
_SIGNIFICANT = 3.0  # standard uncertainties


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


def drift_between(first_z_ohm: complex, repeat_z_ohm: complex, *, noise: float = 0.0) -> DriftCheck:
    """Return the change of the impedance in ohm at a frequency that was measured twice.

    Args:
        first_z_ohm: at the sweep's start.
        repeat_z_ohm: at its end.
        noise: relative standard deviation of the real and of the imaginary part of one point; a
            change that this explains is none.
    """
    size = abs(first_z_ohm)
    change = abs(repeat_z_ohm - first_z_ohm) / size
    u_change = 2.0 * noise  # two points, two parts each
    is_large = change > max(_LARGE_CHANGE, _SIGNIFICANT * u_change)
    said = (f"the cell drifted by {change:.1%} during the sweep",) if is_large else ()
    return DriftCheck(
        relative_change=change,
        modulus_change=(abs(repeat_z_ohm) - size) / size,
        warnings=said,
    )
