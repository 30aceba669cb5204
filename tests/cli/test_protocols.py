"""Which experiments there are, and a first one of one's own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from labctl.instruments import registry

if TYPE_CHECKING:
    from pathlib import Path


def test_every_protocol_is_listed_with_what_it_does(labctl: Any) -> None:
    said = labctl("protocols", "--json")
    listed = json.loads(said.out)
    assert [each["name"] for each in listed] == registry.names("labctl.protocols")
    assert all(each["summary"] for each in listed)


def test_every_parameter_has_a_meaning(labctl: Any) -> None:
    for name in registry.names("labctl.protocols"):
        about = json.loads(labctl("protocols", name, "--json").out)
        assert not [each["name"] for each in about["parameters"] if not each["meaning"]], name


def test_a_default_is_written_as_a_file_takes_it(labctl: Any) -> None:
    about = json.loads(labctl("protocols", "temperature_eis", "--json").out)
    defaults = {each["name"]: each["default"] for each in about["parameters"]}
    assert defaults["settle_window"] == "10 min"
    assert defaults["frequency_start"] == "200 kHz"
    assert defaults["probe_tolerance"] == "0.5 %"
    assert defaults["settle_band"] == "0.1 K"
    assert defaults["cooling_branch"] == "false"


def test_an_unknown_protocol_is_named_with_those_there_are(labctl: Any) -> None:
    said = labctl("protocols", "temperature_eiss")
    assert said.exit_code == 2
    assert "temperature_eiss" in said.err
    assert "there are: composition_series, " in said.err


def test_a_new_protocol_passes_its_own_test(labctl: Any, tmp_path: Path) -> None:
    said = labctl("new", "protocol", "first_look", "--folder", str(tmp_path))
    assert said.exit_code == 0, said.err
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_nothing_is_written_over(labctl: Any, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("kept")
    said = labctl("new", "protocol", "mine", "--folder", str(tmp_path))
    assert said.exit_code == 2
    assert "test_mine.py: is there already" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]


def test_a_name_that_is_none_is_refused(labctl: Any, tmp_path: Path) -> None:
    said = labctl("new", "protocol", "My-Protocol", "--folder", str(tmp_path))
    assert said.exit_code == 2
    assert "NAME = 'My-Protocol'" in said.err
