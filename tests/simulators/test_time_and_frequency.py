"""Every cell is one model: a sine through its time domain finds its impedance.

A source that holds each value for a sixty-fourth of a period makes a staircase, whose images at
64 m + 1 times the frequency come back when the answer is read once a step: what must be read is the
sum over all images of the impedance there, times sinc. No tolerance is spent on the staircase.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from labctl_simulators.cell import MeasuredCell
from labctl_simulators.cell_in_time import CellInTime
from labctl_simulators.full_cell import FullCell, FullCellProperties
from labctl_simulators.full_cell_body import FullCellBody
from labctl_simulators.lsv_body import LsvBody
from labctl_simulators.lsv_cell import LsvCell, LsvCellProperties
from labctl_simulators.pellet import Pellet, PelletProperties
from labctl_simulators.pellet_body import PelletBody
from labctl_simulators.stage import Stage, StageProperties
from labctl_simulators.symmetric_cell import SymmetricCell, SymmetricCellProperties

STEPS, PERIODS, IMAGES = 64, 8, 400
BEGIN_S = 1e5  # what a first step has set in motion is over
AMPLITUDE_V = 3e-4
NO_LIMIT = 1e6
ROOM = StageProperties(
    base_temperature_c=25.0,
    initial_temperature_c=25.0,
    heat_capacity_j_per_k=900.0,
    loss_w_per_k=0.25,
    heater_max_w=50.0,
    sensor_lag_s=15.0,
    sensor_offset_k=0.0,
    sensor_noise_k=0.0,
    sample_lag_s=180.0,
)
Impedance = Callable[[float], complex]


def expected(response: Impedance) -> complex:
    """Return what a staircase finds of a response, at 1 period per unit of frequency."""
    at_once = response(1e3 * IMAGES * STEPS)
    total = at_once  # of a response that is the same everywhere the images' sincs add up to 1
    for m in range(-IMAGES, IMAGES + 1):
        image = 1.0 + m * STEPS
        there = response(abs(image))
        there = there if image > 0 else there.conjugate()
        total += (there - at_once) * np.sinc(image / STEPS)
    return total


def found(
    drive: Callable[[float, float], None], read: Callable[[float], float], frequency_hz: float
) -> complex:
    """Return the answer to a unit sine; a squared Hann window takes out what drifts."""
    answers: list[float] = []
    phases = 2.0 * math.pi * np.arange(STEPS * PERIODS) / STEPS
    for k, phase in enumerate(phases):
        drive(math.sin(phase), BEGIN_S + k / (STEPS * frequency_hz))
        answers.append(read(BEGIN_S + (k + 0.5) / (STEPS * frequency_hz)))
    settled = slice(STEPS, None)
    weight = np.hanning(STEPS * (PERIODS - 1) + 1)[:-1] ** 2 * np.exp(-1j * phases[settled])
    answer = np.array(answers)[settled]
    return complex((weight @ (answer - np.mean(answer))) / (weight @ np.sin(phases[settled])))


def deviation(
    cell: MeasuredCell, impedance: Impedance, frequency_hz: float, *, galvanostat: bool
) -> float:
    """Return by how much time and frequency domain differ, over the expected value."""
    if galvanostat:
        bias_a = cell.current_a(BEGIN_S)
        amplitude_a = AMPLITUDE_V / abs(impedance(frequency_hz))

        def drive(sine: float, now_s: float) -> None:
            cell.apply_current(bias_a + amplitude_a * sine, now_s, limit_v=NO_LIMIT)

        true = expected(lambda of: impedance(of * frequency_hz))
        return abs(found(drive, cell.potential_v, frequency_hz) / amplitude_a / true - 1.0)
    bias_v = cell.potential_v(BEGIN_S)

    def drive(sine: float, now_s: float) -> None:
        cell.apply_potential(bias_v + AMPLITUDE_V * sine, now_s, limit_a=NO_LIMIT)

    true = expected(lambda of: 1.0 / impedance(of * frequency_hz))
    return abs(found(drive, cell.current_a, frequency_hz) / AMPLITUDE_V / true - 1.0)


def laplace(of: Callable[[float], float], s: float) -> float:
    """Return s times the integral of a function of time weighed with exp(-s t)."""
    ln_st = np.linspace(math.log(1e-9), math.log(50.0), 400)
    weighed = [of(math.exp(x) / s) * math.exp(x - math.exp(x)) for x in ln_st]
    return float(np.sum(weighed)) * float(ln_st[1] - ln_st[0])


def stage() -> Stage:
    return Stage(ROOM, noise_seed=0)


def some_pellet(draw: np.random.Generator) -> PelletProperties:
    return PelletProperties(
        thickness_mm=1.0,
        diameter_mm=10.0,
        conductivity_s_per_cm=10.0 ** draw.uniform(-8.0, -3.0),
        activation_energy_ev=0.5,
        grain_boundary_share=draw.uniform(0.1, 0.9),
        bulk_capacitance_f=7e-12,
        bulk_cpe_exponent=draw.uniform(0.75, 0.99),
        grain_boundary_capacitance_f=3e-10,
        grain_boundary_cpe_exponent=draw.uniform(0.75, 0.99),
        electrode_cpe_q_siemens_s_n=10.0 ** draw.uniform(-7.0, -5.0),
        electrode_cpe_exponent=draw.uniform(0.7, 0.98),
        electronic_conductivity_s_per_cm=10.0 ** draw.uniform(-12.0, -9.0),
        electronic_activation_energy_ev=0.4,
        lead_inductance_h=0.0,
        open_circuit_potential_v=0.005,
    )


def some_symmetric_cell(draw: np.random.Generator) -> SymmetricCellProperties:
    return SymmetricCellProperties(
        thickness_mm=1.0,
        diameter_mm=10.0,
        conductivity_s_per_cm=10.0 ** draw.uniform(-5.0, -3.0),
        activation_energy_ev=0.4,
        grain_boundary_share=draw.uniform(0.1, 0.9),
        bulk_capacitance_f=7e-12,
        bulk_cpe_exponent=draw.uniform(0.8, 0.99),
        grain_boundary_capacitance_f=3e-10,
        grain_boundary_cpe_exponent=draw.uniform(0.8, 0.99),
        interface_resistance_ohm=10.0 ** draw.uniform(0.0, 3.0),
        interface_capacitance_f=1e-6,
        interface_cpe_exponent=draw.uniform(0.7, 0.95),
        interface_activation_energy_ev=0.6,
        electronic_conductivity_s_per_cm=1e-10,
        electronic_activation_energy_ev=0.4,
        lead_inductance_h=0.0,
        open_circuit_potential_v=0.0,
        second_interface_resistance_ohm=10.0 ** draw.uniform(0.0, 3.0),
    )


def some_window_cell(draw: np.random.Generator) -> LsvCellProperties:
    return LsvCellProperties(
        open_circuit_potential_v=2.5,
        series_resistance_ohm=10.0 ** draw.uniform(1.5, 3.0),
        series_activation_energy_ev=0.3,
        double_layer_cpe_q_siemens_s_n=10.0 ** draw.uniform(-5.0, -4.0),
        double_layer_cpe_exponent=draw.uniform(0.75, 0.95),
        leak_resistance_ohm=1e8,
        oxidation_potential_v=4.5,
        oxidation_current_a=10.0 ** draw.uniform(-6.0, -5.0),
        oxidation_v_per_decade=draw.uniform(0.08, 0.15),
        passivation_charge_c=1e3,  # a surface that passivates is not at rest
        weak_reduction_potential_v=1.3,
        weak_reduction_current_a=2e-7,
        weak_reduction_v_per_decade=0.12,
        strong_reduction_potential_v=0.5,
        strong_reduction_current_a=10.0 ** draw.uniform(-6.0, -5.0),
        strong_reduction_v_per_decade=draw.uniform(0.1, 0.2),
    )


def some_full_cell(draw: np.random.Generator) -> FullCellProperties:
    return FullCellProperties(
        capacity_mah=1.0,
        initial_state_of_charge=draw.uniform(0.1, 0.9),
        open_circuit_middle_v=3.95,
        open_circuit_rise_v=0.9,
        open_circuit_step_v=0.3,
        open_circuit_step_state=0.35,
        open_circuit_step_width=0.12,
        open_circuit_end_v=1.0,
        open_circuit_end_width=0.03,
        series_resistance_ohm=10.0,
        series_activation_energy_ev=0.1,
        electrolyte_resistance_ohm=60.0,
        electrolyte_time_constant_s=1e-7,
        electrolyte_cpe_exponent=0.95,
        electrolyte_activation_energy_ev=0.38,
        interphase_resistance_ohm=15.0,
        interphase_time_constant_s=1e-4,
        interphase_cpe_exponent=draw.uniform(0.75, 0.95),
        interphase_activation_energy_ev=0.4,
        fast_transfer_resistance_ohm=10.0 ** draw.uniform(1.0, 2.0),
        fast_transfer_time_constant_s=10.0 ** draw.uniform(-1.0, 0.0),
        fast_transfer_cpe_exponent=draw.uniform(0.75, 0.95),
        fast_transfer_slope=-1.0,
        fast_transfer_curvature=4.0,
        slow_transfer_resistance_ohm=10.0 ** draw.uniform(1.0, 2.0),
        slow_transfer_time_constant_s=10.0 ** draw.uniform(0.0, 1.0),
        slow_transfer_cpe_exponent=draw.uniform(0.75, 0.95),
        slow_transfer_slope=1.0,
        slow_transfer_curvature=4.0,
        transfer_activation_energy_ev=0.5,
        diffusion_coefficient_cm2_per_s=10.0 ** draw.uniform(-11.0, -9.5),
        diffusion_length_um=3.0,
        side_reaction_potential_v=4.8,
        side_reaction_current_a=3e-6,
        side_reaction_v_per_decade=0.15,
        capacity_loss_c_per_c=1e-4,
        lead_inductance_h=0.0,
        reference_potential_v=0.62,
    )


@pytest.mark.parametrize("seed", range(4))
def test_pellet_under_a_sine_of_current(seed: int) -> None:
    draw = np.random.default_rng(seed)
    pellet = Pellet(some_pellet(draw))
    circuit = pellet.circuit(298.15)
    for decade in (-3.0, -1.0, 1.0, 3.0):
        cell = CellInTime(PelletBody(pellet, stage()))
        frequency_hz = 10.0 ** draw.uniform(decade, decade + 2.0)
        assert deviation(cell, circuit.impedance, frequency_hz, galvanostat=True) < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_pellet_after_a_step_of_potential(seed: int) -> None:
    # A staircase of potential makes spikes in a capacitor. Instead: the current after one step,
    # weighed with exp(-s t), is the admittance at the real frequency s, over s.
    pellet = Pellet(some_pellet(np.random.default_rng(seed)))
    circuit = pellet.circuit(298.15)
    arcs = (circuit.bulk, circuit.grain_boundary)
    assert circuit.electrode is not None
    for s in (1e-3, 1e-1, 1e1, 1e3, 1e5):
        cell = CellInTime(PelletBody(pellet, stage()))
        cell.apply_potential(pellet.open_circuit_potential_v + 0.1, 0.0, limit_a=NO_LIMIT)
        measured = laplace(cell.current_a, s) / 0.1
        ions = 1.0 / circuit.electrode.admittance(s) + sum(arc.impedance(s) for arc in arcs)
        true = 1.0 / ions.real + 1.0 / circuit.electronic_resistance_ohm
        assert measured == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("galvanostat", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_symmetric_cell(seed: int, galvanostat: bool) -> None:
    draw = np.random.default_rng(seed)
    pellet = SymmetricCell(some_symmetric_cell(draw))
    circuit = pellet.circuit(298.15)
    for decade in (-2.0, 0.0, 2.0):
        cell = CellInTime(PelletBody(pellet, stage()))
        frequency_hz = 10.0 ** draw.uniform(decade, decade + 2.0)
        assert deviation(cell, circuit.impedance, frequency_hz, galvanostat=galvanostat) < 1e-3


POTENTIALS_V = [2.5, 4.4, 1.2, 0.4]


@pytest.mark.parametrize("potential_v", POTENTIALS_V)
def test_cell_for_stability_windows_under_a_sine_of_current(potential_v: float) -> None:
    draw = np.random.default_rng(int(10 * potential_v))
    for decade in (-2.0, 0.0, 2.0):
        cell = CellInTime(LsvBody(LsvCell(some_window_cell(draw)), stage()))
        cell.apply_potential(potential_v, 0.0, limit_a=NO_LIMIT)
        frequency_hz = 10.0 ** draw.uniform(decade, decade + 2.0)

        def impedance(of_hz: float, cell: MeasuredCell = cell) -> complex:
            return cell.impedance(of_hz, BEGIN_S)

        assert deviation(cell, impedance, frequency_hz, galvanostat=True) < 1e-3


@pytest.mark.parametrize("potential_v", POTENTIALS_V)
def test_cell_for_stability_windows_after_a_step_of_potential(potential_v: float) -> None:
    draw = np.random.default_rng(int(10 * potential_v))
    laws = LsvCell(some_window_cell(draw))
    for s in (1e-2, 1e0, 1e2, 1e4):
        up, down = (stepped(laws, potential_v, sign * AMPLITUDE_V) for sign in (1.0, -1.0))
        true = 1.0 / up.impedance(s / (2j * math.pi), BEGIN_S).real

        def difference_a(after_s: float, up: MeasuredCell = up, down: MeasuredCell = down) -> float:
            return up.current_a(BEGIN_S + after_s) - down.current_a(BEGIN_S + after_s)

        assert laplace(difference_a, s) / (2.0 * AMPLITUDE_V) == pytest.approx(true, rel=1e-3)


def stepped(laws: LsvCell, potential_v: float, step_v: float) -> MeasuredCell:
    cell = CellInTime(LsvBody(laws, stage()))
    cell.apply_potential(potential_v, 0.0, limit_a=NO_LIMIT)
    cell.apply_potential(potential_v + step_v, BEGIN_S, limit_a=NO_LIMIT)
    return cell


@pytest.mark.parametrize("galvanostat", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_full_cell(seed: int, galvanostat: bool) -> None:
    draw = np.random.default_rng(seed)
    laws = FullCell(some_full_cell(draw))
    for decade in (-3.0, -1.0, 1.0):
        cell = CellInTime(FullCellBody(laws, stage()))
        frequency_hz = 10.0 ** draw.uniform(decade, decade + 2.0)

        def impedance(of_hz: float, cell: MeasuredCell = cell) -> complex:
            return cell.impedance(of_hz, BEGIN_S)

        assert deviation(cell, impedance, frequency_hz, galvanostat=galvanostat) < 1e-3


def test_side_reaction_is_part_of_the_impedance_at_high_potential() -> None:
    properties = some_full_cell(np.random.default_rng(5))
    at_the_top = replace(properties, initial_state_of_charge=0.94, side_reaction_current_a=1e-4)
    laws = FullCell(at_the_top)
    for galvanostat in (True, False):
        cell = CellInTime(FullCellBody(laws, stage()))
        shunt_s = laws.side_reaction_s(cell.potential_v(BEGIN_S))

        def impedance(of_hz: float, cell: MeasuredCell = cell) -> complex:
            return cell.impedance(of_hz, BEGIN_S)

        assert shunt_s * abs(impedance(0.02)) > 3e-3
        assert deviation(cell, impedance, 0.02, galvanostat=galvanostat) < 1e-3
