"""Files: what a rig, a sample and a run's parameters may hold, and what is said if they do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl.config import RigConfig, SampleConfig, load, load_rig, read_toml, validate
from labctl.errors import BadInputError
from labctl.quantities import kelvin

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def rig(tmp_path: Path, write_bench: Callable[..., Path]) -> Path:
    return write_bench(tmp_path) / "rig.toml"


def test_a_rig_file_s_quantities_are_si(rig: Path) -> None:
    config = load_rig(rig)
    cooling = config.instruments["stage"].cooling
    assert config.telemetry_interval == 10.0
    assert cooling is not None
    assert cooling.base_temperature == pytest.approx(kelvin(5.0))
    assert cooling.time_constant == 3600.0
    assert cooling.margin == 5.0


def test_a_rig_s_world_is_beside_it_wherever_it_is_read_from(rig: Path) -> None:
    simulation = load_rig(rig).simulation
    assert simulation is not None
    assert simulation.world == rig.parent / "world.toml"


def test_a_sample_without_geometry_is_a_sample() -> None:
    sample = validate(SampleConfig, {"name": "pellet-7"}, source="sample.toml")
    assert sample.thickness is None
    assert sample.diameter is None


def two_channels(first: int | None, second: int | None) -> dict[str, Any]:
    """Return two channels of one potentiostat at these inputs of its multiplexer."""
    wired = {"potentiostat": "potentiostat", "stage": "stage"}
    inputs = {"cell-1": first, "cell-2": second}
    return {
        name: wired if number is None else {**wired, "multiplexer_input": number}
        for name, number in inputs.items()
    }


RIG = {
    "name": "bench",
    "instruments": {
        "potentiostat": {"driver": "palmsens-emstat4-hr", "address": "ASRL1::INSTR"},
        "stage": {"driver": "lakeshore-336", "address": "ASRL2::INSTR"},
    },
    "channels": {"cell-1": {"potentiostat": "potentiostat", "stage": "stage"}},
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"nam": "bench"}, "rig.toml: nam: unknown key"),
        ({"name": "my bench"}, "rig.toml: name = 'my bench': "),
        ({"channels": {}}, "rig.toml: channels = {}: "),
        (
            {"channels": {"cell-1": {"potentiostat": "potentiostat"}}},
            "rig.toml: channels.cell-1.stage: missing",
        ),
        (
            {"channels": {"cell-1": {"potentiostat": "potentiostat", "stage": "oven"}}},
            "rig.toml: channels.cell-1.stage: no instrument 'oven'; there are potentiostat, stage",
        ),
        (
            {"telemetry_interval": "10 V"},
            "rig.toml: telemetry_interval = '10 V': expected a time, such as \"10 min\"",
        ),
        (
            {"telemetry_interval": 10},
            "rig.toml: telemetry_interval = 10: expected a time with its unit in quotes",
        ),
        ({"instruments": [1, 2]}, "rig.toml: instruments = [1, 2]: expected a table"),
        ({"simulation": "world.toml"}, "rig.toml: simulation = 'world.toml': expected a table"),
        (
            {"channels": two_channels(None, None)},
            "rig.toml: channels.cell-1.multiplexer_input: missing; expected a whole number from 1",
        ),
        (
            {"channels": two_channels(1, None)},
            "rig.toml: channels.cell-2.multiplexer_input: missing; expected a whole number from 1",
        ),
        (
            {"channels": two_channels(2, 2)},
            "rig.toml: channels.cell-2.multiplexer_input = 2: channel 'cell-1' has it already",
        ),
        (
            {"channels": two_channels(0, 1)},
            "rig.toml: channels.cell-1.multiplexer_input = 0: ",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        validate(RigConfig, {**RIG, **change}, source="rig.toml")
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_each_wrong_key_has_its_line() -> None:
    wrong = {"name": "pellet", "thickness": "1 V", "diameter": "-1 mm"}
    with pytest.raises(BadInputError) as caught:
        validate(SampleConfig, wrong, source="sample.toml")
    assert str(caught.value).splitlines() == [
        "sample.toml: thickness = '1 V': expected a length, such as \"1.0 mm\"",
        "sample.toml: diameter = '-1 mm': Input should be greater than 0",
    ]


def test_an_error_names_where_its_own_key_was_given() -> None:
    with pytest.raises(BadInputError, match=r"^--set: diameter = '3': expected a length"):
        validate(
            SampleConfig,
            {"name": "pellet", "diameter": "3"},
            source="sample.toml",
            sources={"diameter": "--set"},
        )


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "rig.toml").write_text('name = "bench"\ninstruments = [1,\n')
    with pytest.raises(BadInputError, match=r"rig\.toml: not valid TOML: .*"):
        read_toml(tmp_path / "rig.toml")
    (tmp_path / "rig.toml").write_text('name = "bench"\nchannels = yes\n')
    with pytest.raises(BadInputError, match=r"rig\.toml: not valid TOML: .*line 2"):
        read_toml(tmp_path / "rig.toml")


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    (tmp_path / "rig.toml").write_bytes(b"name = \xff")
    with pytest.raises(BadInputError, match=r"rig\.toml: not valid TOML"):
        read_toml(tmp_path / "rig.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        read_toml(tmp_path)


@pytest.mark.parametrize("file", sorted(DOCS.rglob("rig.toml")), ids=lambda file: file.parent.name)
def test_the_documentation_s_rigs_are_rigs(file: Path) -> None:
    assert load_rig(file).channels


@pytest.mark.parametrize(
    "file", sorted(DOCS.rglob("sample.toml")), ids=lambda file: file.parent.name
)
def test_the_documentation_s_samples_are_samples(file: Path) -> None:
    sample = load(SampleConfig, file)
    assert sample.thickness or sample.nominal_capacity


@pytest.mark.parametrize("name", ["LLZO pellet", "µ-LiCl", "a/b", "電池 3", "x" * 64, "[red]"])
def test_a_sample_is_called_what_people_call_it(name: str) -> None:
    assert validate(SampleConfig, {"name": name}, source="sample.toml").name == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_what_cannot_be_read_is_no_sample_name(name: str) -> None:
    with pytest.raises(BadInputError, match=r"name = .*: expected 1 to 64 printable characters"):
        validate(SampleConfig, {"name": name}, source="sample.toml")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": "our bench"}, "rig.toml: name = 'our bench'"),
        ({"instruments": {"µ": RIG["instruments"]["stage"]}}, "rig.toml: instruments.µ"),
        ({"channels": {"cell/1": RIG["channels"]["cell-1"]}}, "rig.toml: channels.cell/1"),
    ],
)
def test_names_that_become_topics_have_their_rule_in_words(
    change: dict[str, Any], place: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        validate(RigConfig, {**RIG, **change}, source="rig.toml")
    assert str(caught.value).startswith(place)
    assert "expected a name of at most 64 letters (A-Z), digits, _ . - that" in str(caught.value)
