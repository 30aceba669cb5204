"""`labctl analyze` on a file: what it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pellet(tmp_path: Path) -> Path:
    """A spectrum of an arc and a spike, with a little noise."""
    f = np.geomspace(2e5, 1.0, 50)
    s = 2j * np.pi * f
    z = 2e4 / (1 + (s * 1.6e-6) ** 0.95) + 1 / (1e-6 * s**0.88)
    rng = np.random.default_rng(0)
    z *= 1 + 0.002 * (rng.normal(size=50) + 1j * rng.normal(size=50))
    path = tmp_path / "my pellet.csv"
    table = np.stack([f, z.real, z.imag], axis=1)
    np.savetxt(path, table, delimiter=",", header="f,Re,Im", comments="")
    return path


def test_the_picture_has_the_name_of_the_file_and_the_residuals(labctl, pellet: Path) -> None:
    said = labctl("analyze", pellet.name, "--plot", "picture.svg")

    assert said.exit_code == 0, said.err
    drawn = (pellet.parent / "picture.svg").read_text()
    assert "my pellet" in drawn
    assert "|Z| / %" in drawn
    assert "imaginary" in drawn


def test_noise_is_refused_in_one_line(labctl, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table = np.stack([np.geomspace(2e5, 1, 55), *rng.normal(size=(2, 55))], axis=1)
    np.savetxt(tmp_path / "noise.csv", table, delimiter=",", header="f,Re,Im", comments="")

    said = labctl("analyze", "noise.csv")

    assert said.exit_code == 1
    assert said.err.startswith("labctl: error: ")
    assert said.err.count("\n") == 1
