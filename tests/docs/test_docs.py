"""What README and docs say is tried: commands, examples, links, and that nothing is left out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from labctl import assembly, campaign
from labctl.campaign_file import (
    CampaignConfig,
    CampaignRequest,
    EntryConfig,
    prepare_campaign,
)
from labctl.cli.main import app
from labctl.config import RigConfig, SampleConfig, load, load_rig, read_toml
from labctl.instruments import registry

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
EXAMPLES = ROOT / "docs" / "examples"
CAMPAIGNS = [*sorted(EXAMPLES.glob("*/campaign.toml")), EXAMPLES / "paper.toml"]
RIGS = sorted(path.parent for path in EXAMPLES.glob("*/rig.toml"))
# A bench for one run at a time has a sample; that of a campaign has a folder of them.
BENCHES = [folder for folder in RIGS if (folder / "sample.toml").is_file()]
# Named after their protocol; those of `temperature_eis` are called `parameters.toml`.
EXAMPLE_PARAMETERS = sorted(
    path
    for path in EXAMPLES.glob("*/*.toml")
    if path.stem in ("parameters", *registry.names("labctl.protocols"))
)
TUTORIAL = ROOT / "docs" / "tutorials" / "first-run.md"

# What the test suite cannot do inside itself.
NOT_RUN_HERE = {"uv run pytest"}
# How a command of README is spelt where labctl is installed already.
INSTALLED = "pip install uv && uv run "

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, without the indentation of their fence."""
    return [
        re.sub(rf"(?m)^{indent}", "", text)
        for indent, fence, text in _BLOCK.findall(page.read_text(encoding="utf-8"))
        if fence == language
    ]


def protocol_of(path: Path) -> str:
    """Return which protocol an example's parameter file is for."""
    return "temperature_eis" if path.stem == "parameters" else path.stem


def of_page(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def anchors(page: Path) -> set[str]:
    """Return what a link into a page may name: its headings as GitHub spells them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def reference(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tutorial_output(workplace) -> str:
    """What the tutorial's commands print; afterwards there is a run to look at."""
    return "".join(workplace.shell(block) for block in blocks(TUTORIAL, "sh"))


def test_the_tutorial_finds_what_was_put_in(tutorial_output):
    assert "completed: every expected point was measured" in tutorial_output
    energy = re.search(r"Ea = ([\d.]+)\(\d+\) eV.*from ln\(sigma T\)", tutorial_output)
    assert energy is not None
    assert float(energy[1]) == pytest.approx(0.42, abs=0.01)


@pytest.mark.parametrize("page", [p for p in pages_with("sh") if p != TUTORIAL], ids=of_page)
@pytest.mark.usefixtures("tutorial_output")
def test_the_commands_of_a_page_run(page, workplace, tmp_path):
    own = workplace.copied_to(tmp_path / "workplace")  # what it runs is not another's latest run
    for block in blocks(page, "sh"):
        commands = [line for line in block.splitlines() if line not in NOT_RUN_HERE]
        own.shell("\n".join(commands).replace(INSTALLED, ""))


@pytest.mark.parametrize("page", [ROOT / "README.md", TUTORIAL], ids=of_page)
@pytest.mark.usefixtures("tutorial_output")
def test_the_python_of_a_page_runs(page, workplace):
    for block in blocks(page, "python"):
        workplace.run(["python", "-c", block.replace("path/to/data", str(workplace.data))])


@pytest.mark.parametrize("page", pages_with("python"), ids=of_page)
def test_python_in_a_page_is_python(page):
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.parametrize("page", pages_with("toml"), ids=of_page)
def test_toml_in_a_page_is_toml(page):
    for block in blocks(page, "toml"):
        assert tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_lead_somewhere(page):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{of_page(page)}: {link}"
        assert not anchor or anchor in anchors(path), f"{of_page(page)}: {link}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=of_page)
def test_every_page_is_linked_from_another(page):
    links = {
        (other.parent / link.partition("#")[0]).resolve()
        for other in PAGES
        if other != page
        for link in _LINK.findall(other.read_text(encoding="utf-8"))
        if "://" not in link
    }
    assert page.resolve() in links


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_an_example_bench_holds_what_it_must(bench):
    assert load_rig(bench / "rig.toml").channels
    sample = load(SampleConfig, bench / "sample.toml")
    assert sample.thickness or sample.nominal_capacity
    assert sample.diameter


@pytest.mark.parametrize(
    "path", EXAMPLE_PARAMETERS, ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_an_example_s_parameters_pass_their_check(path):
    steps = assembly.check(
        assembly.RunRequest(
            protocol=protocol_of(path),
            rig=path.parent / "rig.toml",
            sample=path.parent / "sample.toml",
            parameters=read_toml(path),
            data=Path(),
        )
    )
    assert sum(step.expected_points for step in steps) > 0


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_an_example_bench_has_parameters(bench):
    assert any(path.parent == bench for path in EXAMPLE_PARAMETERS)


@pytest.mark.parametrize("file", CAMPAIGNS, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_an_example_campaign_passes_its_check(file):
    runs = campaign.check(CampaignRequest(file=file, data=Path()))
    assert all(sum(step.expected_points for step in run.steps) > 0 for run in runs)


@pytest.mark.parametrize("bench", RIGS, ids=lambda bench: bench.name)
def test_an_example_bench_has_simulated_twins(bench):
    config = load_rig(bench / "rig.toml")
    twins = assembly.simulated_devices(config, source=bench.name)
    assert twins.keys() == config.instruments.keys()


def test_every_example_file_belongs_to_a_bench():
    known = {"rig.toml", "sample.toml", "world.toml", "campaign.toml"}
    of_campaigns = {
        sample.request.sample
        for file in CAMPAIGNS
        for entry in prepare_campaign(CampaignRequest(file=file, data=Path())).entries
        for sample in entry.runs
    }
    for path in EXAMPLES.rglob("*.toml"):
        belongs = path in of_campaigns or path in CAMPAIGNS
        assert path.name in known or path in EXAMPLE_PARAMETERS or belongs
        assert belongs or path.parent in RIGS


@pytest.mark.parametrize("name", registry.names("labctl.drivers"))
def test_every_driver_has_a_line_a_chapter_and_a_simulator(name):
    page = reference("instruments.md")
    assert f"| `{name}` |" in page
    assert f"## {name}\n" in page
    assert name in registry.names("labctl.simulators")


@pytest.mark.parametrize("name", registry.names("labctl.drivers"))
def test_every_setting_of_a_driver_is_described(name):
    driver: Any = registry.find("labctl.drivers", name, source="test")
    _, _, chapter = reference("instruments.md").partition(f"## {name}\n")
    chapter, _, _ = chapter.partition("\n## ")
    for setting in driver.Settings.model_fields:
        assert f"| `{setting}` |" in chapter


@pytest.mark.parametrize("name", registry.names("labctl.protocols"))
def test_every_parameter_of_a_protocol_is_described(name):
    assert f"| `{name}` |" in reference("instruments.md")
    protocol: Any = registry.find("labctl.protocols", name, source="test")
    page = reference(f"{name.replace('_', '-')}.md")
    for parameter in protocol.parameters.model_fields:
        assert f"| `{parameter}` |" in page


def test_every_key_of_a_rig_file_is_described():
    page = reference("rig-file.md")
    for key in RigConfig.model_fields:
        assert re.search(rf"`\[?{key}\b", page), key


def test_every_key_of_a_campaign_file_is_described():
    page = reference("campaign-file.md")
    for key in (*CampaignConfig.model_fields, *EntryConfig.model_fields):
        assert re.search(rf"`\[*{key}\b", page), key


def test_every_key_of_a_sample_file_is_described():
    page = reference("sample-file.md")
    for key in SampleConfig.model_fields:
        assert re.search(rf"`\[?{key}\b", page), key


def test_every_command_and_option_is_described():
    page = reference("command-line.md")
    commands: Any = typer.main.get_command(app)
    for name, command in commands.commands.items():
        assert f"`labctl {name}" in page
        for parameter in command.params:
            options = [each for each in parameter.opts if each.startswith("--")]
            assert not options or any(f"`{each}" in page for each in options), (name, options)


def test_the_lock_pins_every_package_with_hashes_and_names_no_host():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    packages = [at for at, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    assert packages
    for at in packages:
        assert "==" in lines[at]
        assert lines[at + 1].strip().startswith("--hash=sha256:")
