"""The simulated pellet: what its impedance must be at the ends of frequency and temperature."""

import cmath
import math
from dataclasses import replace

import pytest

from labctl_simulators.cell_in_time import CellInTime
from labctl_simulators.elements import BOLTZMANN_EV_PER_K
from labctl_simulators.pellet import Pellet, PelletProperties
from labctl_simulators.pellet_body import PelletBody
from labctl_simulators.stage import Stage, StageProperties

ROOM_K = 298.15
ELECTROLYTE = PelletProperties(
    thickness_mm=1.0,
    diameter_mm=10.0,
    conductivity_s_per_cm=1e-6,
    activation_energy_ev=0.5,
    grain_boundary_share=0.3,
    bulk_capacitance_f=7e-12,
    bulk_cpe_exponent=0.95,
    grain_boundary_capacitance_f=3e-10,
    grain_boundary_cpe_exponent=0.9,
    electrode_cpe_q_siemens_s_n=2e-6,
    electrode_cpe_exponent=0.9,
    electronic_conductivity_s_per_cm=1e-11,
    electronic_activation_energy_ev=0.4,
    lead_inductance_h=3e-7,
    open_circuit_potential_v=0.005,
)
COOLING = StageProperties(
    base_temperature_c=5.0,
    initial_temperature_c=75.0,
    heat_capacity_j_per_k=900.0,
    loss_w_per_k=0.25,
    heater_max_w=50.0,
    sensor_lag_s=15.0,
    sensor_offset_k=0.0,
    sensor_noise_k=0.0,
    sample_lag_s=180.0,
)
AREA_CM2 = math.pi * 0.5**2
TOTAL_OHM = 0.1 / (1e-6 * AREA_CM2)


def ionic_ohm(properties: PelletProperties, temperature_k: float) -> float:
    circuit = Pellet(properties).circuit(temperature_k)
    return circuit.bulk.resistance_ohm + circuit.grain_boundary.resistance_ohm


def slope_of_ln_sigma_t_ev(
    resistances_ohm: tuple[float, float], at_k: tuple[float, float]
) -> float:
    """Return the activation energy between two temperatures, in eV."""
    first, second = (math.log(t / r) for r, t in zip(resistances_ohm, at_k, strict=True))
    return BOLTZMANN_EV_PER_K * (second - first) / (1.0 / at_k[0] - 1.0 / at_k[1])


def test_total_resistance_at_25_degc_follows_from_conductivity_and_geometry() -> None:
    assert ionic_ohm(ELECTROLYTE, ROOM_K) == pytest.approx(TOTAL_OHM, rel=1e-14)


def test_grain_boundaries_take_their_share_at_25_degc() -> None:
    circuit = Pellet(ELECTROLYTE).circuit(ROOM_K)
    assert circuit.grain_boundary.resistance_ohm == pytest.approx(0.3 * TOTAL_OHM, rel=1e-14)


def test_conductivity_times_temperature_is_exactly_arrhenius() -> None:
    for at_k in ((278.15, 348.15), (298.15, 308.15), (330.0, 470.0)):
        resistances = (ionic_ohm(ELECTROLYTE, at_k[0]), ionic_ohm(ELECTROLYTE, at_k[1]))
        assert slope_of_ln_sigma_t_ev(resistances, at_k) == pytest.approx(0.5, rel=1e-12)


def test_grain_boundaries_may_have_their_own_activation_energy() -> None:
    pellet = Pellet(replace(ELECTROLYTE, grain_boundary_activation_energy_ev=0.65))
    cold, warm = pellet.circuit(278.15), pellet.circuit(348.15)
    resistances = (cold.grain_boundary.resistance_ohm, warm.grain_boundary.resistance_ohm)
    assert slope_of_ln_sigma_t_ev(resistances, (278.15, 348.15)) == pytest.approx(0.65)
    resistances = (cold.bulk.resistance_ohm, warm.bulk.resistance_ohm)
    assert slope_of_ln_sigma_t_ev(resistances, (278.15, 348.15)) == pytest.approx(0.5)


def test_only_the_electronic_leakage_is_left_at_zero_frequency() -> None:
    circuit = Pellet(ELECTROLYTE).circuit(ROOM_K)
    assert circuit.impedance(0.0) == pytest.approx(0.1 / (1e-11 * AREA_CM2), rel=1e-12)


def test_electronic_leakage_has_its_own_activation_energy() -> None:
    at_k = (298.15, 348.15)
    pellet = Pellet(ELECTROLYTE)
    resistances = (
        pellet.circuit(at_k[0]).impedance(0).real,
        pellet.circuit(at_k[1]).impedance(0).real,
    )
    assert slope_of_ln_sigma_t_ev(resistances, at_k) == pytest.approx(0.4)


def test_only_the_leads_are_left_at_the_highest_frequencies() -> None:
    frequency_hz = 1e14
    impedance = Pellet(ELECTROLYTE).circuit(ROOM_K).impedance(frequency_hz)
    assert impedance == pytest.approx(2j * math.pi * frequency_hz * 3e-7, rel=1e-6)


def test_electrodes_dominate_at_low_frequency_with_the_phase_of_their_element() -> None:
    tight = replace(ELECTROLYTE, electronic_conductivity_s_per_cm=1e-25)
    impedance = Pellet(tight).circuit(ROOM_K).impedance(1e-4)
    assert math.degrees(cmath.phase(impedance)) == pytest.approx(-81.0, abs=0.1)
    assert abs(impedance) == pytest.approx(1.0 / (2e-6 * (2e-4 * math.pi) ** 0.9), rel=1e-3)


def test_plateau_between_arc_and_spike_shows_the_total_resistance() -> None:
    impedance = Pellet(ELECTROLYTE).circuit(ROOM_K).impedance(300.0)
    assert impedance.real == pytest.approx(TOTAL_OHM, rel=0.01)
    assert abs(impedance.imag) < 0.03 * TOTAL_OHM


def test_leakage_hardly_biases_the_plateau() -> None:
    tight = replace(ELECTROLYTE, electronic_conductivity_s_per_cm=1e-25)
    leaking = Pellet(ELECTROLYTE).circuit(ROOM_K).impedance(300.0)
    assert leaking == pytest.approx(Pellet(tight).circuit(ROOM_K).impedance(300.0), rel=1e-4)


def test_bulk_arc_peaks_where_its_resistance_and_brug_capacitance_say() -> None:
    bulk = Pellet(ELECTROLYTE).circuit(ROOM_K).bulk
    peak_rad_per_s = 1.0 / (bulk.resistance_ohm * 7e-12)
    at_peak = bulk.impedance(1j * peak_rad_per_s)
    for factor in (0.98, 1.02):
        assert -bulk.impedance(1j * peak_rad_per_s * factor).imag < -at_peak.imag
    assert at_peak.real == pytest.approx(bulk.resistance_ohm / 2.0)


def test_impedance_is_that_of_the_sample_and_not_of_its_stage() -> None:
    stage = Stage(COOLING, noise_seed=0)
    cell = CellInTime(PelletBody(Pellet(ELECTROLYTE), stage))
    state = stage.state(600.0)
    assert state.sample_k - state.block_k > 1.0
    expected = cell.body.pellet.circuit(state.sample_k).impedance(300.0)
    assert cell.impedance(300.0, 600.0) == expected


def test_open_circuit_potential_is_the_one_given() -> None:
    stage = Stage(COOLING, noise_seed=0)
    cell = CellInTime(PelletBody(Pellet(ELECTROLYTE), stage))
    assert cell.potential_v(10.0) == 0.005
