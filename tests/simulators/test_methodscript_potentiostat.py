import cmath
import math

import numpy as np
import pytest

from labctl_simulators.device import Faults
from labctl_simulators.dummy_cell import DummyCell, resistor
from labctl_simulators.methodscript_errors import ErrorCode, ScriptError
from labctl_simulators.methodscript_impedance import applied_amplitude, quantize_frequency
from labctl_simulators.methodscript_measurements import measure_impedance
from labctl_simulators.methodscript_potentiostat import MODE_HIGH_SPEED, Potentiostat
from labctl_simulators.methodscript_steps import Point, Request


def potentiostat_on(
    cell: DummyCell, *, noise_fraction: float = 1e-3, seed: int = 1
) -> Potentiostat:
    rng = np.random.default_rng(seed)
    potentiostat = Potentiostat(cell, noise_fraction=noise_fraction, rng=rng, faults=Faults())
    potentiostat.set_mode(MODE_HIGH_SPEED)
    potentiostat.switch_cell_on(0.0)
    return potentiostat


def sweep(potentiostat: Potentiostat, *numbers: float) -> list[Point]:
    steps = measure_impedance(Request(numbers, potentiostat, lambda: 0.0))
    return [step for step in steps if isinstance(step, Point)]


def test_recorded_spectrum_of_the_dummy_cell_is_reproduced() -> None:
    potentiostat = potentiostat_on(DummyCell())
    potentiostat.currents.select(10e-3)
    potentiostat.currents.allow(1e-9, 10e-3)
    points = sweep(potentiostat, 10e-3, 200e3, 20.0, 5, 0.0)
    reals = [point.outputs[1] for point in points]
    assert [value.range_index for value in reals] == [24, 21, 18, 15, 12]
    assert [value.status for value in reals] == [4, 4, 4, 4, 0]
    frequencies_hz = [float(point.outputs[0].number) for point in points]
    assert frequencies_hz == pytest.approx([200e3, 20e3, 2e3, 198.113, 20.0], rel=2e-6)
    amplitudes_v = [float(point.options["eis_acdc"][0].number) for point in points]
    assert amplitudes_v == pytest.approx([7.63e-3, 9.6e-3, 9.6e-3, 9.6e-3, 9.6e-3], rel=1e-3)
    for point, limit in zip(points, [0.017, 0.009, 0.005, 0.005, 0.005], strict=True):
        frequency_hz, real_ohm, imaginary_ohm = (float(value.number) for value in point.outputs)
        true_ohm = DummyCell().impedance(frequency_hz, 0.0)
        assert abs(complex(real_ohm, imaginary_ohm) - true_ohm) < limit * abs(true_ohm)


def test_capacitive_impedance_is_sent_with_a_negative_imaginary_part() -> None:
    potentiostat = potentiostat_on(DummyCell())
    potentiostat.currents.select(1e-6)
    (point,) = sweep(potentiostat, 10e-3, 100.0, 100.0, 1, 0.0)
    assert float(point.outputs[2].number) < 0


def test_frequency_grid_is_a_percent_wide_at_most() -> None:
    asked_hz = np.geomspace(1e-3, 200e3, 500)
    off = [abs(quantize_frequency(float(each)) / each - 1) for each in asked_hz]
    assert max(off) == pytest.approx(0.01, rel=0.5)
    assert quantize_frequency(200.0) == pytest.approx(198.113, abs=5e-4)


def test_amplitude_falls_only_near_the_highest_frequencies() -> None:
    assert applied_amplitude(10e-3, 1.0) == pytest.approx(9.6e-3)
    assert applied_amplitude(10e-3, 20e3) == pytest.approx(9.6e-3, rel=1e-3)
    assert applied_amplitude(10e-3, 200e3) == pytest.approx(7.63e-3, rel=1e-3)


def test_pinned_range_too_low_gives_overload_and_a_clipped_current() -> None:
    potentiostat = potentiostat_on(resistor(10.0))
    potentiostat.currents.select(10e-6)
    (point,) = sweep(potentiostat, 10e-3, 1e3, 1e3, 1, 0.0)
    real, current = point.outputs[1], point.options["eis_acdc"][2]
    assert (real.status, real.range_index) == (2, 15)
    assert float(current.number) == pytest.approx(29.2e-6 / math.sqrt(2), rel=1e-4)
    assert float(real.number) == pytest.approx(9.6e-3 * math.sqrt(2) / 29.2e-6, rel=1e-2)


def test_overloaded_point_is_measured_again_in_a_higher_range() -> None:
    potentiostat = potentiostat_on(resistor(10.0))
    potentiostat.currents.select(1e-6)
    potentiostat.currents.allow(1e-6, 100e-3)
    (point,) = sweep(potentiostat, 10e-3, 1e3, 1e3, 1, 0.0)
    assert (point.outputs[1].status, point.outputs[1].range_index) == (0, 21)
    assert float(point.outputs[1].number) == pytest.approx(10.0, rel=1e-2)


def test_current_near_the_limit_of_its_range_is_warned_of() -> None:
    # 9.6 mV rms across 5 ohm has a peak of 2.72 mA: between 2.46 and 2.92 times 1 mA
    potentiostat = potentiostat_on(resistor(5.0))
    potentiostat.currents.select(1e-3)
    (point,) = sweep(potentiostat, 10e-3, 1e3, 1e3, 1, 0.0)
    assert point.outputs[1].status == 8


def test_lowest_permitted_range_is_kept_however_small_the_current() -> None:
    potentiostat = potentiostat_on(resistor(1e9))
    potentiostat.currents.select(1e-3)
    potentiostat.currents.allow(10e-6, 1e-3)
    points = sweep(potentiostat, 10e-3, 1e3, 1e2, 5, 0.0)
    assert [point.outputs[1].range_index for point in points] == [21, 18, 15, 15, 15]
    assert all(point.outputs[1].status == 4 for point in points)


def test_direct_current_counts_towards_overload() -> None:
    potentiostat = potentiostat_on(resistor(1e3))
    potentiostat.currents.select(10e-6)
    (point,) = sweep(potentiostat, 1e-3, 1e3, 1e3, 1, 1.0)
    assert point.outputs[1].status == 2


def test_fault_of_overload_shows_in_every_range() -> None:
    faults = Faults(overload=True)
    rng = np.random.default_rng(1)
    potentiostat = Potentiostat(DummyCell(), noise_fraction=0.0, rng=rng, faults=faults)
    potentiostat.set_mode(MODE_HIGH_SPEED)
    potentiostat.switch_cell_on(0.0)
    (point,) = sweep(potentiostat, 10e-3, 1e3, 1e3, 1, 0.0)
    assert point.outputs[1].status == 2
    assert potentiostat.measure_current(0.0)[1] == 2


def test_noise_is_the_fraction_it_is_set_to() -> None:
    potentiostat = potentiostat_on(resistor(10.0), noise_fraction=1e-2)
    potentiostat.currents.select(1e-3)
    points = sweep(potentiostat, 10e-3, 1e3, 1e3, 400, 0.0)
    z_ohm = [complex(point.outputs[1].number, point.outputs[2].number) for point in points]
    rms = math.sqrt(np.mean([abs(z / 10.0 - 1) ** 2 for z in z_ohm]))
    assert rms == pytest.approx(1e-2, rel=0.1)


def test_small_current_in_a_high_range_is_noisier() -> None:
    def scatter(nominal_a: float) -> float:
        potentiostat = potentiostat_on(resistor(10e3), noise_fraction=0.0)
        potentiostat.currents.select(nominal_a)
        points = sweep(potentiostat, 10e-3, 1e3, 1e3, 100, 0.0)
        return float(np.std([float(point.outputs[1].number) for point in points]))

    assert scatter(1e-3) > 100 * scatter(1e-6)


def test_current_read_as_nothing_still_gives_a_finite_impedance() -> None:
    potentiostat = potentiostat_on(resistor(1e15), noise_fraction=0.0)
    potentiostat.currents.select(100e-3)
    for point in sweep(potentiostat, 10e-3, 1e3, 1e3, 50, 0.0):
        assert cmath.isfinite(complex(point.outputs[1].number, point.outputs[2].number))


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((0.0, 1e3, 1e2, 5, 0.0), ErrorCode.BAD_AMPLITUDE),
        ((0.901, 1e3, 1e2, 5, 0.0), ErrorCode.BAD_AMPLITUDE),
        ((0.01, 201e3, 1e2, 5, 0.0), ErrorCode.BAD_FREQUENCY),
        ((0.01, 1e3, 0.0, 5, 0.0), ErrorCode.BAD_FREQUENCY),
        ((0.01, 1e3, 1e2, 0, 0.0), ErrorCode.NO_STEPS),
        ((0.01, 1e3, 1e2, 5, -6.1), ErrorCode.BAD_POTENTIAL),
    ],
)
def test_impedance_beyond_the_limits_is_refused(
    numbers: tuple[float, ...], code: ErrorCode
) -> None:
    with pytest.raises(ScriptError) as caught:
        sweep(potentiostat_on(DummyCell()), *numbers)
    assert caught.value.code is code


def test_limits_themselves_are_allowed() -> None:
    assert sweep(potentiostat_on(DummyCell()), 0.9, 200e3, 1.0, 2, 6.0)


@pytest.mark.parametrize(
    ("asked_a", "index"),
    [(1e-9, 9), (2e-6, 12), (10e-3, 24), (21e-3, 24), (30e-3, 27), (100e-3, 27), (1.0, 27)],
)
def test_lowest_range_that_measures_the_current_is_taken(asked_a: float, index: int) -> None:
    potentiostat = potentiostat_on(DummyCell())
    potentiostat.currents.select(asked_a)
    assert potentiostat.currents.range.index == index
