"""An impedance spectrum as a file gave it, in one convention whatever the file's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Spectrum:
    """One frequency sweep.

    Attributes:
        frequency_hz: in the order of the file, shape (n_points,).
        z_real_ohm: shape (n_points,).
        z_imag_ohm: negative when capacitive, shape (n_points,).
        source_format: which kind of file it came from, such as "EC-Lab ASCII".
        metadata: what the file says about itself, as written there.
        warnings: what a reader should know, in plain words.
    """

    frequency_hz: NDArray[np.float64]
    z_real_ohm: NDArray[np.float64]
    z_imag_ohm: NDArray[np.float64]
    source_format: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def z_ohm(self) -> NDArray[np.complex128]:
        """The complex impedance, shape (n_points,)."""
        return self.z_real_ohm + 1j * self.z_imag_ohm
