"""The access list of docs/reference/mqtt.md suffices, in a real Mosquitto."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labctl.documents import Document, Kind
from labctl.store.sqlite import SqliteStore
from labctl.stream.link import Link
from labctl.stream.mqtt import broker_address
from labctl.stream.recorder import Recorder
from labctl.stream.sending import send_command
from labctl.stream.status import ChannelState, ChannelStatus
from labctl.stream.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labctl.stream.mqtt import BrokerAddress

pytestmark = pytest.mark.server

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "mqtt.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?:a |`labctl )(\w+)`? \| (.*) ?\| (.*) \|$", re.MULTILINE)


def access_list() -> str:
    """Return the page's table as Mosquitto's access list, a user for each row."""
    _, _, table = PAGE.partition("## What an access list must allow")
    lines: list[str] = []
    for user, *cells in ROW.findall(table):
        lines.append(f"user {user}")
        for access, cell in zip(("write", "read"), cells, strict=True):
            topics = re.findall(r"`([^`]+)`", cell)
            lines += [f"topic {access} {topic.replace('<rig>', 'bench')}" for topic in topics]
    return "\n".join(lines) + "\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[[str], BrokerAddress]]:
    """Gives the address of a Mosquitto that keeps to the page's list, for a user of it."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("the program mosquitto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (tmp_path / "access").write_text(access_list())
    (tmp_path / "access").chmod(0o600)
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"
        f"acl_file {tmp_path / 'access'}\nlog_dest stderr\n"
    )
    with subprocess.Popen(
        [program, "-c", str(config)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            assert any("running" in line for line in process.stderr)
            yield lambda user: broker_address(f"mqtt://{user}:x@127.0.0.1:{port}")
        finally:
            process.kill()


async def at_work(broker: Callable[[str], BrokerAddress], folder: Path) -> tuple[str | None, str]:
    """Let a run be recorded, watched and asked; return its problem and what was seen of it."""
    page = {"stream": "eis", "n_points": 1, "columns": {"a": [0.5]}}
    watcher = Watcher(lambda: broker("watch"))
    link = Link(outbox_path=folder / "outbox.sqlite", rig="bench", mqtt=broker("rig"))
    with closing(SqliteStore(folder / "labctl.sqlite")) as store, link:
        recorder = Recorder(store, broker("recorder"), recorder_id="far")
        tasks = [asyncio.create_task(each.run()) for each in (recorder, watcher)]
        link.show("cell-1", ChannelStatus(state=ChannelState.RUNNING, run_id="r1"))
        # Document 0 is missing: the recorder has to ask for it, and is answered.
        await link.put(Document("r1", 1, Kind.EVENT_PAGE, page))
        left = await link.drain(20)
        pong = await send_command(broker("send"), "bench", "ping", {}, timeout_s=20)
        async with asyncio.timeout(20):
            while not (watcher.picture.runs and watcher.picture.rigs["bench"].channels):
                await link.drain(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (left, bool(pong["session"])) == (0, True)
        return link.problem, watcher.picture.rigs["bench"].state


async def test_who_has_the_rights_of_the_page_can_work(broker, tmp_path) -> None:
    problem, state = await at_work(broker, tmp_path)
    assert "recorder far lacks some of documents 0 to 0" in (problem or "")
    assert state in ("online", "degraded")
