"""`labctl watch` and `labctl send`, beside a link that says what a run would."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from rich.console import Console

from labctl.cli.watch_view import picture_view
from labctl.documents import Document, Kind, encode
from labctl.store.sqlite import STORE_NAME
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.link import Link
from labctl.stream.mqtt import Message
from labctl.stream.status import ChannelState, ChannelStatus, RigState, RigStatus
from labctl.stream.watching import Watcher

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUNNING = ChannelStatus(
    state=ChannelState.RUNNING,
    run_id="r1",
    protocol="temperature_eis",
    sample="pellet-1",
    step=5,
    steps=24,
    step_key="03-heating-40.0C/settle",
    note="stage +0.35 K from setpoint",
    progress=0.43,
    elapsed_s=1200.0,
    time_left_s=1500.0,
    temperature_k=313.5,
    setpoint_k=313.15,
    last_point={"frequency_hz": 1e3, "z_real_ohm": 400.0, "z_imag_ohm": -5.0},
    session="s1",
)


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """A link as `labctl run` has it, in the data folder of the commands."""
    data = tmp_path / "data"
    store_path = data / STORE_NAME
    with Link(outbox_path=data / "outbox.sqlite", rig="bench", store_path=store_path) as link:
        link.show("cell-1", RUNNING)
        yield link


def test_in_a_second_terminal_nothing_has_to_be_named(link, command, tmp_path) -> None:
    said = command(tmp_path, "watch", "--once")
    assert said.exit_code == 0, said.err
    for text in ("bench", "online", "cell-1", "running", "40.35 degC", "5 of 24", "43%", "25 min"):
        assert text in said.out


def test_once_as_json_is_an_object_a_line(link, command, tmp_path) -> None:
    said = command(tmp_path, "watch", "bench", "--once", "--json")
    rows = [orjson.loads(line) for line in said.out.splitlines()]
    assert [row["kind"] for row in rows] == ["broker", "rig", "channel"]
    assert rows[1]["state"] == "online"
    assert (rows[2]["state"], rows[2]["step_key"]) == ("running", "03-heating-40.0C/settle")
    assert rows[2]["session"] == rows[1]["session"]


def test_a_stage_at_its_setpoint_is_not_minus_nothing_away(tmp_path, command) -> None:
    data = tmp_path / "data"
    at_setpoint = RUNNING.model_copy(update={"temperature_k": 313.146})
    with Link(
        outbox_path=data / "outbox.sqlite", rig="bench", store_path=data / STORE_NAME
    ) as link:
        link.show("cell-1", at_setpoint)
        said = command(tmp_path, "watch", "--once")
    assert "(+0.00 K)" in said.out


@pytest.mark.realtime
def test_once_says_that_nothing_is_heard(labctl, tmp_path) -> None:
    said = labctl("watch", "bench", "--once")
    assert said.exit_code == 1
    assert said.err == (
        "labctl: error: nothing heard of rig bench within 5 s "
        f"(no run goes on in {tmp_path / 'data'})\n"
    )


def test_a_running_rig_answers_a_ping(link, command, tmp_path) -> None:
    said = command(tmp_path, "send", "ping")
    assert said.exit_code == 0, said.err
    assert said.json["labctl_version"]


def test_a_command_that_is_refused_is_one_line(link, command, tmp_path) -> None:
    said = command(tmp_path, "send", "start", "--set", "x=1")
    assert (said.exit_code, said.out) == (1, "")
    assert said.err == (
        "labctl: error: bench: start: refused: unknown verb 'start'; there are: ping\n"
    )


def test_without_a_run_there_is_nobody_to_send_to(labctl) -> None:
    said = labctl("send", "ping")
    assert said.exit_code == 2
    assert said.err.startswith("labctl: error: no run goes on in ")


@pytest.mark.parametrize("wrong", [("--mqtt", "http://x"), ("--mqtt", "mqtt://far.lab")])
def test_a_broker_that_cannot_be_is_refused(labctl, wrong) -> None:
    said = labctl("watch", "--once", *wrong)
    assert said.exit_code == 2
    assert said.err.count("\n") == 1


@pytest.fixture
def broker() -> Iterator[str]:
    broker = EmbeddedBroker()
    address = broker.start()
    yield f"mqtt://{address.username}:{address.password}@127.0.0.1:{address.port}"
    broker.stop()


def heard(watch: subprocess.Popen[str], wanted: str) -> list[str]:
    """Return the lines of a watch up to the one that holds what is wanted."""
    assert watch.stdout is not None
    lines: list[str] = []
    for line in watch.stdout:
        lines.append(line.rstrip())
        if re.search(wanted, line):
            return lines
    raise AssertionError(f"{wanted!r} was not said: {lines}")


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["lines", "json"])
def test_a_run_is_followed_from_its_start_to_its_end(
    options,
    broker: str,
    start: Callable[..., subprocess.Popen[str]],
    command,
    write_bench,
    quick: dict[str, Any],
    tmp_path: Path,
) -> None:
    write_bench(tmp_path)
    settings = [f"--set={key}={orjson.dumps(value).decode()}" for key, value in quick.items()]
    files = ["--rig", "rig.toml", "--sample", "sample.toml", *settings]
    with start(tmp_path, "watch", "--mqtt", broker, *options) as watch:
        try:
            heard(watch, "connected to|problem.:null")
            said = command(
                tmp_path, "run", "temperature_eis", *files, "--simulate", "--mqtt", broker
            )
            assert said.exit_code == 0, said.err
            lines = heard(watch, "offline")
        finally:
            watch.kill()
    assert any("online" in line for line in lines)
    assert any("completed" in line and "cell-1" in line for line in lines)
    assert broker.partition("@")[0] not in "".join(lines)


def drawn(watcher: Watcher, height: int | None = None) -> str:
    paper = StringIO()
    Console(file=paper, width=100).print(picture_view(watcher, width=100, height=height))
    return paper.getvalue()


def told(*statuses: tuple[str, bytes]) -> Watcher:
    watcher = Watcher(lambda: None)
    for topic, payload in statuses:
        watcher.picture.take(Message(f"labctl/{topic}", payload, 0, 0))
    return watcher


ONLINE = RigStatus(state=RigState.ONLINE, session="s1").wire()


def document(kind: Kind, body: dict[str, Any]) -> bytes:
    return encode(Document("r1", 0, kind, body))


def test_the_newest_points_and_the_last_fit_are_drawn() -> None:
    columns = {"frequency_hz": [9.0, 12.6], "z_real_ohm": [1.0, 1234.0], "z_imag_ohm": [0.0, -56.0]}
    page = document(Kind.EVENT_PAGE, {"stream": "eis", "n_points": 2, "columns": columns})
    sigma = {"sigma_s_per_cm": 1e-3, "u_sigma_s_per_cm": 1e-5}
    fit = {"temperature_k": 303.15, "r_total_ohm": 396.3, "conductivity": sigma}
    event = document(Kind.EVENT, {"stream": "fit", "time": "2026-01-01T00:00:00Z", "data": fit})
    text = drawn(
        told(
            ("bench/status", ONLINE),
            ("bench/channel/cell-1/status", RUNNING.wire()),
            ("bench/run/r1/doc", page + b"\n" + b"no document" + b"\n" + event),
        )
    )
    assert "12.6 Hz: 1.234 kohm, imaginary -56 ohm" in text
    assert "30.00 degC: 396.3 ohm, 1.000(10)e-03 S/cm" in text


def test_a_crash_in_a_run_is_drawn_as_unknown_with_its_reason() -> None:
    offline = RigStatus(state=RigState.OFFLINE, session="s1", reason="contact lost").wire()
    text = drawn(told(("bench/channel/cell-1/status", RUNNING.wire()), ("bench/status", offline)))
    assert "unknown" in text
    assert "interrupted? The rig went offline in this run: contact lost" in text
    assert "left" not in text


def test_what_is_wrong_with_a_rig_is_drawn() -> None:
    degraded = RigStatus(state=RigState.DEGRADED, session="s1", reason="recorder: disk full")
    assert "degraded: recorder: disk full" in drawn(told(("bench/status", degraded.wire())))


def test_many_channels_are_a_line_each_where_cards_do_not_fit() -> None:
    said = [(f"rig-{n}/status", ONLINE) for n in range(9)]
    said += [(f"rig-{n}/channel/cell-1/status", RUNNING.wire()) for n in range(9)]
    text = drawn(told(*said), height=24)
    assert len(text.splitlines()) <= 12
    assert text.count("running") == 9
