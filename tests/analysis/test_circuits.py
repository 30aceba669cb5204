"""The circuits: impedance against the textbook's, derivatives against differences."""

import numpy as np
import pytest

from labctl.analysis.circuits import Axis, Circuit, brug_capacitance

EVERYTHING = Circuit(
    has_inductance=True, has_series=True, arcs=2, has_electrode=True, has_leakage=True
)
NATURAL = np.array([2e-7, 50.0, 1e4, 3e-11, 0.95, 2e4, 4e-9, 0.8, 1e-6, 0.9, 1e8])
F = np.geomspace(1e6, 0.1, 40)


@pytest.fixture
def axis():
    return Axis.of(F)


def test_impedance_is_that_of_the_textbook():
    s = 2j * np.pi * F
    ions = 50 + 1 / (1 / 1e4 + 3e-11 * s**0.95) + 1 / (1 / 2e4 + 4e-9 * s**0.8)
    cell = 1 / (1 / (ions + 1 / (1e-6 * s**0.9)) + 1 / 1e8)

    assert EVERYTHING.impedance_of(NATURAL, F) == pytest.approx(cell + s * 2e-7, rel=1e-10)


def test_derivatives_are_those_of_differences(axis):
    theta = EVERYTHING.coordinates(NATURAL, axis)
    steps = 1e-6 * np.eye(theta.size)

    differences = np.stack(
        [
            (EVERYTHING.impedance(theta + h, axis) - EVERYTHING.impedance(theta - h, axis)) / 2e-6
            for h in steps
        ],
        axis=1,
    )

    _, slopes = EVERYTHING.linearised(theta, axis)
    scale = np.abs(differences).max(axis=0)
    assert slopes / scale == pytest.approx(differences / scale, abs=2e-5)


def test_natural_parameters_have_the_right_derivatives(axis):
    theta = EVERYTHING.coordinates(NATURAL, axis)
    steps = 1e-6 * np.eye(theta.size)

    differences = np.stack(
        [
            (EVERYTHING.natural(theta + h, axis)[0] - EVERYTHING.natural(theta - h, axis)[0]) / 2e-6
            for h in steps
        ],
        axis=1,
    )

    _, slopes = EVERYTHING.natural(theta, axis)
    assert slopes / NATURAL[:, None] == pytest.approx(differences / NATURAL[:, None], abs=1e-6)


def test_coordinates_and_natural_parameters_are_inverse(axis):
    theta = EVERYTHING.coordinates(NATURAL, axis)

    assert EVERYTHING.natural(theta, axis)[0] == pytest.approx(NATURAL, rel=1e-12)


def test_a_circuit_is_known_by_its_parameters():
    names = [name for name, _ in EVERYTHING.parameters]

    assert Circuit.of_parameters(names) == EVERYTHING
    assert EVERYTHING.name == "(L-R-R||CPE-R||CPE-CPE)||R_leak"
    assert len(names) == EVERYTHING.size


def test_brug_capacitance_of_an_ideal_capacitor_is_its_capacitance():
    assert brug_capacitance(1e5, 7e-12, 1.0) == pytest.approx(7e-12)
