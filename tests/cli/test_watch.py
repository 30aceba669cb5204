"""`labctl watch` and `labctl send`, beside a link that says what a run would."""

from __future__ import annotations

import asyncio
import re
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from rich.console import Console

from labctl.cli.watch_lines import JsonLines, PlainLines
from labctl.cli.watch_view import picture_view
from labctl.documents import Document, Kind, encode
from labctl.store.sqlite import STORE_NAME
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.link import Link
from labctl.stream.mqtt import Message
from labctl.stream.status import ChannelState, ChannelStatus, RigState, RigStatus
from labctl.stream.watching import Watcher
from labctl.stream.whereabouts import read_whereabouts

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

LABCTL = Path(sys.executable).parent / "labctl"
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


def document(kind: Kind, body: dict[str, Any], seq: int = 0) -> bytes:
    return encode(Document("r1", seq, kind, body))


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


SAID = {"state": "running", "run_id": "r1", "session": "s1"}
FIT_TIME = "2026-01-01T00:00:00Z"
ODD = [
    b'"time_left_s":1e999',
    b'"time_left_s":null',
    b'"elapsed_s":NaN',
    b'"progress":NaN',
    b'"progress":-1e300',
    b'"temperature_k":Infinity,"setpoint_k":NaN',
    b'"last_point":{"frequency_hz":1.0,"z_real_ohm":null}',
    b'"step":1180591620717411303424',
    b'"message":"lost [/dev/ttyUSB0]"',
    b'"step_key":"eis[/a]","sample":"[/]","protocol":"[red]"',
]


@pytest.mark.parametrize("height", [50, 5])
@pytest.mark.parametrize("said", ODD)
def test_whatever_a_channel_is_said_to_do_can_be_shown(said: bytes, height: int, capsys) -> None:
    body = orjson.dumps(SAID)[:-1] + b"," + said + b"}"
    names = ("cell-1", "[red]b", "[bold]c")
    watcher = told(
        ("[red]bench/status", ONLINE),
        *((f"[red]bench/channel/{name}/status", body) for name in names),
    )
    assert "[red]bench" in drawn(watcher, height)
    for show in (JsonLines(), PlainLines()):
        show(watcher)
    assert "Infinity" not in capsys.readouterr().out


def test_markup_and_control_characters_are_shown_as_text() -> None:
    said = RUNNING.model_copy(update={"message": "lost [/dev/ttyUSB0]\x1b[2J", "sample": "[red]x"})
    text = drawn(told(("bench/status", ONLINE), ("bench/channel/cell-1/status", said.wire())))
    assert "lost [/dev/ttyUSB0] [2J" in text
    assert "on [red]x" in text


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        (
            Kind.EVENT_PAGE,
            {"stream": "a[/b]", "n_points": 1, "columns": {"frequency_hz": [2.0]}},
            "frequency_hz 2",
        ),
        (
            Kind.EVENT,
            {"stream": "fit", "time": FIT_TIME, "data": {"r_total_ohm": 5.0}},
            "r_total_ohm 5",
        ),
        (
            Kind.EVENT,
            {
                "stream": "fit",
                "time": FIT_TIME,
                "data": {"temperature_k": 300.0, "r_total_ohm": None, "conductivity": {"x": 1}},
            },
            "temperature_k 300",
        ),
    ],
)
def test_points_and_fits_of_other_kinds_are_drawn_as_names_and_values(kind, body, shown) -> None:
    documents = ("bench/run/r1/doc", document(kind, body))
    channel = ("bench/channel/cell-1/status", RUNNING.wire())
    assert shown in drawn(told(("bench/status", ONLINE), channel, documents))


def test_every_new_point_is_an_object_and_one_that_comes_again_is_none(capsys) -> None:
    watcher = told(("bench/status", ONLINE), ("bench/channel/cell-1/status", RUNNING.wire()))
    show = JsonLines()
    show(watcher)
    capsys.readouterr()
    for seq in (1, 2, 3, 2):
        body = {"stream": "eis", "n_points": 1, "columns": {"x": [float(seq)]}}
        line = document(Kind.EVENT_PAGE, body, seq)
        watcher.picture.take(Message("labctl/bench/run/r1/doc", line, 0, 0))
        show(watcher)
    rows = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["last_points"]["eis"]["x"] for row in rows] == [1.0, 2.0, 3.0]


class SlowPipe:
    """Carries a connection to a broker and back, each byte so much later."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._broker_port = port
        self._delay_s = delay_s
        self.served: list[asyncio.Task[Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.served.append(task)
        there = await asyncio.open_connection("127.0.0.1", self._broker_port)
        await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while content := await reader.read(65536):
            loop.call_later(self._delay_s, writer.write, content)
        await asyncio.sleep(self._delay_s)
        writer.close()
        await writer.wait_closed()


@pytest.mark.realtime
async def test_once_waits_for_what_a_slow_link_brings(link, tmp_path) -> None:
    where = read_whereabouts(tmp_path / "data")
    assert where is not None
    who = f"{where.address.username}:{where.address.password}"
    pipe = SlowPipe(where.address.port, 0.35)
    async with await asyncio.start_server(pipe.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        arguments = ("watch", "--once", "--json", "--mqtt", f"mqtt://{who}@127.0.0.1:{port}")
        process = await asyncio.create_subprocess_exec(
            LABCTL, *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        await asyncio.gather(*pipe.served)
    assert [orjson.loads(line)["kind"] for line in out.splitlines()] == ["broker", "rig", "channel"]
