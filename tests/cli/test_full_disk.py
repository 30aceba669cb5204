"""A full disk does not block the only way to empty it."""

from __future__ import annotations

import subprocess
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from labctl.cli.main import app
from labctl.documents import Document, Kind
from labctl.store.reading import open_store
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.delivery import OUTBOX_NAME
from labctl.stream.link import Link
from labctl.stream.outbox import Outbox, OutboxLimits, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESERVE_BYTES = 500_000
N_DOCUMENTS = 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own: once it is full, SQLite meets a real ENOSPC."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "small", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@contextmanager
def recorder_elsewhere(folder: Path) -> Iterator[str]:
    """Records what the rig's runs say into a store on another disk; gives its broker's URL."""
    broker = EmbeddedBroker()
    address = broker.start()
    try:
        outbox_path, store_path = folder / OUTBOX_NAME, folder / "labctl.sqlite"
        with Link(outbox_path=outbox_path, rig="bench", mqtt=address, store_path=store_path):
            yield f"mqtt://{address.username}:{address.password}@{address.host}:{address.port}"
    finally:
        broker.stop()


def test_a_full_disk_is_emptied_by_drain(small_disk, tmp_path):
    limits = OutboxLimits(reserve_bytes=RESERVE_BYTES)
    with closing(Outbox(small_disk / OUTBOX_NAME, rig="bench", limits=limits)) as outbox:
        body = {"stream": "eis", "n_points": 1, "columns": {"a": [1.0]}}
        outbox.append(
            [entry_of(Document("r1", n, Kind.EVENT_PAGE, body)) for n in range(N_DOCUMENTS)]
        )
    fill(small_disk)
    with recorder_elsewhere(tmp_path / "elsewhere") as url:
        said = CliRunner().invoke(
            app, ["drain", "--data", str(small_disk), "--mqtt", url, "--timeout", "20"]
        )
    assert (said.exit_code, said.output.splitlines()[-1]) == (
        0,
        f"all {N_DOCUMENTS} documents are stored",
    )
    stored = open_store(tmp_path / "elsewhere").run("r1")
    assert len(stored.columns("eis")["a"]) == N_DOCUMENTS
