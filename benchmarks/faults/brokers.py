"""The brokers of the campaign: Mosquitto, and amqtt in a process of its own; both can be killed."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from benchmarks.faults.children import Child, python_child

if TYPE_CHECKING:
    from pathlib import Path

USERNAME = "labctl"
PASSWORD = "right"  # noqa: S105 - of a broker that lives for seconds on loopback


class MissingProgramError(RuntimeError):
    """A fault needs something that this machine lacks; says what."""


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on.

    Below those that a system gives to outgoing connections: a broker that was killed must find its
    port free when it comes back.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise MissingProgramError(f"the program {name} is not installed")
    return found


class Mosquitto:
    """A Mosquitto of our own, on the same port each time it is started."""

    def __init__(self, folder: Path, *, is_persistent: bool = False) -> None:
        self.port = free_port()
        self.environment: dict[str, str] = {}
        self._program = _program("mosquitto")
        self._folder = folder
        self._is_persistent = is_persistent
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The broker's URL, with the right credentials."""
        return url_of(self.port)

    def start(self, *, password: str = PASSWORD) -> None:
        """Start it and return when it listens."""
        config = self._folder / "mosquitto.conf"
        config.write_text(self._config(password))
        command = [self._program, "-c", str(config)]
        environment = self.environment or None
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self._process = process
        assert process.stderr is not None  # noqa: S101 - for the type checker
        if not any("running" in line for line in process.stderr):
            self.kill()
            raise RuntimeError(f"mosquitto does not start on port {self.port}")

    def kill(self) -> None:
        """Kill it, if it lives, and return when it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()

    def _config(self, password: str) -> str:
        passwords = self._folder / "passwords"
        command = [_program("mosquitto_passwd"), "-b", "-c", str(passwords), USERNAME, password]
        subprocess.run(command, check=True, capture_output=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {passwords}",
            "log_dest stderr",
            "log_type warning",
            "log_type notice",
            "log_type information",
            "connection_messages false",  # nobody reads on: a full pipe would stop it
            "user root",
        ]
        if self._is_persistent:
            lines += [
                "persistence true",
                f"persistence_location {self._folder}/",
                "autosave_interval 1",
            ]
        return "\n".join([*lines, ""])


class Amqtt:
    """The embedded broker's software in a process of its own, on the same port each time."""

    def __init__(self) -> None:
        self.port = free_port()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The broker's URL, with the right credentials."""
        return url_of(self.port)

    def start(self) -> None:
        """Start it and return when it listens."""
        arguments = {"port": self.port, "username": USERNAME, "password": PASSWORD}
        self._child = python_child("broker_process", arguments)
        self._child.until("ready")

    def kill(self) -> None:
        """Kill it, if it lives, and return when it is gone."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()


def url_of(port: int) -> str:
    """Return the URL of a broker, or of a proxy before it."""
    return f"mqtt://{USERNAME}:{PASSWORD}@127.0.0.1:{port}"
