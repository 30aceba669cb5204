"""docs/reference/mqtt.md against a real Mosquitto, while a real simulated run publishes."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from labctl import assembly
from labctl.stream.link import Link
from labctl.stream.mqtt import broker_address
from labctl.stream.sending import send_command

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.server

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "mqtt.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^mosquitto_sub .*$", PAGE, re.MULTILINE)
EXAMPLES = re.findall(r"^### `(labctl/[^`]+)`\n\n```json\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"the program {name} is not installed")
    return found


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Mosquitto of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n")
    command = [program("mosquitto"), "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(re.search(r"version \S+ running", line) for line in process.stderr)
            yield port
        finally:
            process.kill()


@contextmanager
def listening(command: str, port: int, output: Path) -> Iterator[None]:
    """Let a command of the page listen meanwhile; it has subscribed when the body begins."""
    # Line by line: into a file it would write blocks, and nobody would see that it has subscribed.
    words = [program("stdbuf"), "-oL", program("mosquitto_sub"), *shlex.split(command)[1:]]
    words += ["-p", str(port), "-d"]
    with output.open("w") as file, subprocess.Popen(words, stdout=file) as process:
        try:
            while "received SUBACK" not in output.read_text():
                with pytest.raises(subprocess.TimeoutExpired):  # it goes on
                    process.wait(0.02)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def heard(
    port: int,
    tmp_path_factory: pytest.TempPathFactory,
    write_bench: Any,
    quick: dict[str, Any],
) -> dict[str, str]:
    """What each command of the page prints while a run is simulated and a rig is pinged."""
    folder = tmp_path_factory.mktemp("reference")
    write_bench(folder)
    url = f"mqtt://127.0.0.1:{port}"
    request = assembly.RunRequest(
        protocol="temperature_eis",
        rig=folder / "rig.toml",
        sample=folder / "sample.toml",
        parameters=quick,
        data=folder / "data",
        mqtt=url,
        is_simulated=True,
    )
    files = {command: folder / f"{number}.txt" for number, command in enumerate(COMMANDS)}
    with ExitStack() as stack:
        for command, file in files.items():
            stack.enter_context(listening(command, port, file))
        assert assembly.run(request, lambda _: None).undelivered == ""
        with Link(outbox_path=folder / "other.sqlite", rig="bench", mqtt=url):
            asyncio.run(send_command(broker_address(url), "bench", "ping"))
        while "reply" not in files[COMMANDS[-1]].read_text():
            threading.Event().wait(0.02)
    return {command: file.read_text() for command, file in files.items()}


def messages(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the topic and the first object of each message that `mosquitto_sub -v` printed."""
    found = re.findall(r"^(labctl/\S+) (\{.*\})$", text, re.MULTILINE)
    return [(topic, orjson.loads(payload)) for topic, payload in found]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_prints_messages(command, heard):
    lines = [line for line in heard[command].splitlines() if not line.startswith("Client ")]
    assert any(line.endswith("}") and '"' in line for line in lines)


@pytest.mark.parametrize(("topic", "example"), EXAMPLES, ids=[topic for topic, _ in EXAMPLES])
def test_an_example_has_the_keys_of_what_was_really_sent(topic, example, heard):
    pattern = re.sub(r"<[^>]+>", "[^/]+", topic)
    said = [
        message for name, message in messages(heard[COMMANDS[-1]]) if re.fullmatch(pattern, name)
    ]
    assert said
    assert list(orjson.loads(example)) in [list(message) for message in said]


def test_every_topic_that_was_heard_is_on_the_page(heard):
    patterns = [re.sub(r"<[^>]+>", "[^/]+", topic) for topic, _ in EXAMPLES]
    for topic, _ in messages(heard[COMMANDS[-1]]):
        assert any(re.fullmatch(pattern, topic) for pattern in patterns), topic
    for topic, _ in EXAMPLES:
        assert f"| `{topic}` |" in PAGE
