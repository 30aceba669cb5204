"""What is promised of the package as a whole: entry points, light imports, conventions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from labctl.instruments import registry
from labctl.instruments.capabilities import Driver
from labctl.run.protocol import Protocol

ROOT = Path(__file__).parents[1]
GROUPS = ("labctl.drivers", "labctl.simulators", "labctl.worlds", "labctl.protocols")
HEAVY = (
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "pyarrow",
    "pymeasure",
    "pyvisa",
    "pint",
    "amqtt",
    "aiomqtt",
)
DRIVERS = registry.names("labctl.drivers")


def entry_point_modules(group: str) -> dict[str, str]:
    """Return the module of each entry point of a group, without its package."""
    return {entry.name: entry.module.rpartition(".")[2] for entry in entry_points(group=group)}


@pytest.mark.parametrize("group", GROUPS)
def test_entry_points_load(group: str) -> None:
    entries = entry_points(group=group)
    assert entries
    for entry in entries:
        assert entry.load() is registry.find(group, entry.name, source="test")


def test_every_protocol_is_one_and_is_called_by_its_name() -> None:
    for name in registry.names("labctl.protocols"):
        protocol = registry.find("labctl.protocols", name, source="test")
        assert isinstance(protocol, Protocol)
        assert protocol.name == name
        assert protocol.summary


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_has_a_simulator_of_the_same_name(name: str) -> None:
    assert name in registry.names("labctl.simulators")
    modules = [entry_point_modules(group)[name] for group in GROUPS[:2]]
    assert modules[0] == modules[1]


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("folder", ["drivers", "simulators"])
def test_every_driver_has_a_dialogue_test_and_its_simulator_one_too(name: str, folder: str) -> None:
    file = ROOT / "tests" / folder / f"test_{entry_point_modules('labctl.drivers')[name]}.py"
    assert "def test_" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_has_what_a_rig_asks_of_it(name: str) -> None:
    kind = registry.find("labctl.drivers", name, source="test")
    assert kind.Settings.model_config["extra"] == "forbid"
    assert kind.Settings.model_config["frozen"]
    assert kind.limits
    for method in ("open", "close", "safe_state"):
        assert callable(getattr(kind, method))
    assert {"open", "close", "safe_state"} <= set(vars(Driver))


@pytest.mark.parametrize("name", DRIVERS)
def test_every_driver_s_module_names_interface_and_manual(name: str) -> None:
    module = sys.modules[registry.find("labctl.drivers", name, source="test").__module__]
    assert module.__doc__ is not None
    assert "Interface: " in module.__doc__
    assert "manual" in module.__doc__


CALLED = """
import sys
from labctl.cli.main import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit:
    pass
"""


def modules_after(statement: str) -> set[str]:
    """Return the packages that a fresh interpreter has imported after a statement."""
    probe = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import labctl",
        "from labctl.cli.main import main",
        CALLED.format(arguments=["--help"]),
        CALLED.format(arguments=["run", "--help"]),
    ],
    ids=["import labctl", "the command line's module", "labctl --help", "labctl run --help"],
)
def test_what_takes_long_to_import_is_not_imported_before_it_is_needed(statement: str) -> None:
    modules = modules_after(statement)
    assert "labctl" in modules
    assert modules & set(HEAVY) == set()


def test_a_run_s_modules_do_import_what_they_need() -> None:
    assert {"numpy", "pymeasure"} <= modules_after("import labctl.assembly\nimport pymeasure")


@pytest.mark.parametrize("package", ["labctl", "labctl_drivers", "labctl_protocols"])
def test_packages_are_typed(package: str) -> None:
    module = __import__(package)
    assert (Path(str(module.__file__)).parent / "py.typed").is_file()


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    folders = ("labctl", "drivers", "protocols", "simulators")
    files = [file for folder in folders for file in (ROOT / folder).rglob("__init__.py")]
    assert files
    for file in files:
        if file != ROOT / "labctl" / "__init__.py":  # the core re-exports open_store
            assert re.fullmatch(r'""".*?"""\n', file.read_text(encoding="utf-8"), re.DOTALL), file


def committed_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


INDEX = re.compile(r"https?://([\w.-]+)(?::\d+)?(?:/[\w.-]+)*/simple\b")
ANY_HOST = re.compile(r"https?://(?:[^/\s\"@]*@)?([\w.-]+)")
PUBLIC_INDEX = {"pypi.org", "files.pythonhosted.org"}


def test_no_committed_file_names_a_package_index_but_the_public_one() -> None:
    for file in committed_files():
        text = file.read_bytes().decode("utf-8", errors="ignore")
        hosts = ANY_HOST if file.suffix == ".lock" else INDEX
        assert set(hosts.findall(text)) <= PUBLIC_INDEX, file
