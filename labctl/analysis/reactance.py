"""The frequency at which one short measurement tells most about the ions' resistance."""

import numpy as np
from numpy.typing import ArrayLike

from labctl.analysis.capacitances import ION_CAPACITANCE_F
from labctl.analysis.circuits import FloatArray

_PROMINENCE = 1.15  # a turning point counts if the curve comes back by this factor


def minimum_reactance(frequency_hz: ArrayLike, z_ohm: ArrayLike) -> float:
    """Return the frequency in Hz at which |Im Z| has its minimum below the ions' arc.

    There the impedance is nearest the ions' resistance, which is what a probe between two full
    spectra should see. If no arc is visible it is the smallest |Im Z| of all, the highest frequency
    unless the leads' inductance shows; if the arc is not closed, the lowest frequency.

    Args:
        frequency_hz: shape (n_points,), in any order.
        z_ohm: complex impedance, shape (n_points,).
    """
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    order = np.argsort(frequency)
    frequency = frequency[order]
    imag = np.asarray(z_ohm, dtype=np.complex128)[order].imag
    reactance = _smooth(-imag)
    peaks = _prominent_peaks(reactance)
    ion_peak = next((at for at in peaks if _is_ions(frequency[at], reactance[at])), None)
    if ion_peak is None:
        return float(frequency[np.argmin(np.abs(imag))])
    below = max((at + 1 for at in peaks if at < ion_peak), default=0)
    return (
        float(frequency[below + np.argmin(np.abs(reactance[below:ion_peak]))])
        if ion_peak
        else float(frequency[0])
    )


def _smooth(values: FloatArray) -> FloatArray:
    """Return the running median of three: one bad point is no arc."""
    inner = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return np.concatenate([values[:1], inner, values[-1:]])


def _is_ions(frequency_hz: float, reactance_ohm: float) -> bool:
    """Return whether an arc with this peak has the capacitance of a pellet: C = 1 / (2 w peak)."""
    return 1 / (4 * np.pi * frequency_hz * reactance_ohm) < ION_CAPACITANCE_F


def _prominent_peaks(values: FloatArray) -> list[int]:
    """Return where the values have maxima that stand out on both sides, or on the only one.

    The electrode's tail rises to the first point; that is a maximum, too, and it is for the caller
    to tell it from an arc that is cut off there.
    """
    peaks: list[int] = []
    low, high, at_high, is_rising = float("inf"), float(values[0]), 0, True
    for at, value in enumerate(values.tolist()):
        if is_rising and value > high:
            high, at_high = value, at
        elif is_rising and value * _PROMINENCE < high:
            peaks.append(at_high)
            is_rising, low = False, value
        elif not is_rising and value > max(low, 0.0) * _PROMINENCE:
            is_rising, high, at_high = True, value, at
        elif not is_rising:
            low = min(low, value)
    return peaks
