"""What the scripts of every technique on an EmStat4 HR share: ranges, bandwidth, points.

Source: MethodSCRIPT manual (range tables) and the vendor's example scripts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import ReplyError
from labctl.instruments.techniques import Frame
from labctl_drivers.methodscript_packets import EMSTAT4_HR_CURRENT_RANGES_A, Packet
from labctl_drivers.methodscript_script import PgstatMode, Script

if TYPE_CHECKING:
    from collections.abc import Mapping

RANGES_A = list(EMSTAT4_HR_CURRENT_RANGES_A.values())

_POTENTIAL_RANGE_V = 4.0  # pinned to this in the vendor's examples
_MAX_DC_BANDWIDTH_HZ = 200e3
_APPLIED_SHARE = 2.0
_BANDWIDTH_INTERVALS = 6.0  # bandwidth x interval in the vendor's examples


def new_script(mode: PgstatMode, *, channel: int, mains_frequency_hz: float) -> Script:
    """Return a script that has set the instrument up, with the cell still as it was."""
    script = Script()
    script.set_pgstat_chan(channel)
    script.set_pgstat_mode(mode)
    script.set_acquisition_frac_autoadjust(mains_frequency_hz)
    script.set_range("ab", _POTENTIAL_RANGE_V)
    script.set_autoranging("ab", _POTENTIAL_RANGE_V, _POTENTIAL_RANGE_V)
    return script


def dc_bandwidth_hz(interval_s: float) -> float:
    """Return the bandwidth that points at an interval need, to six digits."""
    return float(f"{min(_BANDWIDTH_INTERVALS / interval_s, _MAX_DC_BANDWIDTH_HZ):.6g}")


def range_for_a(current_a: float) -> float:
    """Return the lowest current range whose nominal value a current stays within, else the top."""
    return next((each for each in RANGES_A if each >= abs(current_a)), RANGES_A[-1])


def range_for_applied_a(current_a: float) -> float:
    """Return the lowest current range that can apply a current.

    A range holds almost three times its nominal value and warns from 2.46 times on.
    """
    return range_for_a(current_a / _APPLIED_SHARE)


def values(instrument: str, packet: Packet, units: tuple[str, ...]) -> list[float]:
    """Return the values of a packet, which has to hold variables of just these units.

    Raises:
        ReplyError: it holds others.
    """
    if tuple([item.unit for item in packet.variables]) != units:
        message = f"expected variables in {', '.join(units)}"
        raise ReplyError(instrument, message, reply=packet.line)
    return [item.value for item in packet.variables]


def frame(units: Mapping[str, str], *numbers: float) -> Frame:
    """Return a frame of one point from its values, in the order of its columns."""
    return Frame({name: [float(value)] for name, value in zip(units, numbers, strict=True)})
