from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from labctl.documents import Document, Kind
from labctl.store.sqlite import STORE_NAME
from labctl.stream import permissions, reconnect, transfer
from labctl.stream.broker import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from labctl.stream.link import Link
    from labctl.stream.mqtt import BrokerAddress


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resend and reconnect after a fraction of the real waits."""
    monkeypatch.setattr(transfer, "_SILENCE_S", 0.2)
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(reconnect, "_LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(permissions, "_PATIENCE_S", 1.0)


def point(seq: int, run_id: str = "r1") -> Document:
    body = {"stream": "eis", "n_points": 1, "columns": {"a": [float(seq)], "b": [0.5]}}
    return Document(run_id, seq, Kind.EVENT_PAGE, body)


def points(n: int, run_id: str = "r1", first: int = 0) -> list[Document]:
    return [point(seq, run_id) for seq in range(first, first + n)]


def url_of(address: BrokerAddress) -> str:
    who = f"{address.username}:{address.password}@" if address.username else ""
    return f"mqtt://{who}{address.host}:{address.port}"


@pytest.fixture(name="points")
def points_fixture() -> Callable[..., list[Document]]:
    return points


@pytest.fixture(name="url_of")
def url_of_fixture() -> Callable[[BrokerAddress], str]:
    return url_of


async def problem_of(link: Link, words: str) -> str:
    """Return a link's problem once it says so."""
    async with asyncio.timeout(20):
        while words not in (link.problem or ""):
            await link.drain(0.02)
    return link.problem or ""


@pytest.fixture(name="problem_of")
def problem_of_fixture() -> Callable[[Link, str], Awaitable[str]]:
    return problem_of


@pytest.fixture
def broker() -> Iterator[BrokerAddress]:
    """A running embedded broker."""
    broker = EmbeddedBroker()
    yield broker.start()
    broker.stop()


@pytest.fixture
def outbox_path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / STORE_NAME


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mosquitto(
    tmp_path: Path, free_port: int
) -> Callable[..., AbstractContextManager[subprocess.Popen[str]]]:
    """Starts a Mosquitto of our own on the same free port each time; kills it at the end."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("the program mosquitto is not installed")

    @contextmanager
    def started(
        *, may_publish: bool = True, more: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        access = "topic readwrite #" if may_publish else "topic read #"
        (tmp_path / "access").write_text(f"{access}\n")
        (tmp_path / "access").chmod(0o600)
        config = tmp_path / "mosquitto.conf"
        config.write_text(
            f"listener {free_port} 127.0.0.1\nallow_anonymous true\n"
            f"acl_file {tmp_path / 'access'}\nlog_dest stderr\nuser root\n"
            + "".join(f"{line}\n" for line in more)
        )
        with subprocess.Popen(
            [program, "-c", str(config)], stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            try:
                assert any("running" in line for line in process.stderr)
                yield process
            finally:
                process.kill()

    return started
