"""What every test may use: a bench's files to start from, and a watch for what a test leaves."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

DEMO = Path(__file__).parents[1] / "simulators" / "labctl_simulators" / "demo"
OUR_THREADS = ("bus-", "labctl-")
REQUIRE_SERVERS = "LABCTL_REQUIRE_SERVERS"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a server test that was skipped into a failure where servers are required."""
    report = yield
    if report.skipped and os.environ.get(REQUIRE_SERVERS) and item.get_closest_marker("server"):
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_SERVERS} is set, but {report.longrepr}"
    return report


@pytest.fixture
def left_behind() -> Callable[[], list[str]]:
    """Names labctl's own threads that live now and did not when the test began."""
    before = set(threading.enumerate())

    def now() -> list[str]:
        started = [thread for thread in threading.enumerate() if thread not in before]
        return [thread.name for thread in started if thread.name.startswith(OUR_THREADS)]

    return now


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(
    left_behind: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test that leaves threads, or tasks that its event loop had to cancel at its end."""
    orphans: list[str] = []
    cancel_all = asyncio.runners._cancel_all_tasks

    def watched(loop: asyncio.AbstractEventLoop) -> None:
        # The MQTT thread's loop ends the waits of others when it stops; that is its job.
        if threading.current_thread() is threading.main_thread():
            orphans.extend(str(task) for task in asyncio.all_tasks(loop) if _is_ours(task))
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", watched)
    yield
    assert not orphans, "asyncio tasks are left behind"
    assert not left_behind(), "threads are left behind"


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Return whether labctl or a test made a task; amqtt and asyncio see to their own."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and re.search(r"labctl|tests/", code.co_filename) is not None


def change_toml(path: Path, changes: Mapping[str, str]) -> None:
    """Replace values in a TOML file; a key must stand in exactly one place."""
    text = path.read_text()
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{re.escape(key)} = .*$", f"{key} = {value}", text)
        assert count == 1, f"{path}: {key} stands {count} times"
    path.write_text(text)


@pytest.fixture(name="change_toml", scope="session")
def change_toml_fixture() -> Callable[[Path, Mapping[str, str]], None]:
    return change_toml


@pytest.fixture(scope="session")
def write_bench() -> Callable[..., Path]:
    """Writes the demonstration's rig.toml, sample.toml, parameters.toml and world.toml."""

    def written(
        folder: Path, *, pellet: str = "alocl", world: Mapping[str, str] | None = None
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for file in (DEMO / pellet).glob("*.toml"):
            (folder / file.name).write_bytes(file.read_bytes())
        change_toml(folder / "world.toml", world or {})
        return folder

    return written


@pytest.fixture(scope="session")
def quick_world() -> dict[str, str]:
    """A bench that stands at 25 degC already and whose sample follows its stage at once."""
    return {"initial_temperature_c": "25.0", "sample_lag_s": "5.0", "sensor_lag_s": "5.0"}


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    """Parameters of a `temperature_eis` that takes two temperatures and a few minutes."""
    return {
        "temperatures": ["26 degC", "28 degC"],
        "ramp_rate": "5 K/min",
        "frequency_end": "100 Hz",
        "points_per_decade": 4,
        "settle_band": "0.5 K",
        "settle_slope": "0.5 K/min",
        "settle_window": "60 s",
        "probe_interval": "30 s",
        "probe_tolerance": "2 %",
    }


@pytest.fixture
def reference_data() -> Path:
    """The folder of real measured files; see its README for sources and licences."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LABCTL_REFERENCE_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no reference data: set LABCTL_REFERENCE_DATA to their folder")
    return folder
