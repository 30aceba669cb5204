"""Where the fit of a circuit begins: guesses read from the spectrum itself.

With the time constants and exponents fixed on a grid, a circuit without leakage is linear in its
other parameters. All combinations on the grid are solved at once from one Gram matrix, and the best
of them become starting points: no eye, no hand, and few of them miss the basin of the best fit.
"""

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.circuits import Axis, Circuit, ComplexArray, FloatArray

_ARC_N = 0.9
_ELECTRODE_N = (0.6, 0.9)
_TAU_PER_DECADE = 2
_INDUCTANCE, _SERIES, _ELECTRODES, _ARCS = 0, 1, (2, 3), 4  # columns of the basis
_BEYOND_TOP, _BEYOND_BOTTOM = 1.5, 0.5  # decades of tau outside the frequency window


class StartingPoints:
    """Starting points for the circuits that are to be tried on one spectrum."""

    def __init__(self, axis: Axis, z_ohm: ComplexArray, u_z_ohm: FloatArray, *, seed: int) -> None:
        """Prepare the grid.

        Args:
            axis: the spectrum's frequencies.
            z_ohm: the impedance, shape (n_points,).
            u_z_ohm: what one residual is divided by, shape (n_points,).
            seed: of the random starting points.
        """
        self._grid = _Grid.of(axis, z_ohm, u_z_ohm)
        self._z_max_ohm = float(np.abs(z_ohm).max())
        self._rng = np.random.default_rng(seed)

    def of(self, circuit: Circuit, *, count: int) -> Iterator[FloatArray]:
        """Yield `count` points in the circuit's coordinates, the most promising first.

        Every second one is the best point of the grid moved at random by a factor of about two.
        """
        found = self._grid.best(circuit, count=(count + 1) // 2, z_max_ohm=self._z_max_ohm)
        for at in range(count):
            if at % 2 == 0 and at // 2 < len(found):
                yield found[at // 2]
            else:
                yield self._moved(circuit, found[0])

    def _moved(self, circuit: Circuit, theta: FloatArray) -> FloatArray:
        """Return theta moved at random, but for the exponents n, which are no sizes."""
        is_factor = np.array([not name.startswith("n_") for name, _ in circuit.parameters])
        return theta + is_factor * self._rng.normal(0.0, 0.7, circuit.size)


class _Grid:
    """The weighted basis functions of all circuits over one spectrum, and their Gram matrix."""

    def __init__(self, basis: FloatArray, data: FloatArray, log_tau: FloatArray) -> None:
        self._scale = np.linalg.norm(basis, axis=0)
        scaled = basis / self._scale
        self._gram = scaled.T @ scaled
        self._moment = scaled.T @ data
        self._log_tau = log_tau

    @classmethod
    def of(cls, axis: Axis, z_ohm: ComplexArray, u_z_ohm: FloatArray) -> "_Grid":
        """Return the grid for one spectrum; columns: inductance, series, electrodes, arcs."""
        log_w = axis.log_jw.real
        edge = np.log(10.0)
        low, high = -log_w.max() - _BEYOND_TOP * edge, -log_w.min() + _BEYOND_BOTTOM * edge
        log_tau = np.linspace(low, high, max(4, int((high - low) / edge * _TAU_PER_DECADE)))
        columns = [np.exp(axis.log_jw), np.ones_like(axis.log_jw)]
        columns += [np.exp(-n * (axis.log_jw - axis.log_w_ref)) for n in _ELECTRODE_N]
        columns += [1 / (1 + np.exp(_ARC_N * (axis.log_jw + each))) for each in log_tau]
        return cls(
            _stacked(np.stack(columns, axis=1) / u_z_ohm[:, None]),
            _stacked(z_ohm / u_z_ohm),
            log_tau,
        )

    def best(self, circuit: Circuit, *, count: int, z_max_ohm: float) -> list[FloatArray]:
        """Return the best combinations, at most `count`, as coordinates of the circuit.

        A leakage is not linear in this sense; it begins at twice the largest impedance.
        """
        columns = self._combinations(circuit)
        values, cost = self._solved(columns)
        tail = [np.log(2 * z_max_ohm)] * circuit.has_leakage
        return [
            np.array(self._coordinates(circuit, columns[at], values[at]) + tail)
            for at in np.argsort(cost)[:count]
        ]

    def _combinations(self, circuit: Circuit) -> NDArray[np.intp]:
        """Return the columns of every combination, shape (n_combinations, n_linear)."""
        head = [_INDUCTANCE] * circuit.has_inductance + [_SERIES] * circuit.has_series
        electrodes = [[at] for at in _ELECTRODES] if circuit.has_electrode else [[]]
        arcs = combinations(range(_ARCS, _ARCS + self._log_tau.size), circuit.arcs)
        rows = [[*head, *arc, *electrode] for arc, electrode in product(arcs, electrodes)]
        return np.array(rows, dtype=np.intp)

    def _solved(self, columns: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Return each combination's amplitudes (all positive) and its cost up to a constant."""
        gram = self._gram[columns[:, :, None], columns[:, None, :]]
        moment = self._moment[columns]
        ridge = 1e-9 * np.eye(columns.shape[1])
        scaled = np.linalg.solve(gram + ridge, moment[..., None])[..., 0]
        scaled = np.maximum(scaled, 1e-3 * np.abs(scaled).max(axis=1, keepdims=True))
        cost = np.einsum("ci,cij,cj->c", scaled, gram, scaled) - 2 * (scaled * moment).sum(axis=1)
        return scaled / self._scale[columns], cost

    def _coordinates(
        self, circuit: Circuit, columns: NDArray[np.intp], values: FloatArray
    ) -> list[float]:
        """Return one combination in the circuit's coordinates, without the leakage."""
        theta: list[float] = []
        for column, log_value in zip(columns, np.log(values), strict=True):
            theta.append(float(log_value))
            if column >= _ARCS:
                theta += [float(self._log_tau[column - _ARCS]), _ARC_N]
            elif column in _ELECTRODES:
                theta.append(_ELECTRODE_N[column - _ELECTRODES[0]])
        return theta


def _stacked(values: ComplexArray) -> FloatArray:
    """Return real parts above imaginary parts."""
    return np.concatenate([values.real, values.imag])
