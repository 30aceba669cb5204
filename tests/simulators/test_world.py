"""World files: what they hold, how instruments are wired, and what a mistake is answered with."""

from pathlib import Path

import numpy as np
import pytest

from labctl_simulators.cell_in_time import CellInTime
from labctl_simulators.pellet import Pellet
from labctl_simulators.pellet_body import PelletBody
from labctl_simulators.world import World

DEMO = Path(__file__).parents[2] / "simulators" / "labctl_simulators" / "demo"
ALOCL = DEMO / "alocl/world.toml"
ROOM_K = 298.15


def with_line(tmp_path: Path, old: str, new: str) -> Path:
    """Return a copy of a good world file in which one line is another."""
    text = ALOCL.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path = tmp_path / "world.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def body_of(world: World) -> PelletBody:
    cell = world.cell("potentiostat")
    assert isinstance(cell, CellInTime)
    assert isinstance(cell.body, PelletBody)
    return cell.body


def pellet_of(path: Path) -> Pellet:
    pellet = body_of(World.from_toml(path)).pellet
    assert isinstance(pellet, Pellet)
    return pellet


@pytest.mark.parametrize(
    ("file", "conductivity_s_per_cm", "activation_energy_ev"),
    [
        ("alocl/world.toml", 1.02e-3, 0.38),
        ("licl/world.toml", 1e-8, 0.78),
        ("lialcl4/world.toml", 1e-6, 0.5),
    ],
)
def test_demo_worlds_hold_the_materials_of_the_study(
    file: str, conductivity_s_per_cm: float, activation_energy_ev: float
) -> None:
    pellet = pellet_of(DEMO / file)
    circuit = pellet.circuit(ROOM_K)
    ionic_ohm = circuit.bulk.resistance_ohm + circuit.grain_boundary.resistance_ohm
    assert 0.1 / (ionic_ohm * np.pi * 0.25) == pytest.approx(conductivity_s_per_cm)
    assert pellet.properties.activation_energy_ev == activation_energy_ev


@pytest.mark.parametrize("file", ["alocl/world.toml", "licl/world.toml", "lialcl4/world.toml"])
@pytest.mark.parametrize("temperature_k", [278.15, 298.15, 348.15])
def test_leakage_of_the_demo_pellets_is_three_decades_below_the_ions(
    file: str, temperature_k: float
) -> None:
    circuit = pellet_of(DEMO / file).circuit(temperature_k)
    ionic_ohm = circuit.bulk.resistance_ohm + circuit.grain_boundary.resistance_ohm
    assert circuit.electronic_resistance_ohm > 1000.0 * ionic_ohm


def test_the_cell_is_measured_on_the_stage_that_the_stage_instrument_controls() -> None:
    world = World.from_toml(ALOCL)
    assert body_of(world).stage is world.stage("stage")


def test_settings_are_passed_on_as_the_file_gives_them() -> None:
    settings = World.from_toml(ALOCL).settings("potentiostat")
    assert settings["noise_fraction"] == 0.001
    assert settings["serial_number"] == "ES4HR20B0008"


def test_an_instrument_that_is_not_in_the_world_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match=r"no instrument 'oven'.*potentiostat, stage"):
        World.from_toml(ALOCL).settings("oven")


def test_a_stage_controller_has_no_cell() -> None:
    with pytest.raises(ValueError, match="'stage' of this world is wired to no cell"):
        World.from_toml(ALOCL).cell("stage")


def test_generators_depend_on_name_and_seed_and_not_on_the_order_of_calls(tmp_path: Path) -> None:
    world, other_order = World.from_toml(ALOCL), World.from_toml(ALOCL)
    other_order.rng("stage").random(5)
    draws = world.rng("potentiostat").random(3)
    assert list(other_order.rng("potentiostat").random(3)) == list(draws)
    assert list(world.rng("stage").random(3)) != list(draws)
    reseeded = World.from_toml(with_line(tmp_path, "seed = 1", "seed = 2"))
    assert list(reseeded.rng("potentiostat").random(3)) != list(draws)


def test_noise_of_a_stage_follows_from_the_seed_of_the_world(tmp_path: Path) -> None:
    first, same = World.from_toml(ALOCL), World.from_toml(ALOCL)
    reseeded = World.from_toml(with_line(tmp_path, "seed = 1", "seed = 2"))
    reading_k = first.stage("stage").sensor_reading_k(3.0)
    assert same.stage("stage").sensor_reading_k(3.0) == reading_k
    assert reseeded.stage("stage").sensor_reading_k(3.0) != reading_k


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "thickness_mm = 1.0",
            "thickness_mm = -1.0",
            "cells.pellet.thickness_mm = -1.0: expected a number above 0",
        ),
        (
            "thickness_mm = 1.0",
            'thickness_mm = "1 mm"',
            "cells.pellet.thickness_mm = '1 mm': expected a number above 0",
        ),
        (
            "thickness_mm = 1.0",
            "thickness_mm = true",
            "cells.pellet.thickness_mm = True: expected a number above 0",
        ),
        (
            "thickness_mm = 1.0",
            "thickness_mm = inf",
            "cells.pellet.thickness_mm = inf: expected a number above 0",
        ),
        ("thickness_mm = 1.0", "", "cells.pellet.thickness_mm: missing; expected a number above 0"),
        (
            "thickness_mm = 1.0",
            "thickness_um = 1000.0",
            "cells.pellet.thickness_um = 1000.0: unknown key; expected one of thickness_mm,",
        ),
        (
            "grain_boundary_share = 0.3",
            "grain_boundary_share = 1",
            "cells.pellet.grain_boundary_share = 1: expected a number above 0 and below 1",
        ),
        (
            "base_temperature_c = 5.0",
            "base_temperature_c = -300",
            "stages.chamber.base_temperature_c = -300: expected a number of at least -273.15",
        ),
        (
            'stage = "chamber"\nthickness',
            'stage = "oven"\nthickness',
            "cells.pellet.stage = 'oven': expected one of 'chamber'",
        ),
        (
            'stage = "chamber"\nthickness',
            "thickness",
            "cells.pellet.stage: missing; expected one of 'chamber'",
        ),
        (
            'cell = "pellet"',
            'cell = "disc"',
            "instruments.potentiostat.cell = 'disc': expected one of 'pellet'",
        ),
        ("seed = 1", "seed = -1", "seed = -1: expected a whole number of at least 0"),
        ("seed = 1", "seeds = 1", "seeds = 1: unknown key; expected one of seed, stages"),
        ("seed = 1", "seed = ", "not a TOML file"),
    ],
)
def test_a_mistake_is_answered_with_file_key_value_and_what_was_expected(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    path = with_line(tmp_path, old, new)
    with pytest.raises(ValueError) as caught:
        World.from_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["stages = 3", "[stages]\nchamber = 3"])
def test_a_section_that_is_not_made_of_tables_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "world.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"= 3: expected a table \[stages.NAME\]"):
        World.from_toml(path)
