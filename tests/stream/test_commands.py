"""What happens to a command, on the embedded broker and on Mosquitto."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from labctl.errors import BadInputError, LabctlError
from labctl.stream.commands import CommandReader
from labctl.stream.envelope import KEPT_AFTER_EXPIRY_S, MAX_BYTES, UNREADABLE
from labctl.stream.ledger import Ledger
from labctl.stream.link import Link
from labctl.stream.mqtt import Connection, broker_address, connected
from labctl.stream.sending import CommandRefusedError, RigSilentError, send_command
from labctl.stream.topics import command_topic, reply_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from labctl.stream.envelope import Command
    from labctl.stream.mqtt import BrokerAddress

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.server)])
def address(request: pytest.FixtureRequest, free_port: int) -> Iterator[BrokerAddress]:
    if request.param == "embedded":
        yield request.getfixturevalue("broker")
        return
    with request.getfixturevalue("mosquitto")():
        yield broker_address(f"mqtt://127.0.0.1:{free_port}")


class Desk:
    """Sends raw commands to a reader with a clock of its own, and hears every reply."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now = NOW
        self.carried_out: list[str] = []

    async def count(self, command: Command) -> dict[str, Any]:
        self.carried_out.append(command.cmd_id)
        return {"count": len(self.carried_out)}

    async def fail(self, command: Command) -> dict[str, Any]:
        raise LabctlError(f"no {command.args['what']} here")

    async def stumble(self, command: Command) -> dict[str, Any]:
        return {"what": object()}

    async def say(self, payload: bytes, verb: str = "count", *, retain: bool = False) -> None:
        await self.connection.publish(command_topic("bench", verb), payload, retain=retain)

    async def replies(self, n: int) -> list[dict[str, Any]]:
        """Return the next n replies."""
        heard: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while len(heard) < n:
                for message in await self.connection.receive(1):
                    self.connection.acknowledge(message)
                    reply = orjson.loads(message.payload)
                    assert message.topic == reply_topic("bench", reply["cmd_id"] or UNREADABLE)
                    assert not message.is_retained
                    heard.append(reply)
        return heard


def command(**changes: Any) -> bytes:
    body = {
        "cmd_id": "c1",
        "issued_at": NOW.isoformat(),
        "expires_at": (NOW + timedelta(seconds=10)).isoformat(),
        "rig_session": "s1",
        "args": {},
    }
    return orjson.dumps({**body, **changes})


@asynccontextmanager
async def reading(desk: Desk, address: BrokerAddress, tmp_path: Any) -> AsyncIterator[None]:
    """Let a reader of session s1 take commands meanwhile."""
    handlers = {"count": desk.count, "fail": desk.fail, "stumble": desk.stumble}
    with closing(Ledger(tmp_path / "commands.sqlite")) as ledger:
        reader = CommandReader(
            ledger,
            address,
            rig="bench",
            session_id="s1",
            handlers=handlers,
            now=lambda: desk.now,
        )
        task = asyncio.create_task(reader.run())
        try:
            await reader.ready.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def desk(address: BrokerAddress) -> AsyncIterator[Desk]:
    async with connected(address) as connection:
        await connection.subscribe(reply_topic("bench", "+"))
        yield Desk(connection)


async def test_a_command_is_accepted_and_done(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        accepted, done = await desk.replies(2)
    assert (accepted["state"], done["state"]) == ("accepted", "done")
    assert done["result"] == {"count": 1}
    assert done["session"] == "s1"


REFUSED = {
    "expired": (command(expires_at=NOW.isoformat()), "expired at"),
    "from the future": (
        command(
            issued_at=(NOW + timedelta(seconds=31)).isoformat(),
            expires_at=(NOW + timedelta(seconds=60)).isoformat(),
        ),
        "issued in the future",
    ),
    "for ever": (command(expires_at="2036-01-01T00:00:00Z"), "valid for too long"),
    "of another session": (command(rig_session="s0"), "meant for session s0"),
    "without a time": (orjson.dumps({"cmd_id": "c1"}), "issued_at: Field required"),
    "with a naive time": (command(issued_at="2026-11-25T12:00:00"), "timezone"),
    "with a number for a time": (command(issued_at=1.5), "issued_at"),
    "with a word too many": (command(force=True), "force: Extra inputs"),
    "with arguments that are a list": (command(args=[1]), "args"),
    "malformed": (b'{"cmd_id": "c1', "JSON"),
    "no object": (b"[]", "object"),
    "with an id that is no topic": (command(cmd_id="a/b"), "cmd_id"),
    "too large": (command(args={"x": "y" * MAX_BYTES}), "too large"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_command_is_refused_and_told_why(what, desk, address, tmp_path, caplog):
    payload, reason = REFUSED[what]
    async with reading(desk, address, tmp_path):
        await desk.say(payload)
        [refused] = await desk.replies(1)
    assert refused["state"] == "refused"
    assert reason in refused["reason"]
    assert refused["reason"] in caplog.text
    assert desk.carried_out == []


async def test_a_clock_that_is_a_little_ahead_is_tolerated(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command(issued_at=(NOW + timedelta(seconds=29)).isoformat()))
        assert (await desk.replies(2))[1]["state"] == "done"


async def test_an_unknown_verb_is_refused_with_those_there_are(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command(), "start")
        [refused] = await desk.replies(1)
    assert refused["reason"] == "unknown verb 'start'; there are: count, fail, ping, stumble"


async def test_a_retained_command_is_refused_at_every_reconnect(desk, address, tmp_path):
    await desk.say(command(), retain=True)
    for _ in range(3):
        async with reading(desk, address, tmp_path):
            [refused] = await desk.replies(1)
            assert "retained" in refused["reason"]
    await desk.say(b"", retain=True)
    async with reading(desk, address, tmp_path):
        await desk.say(command(cmd_id="c2"))
        assert [reply["cmd_id"] for reply in await desk.replies(2)] == ["c2", "c2"]
    assert desk.carried_out == ["c2"]


async def test_a_duplicate_has_the_first_one_s_answer(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        _, done = await desk.replies(2)
        await desk.say(command())
        [again] = await desk.replies(1)
    assert again == {**done, "is_repeat": True}
    assert desk.carried_out == ["c1"]


async def test_a_duplicate_is_known_after_a_restart_and_after_its_expiry(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        _, done = await desk.replies(2)
    desk.now = NOW + timedelta(minutes=5)
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        assert await desk.replies(1) == [{**done, "is_repeat": True}]


async def test_a_refusal_is_final(desk, address, tmp_path):
    early = command(issued_at=(NOW + timedelta(seconds=31)).isoformat())
    async with reading(desk, address, tmp_path):
        await desk.say(early)
        [refused] = await desk.replies(1)
        desk.now = NOW + timedelta(seconds=5)
        await desk.say(early)
        assert await desk.replies(1) == [{**refused, "is_repeat": True}]
    assert desk.carried_out == []


async def test_a_duplicate_is_known_though_the_clock_has_stood_wrong(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        _, done = await desk.replies(2)
        desk.now = NOW + timedelta(days=3)
        await desk.say(command(cmd_id="c2"))
        await desk.replies(1)
        desk.now = NOW + timedelta(seconds=5)
        await desk.say(command())
        assert await desk.replies(1) == [{**done, "is_repeat": True}]
    assert desk.carried_out == ["c1"]


async def test_the_next_session_forgets_ids_some_time_after_their_expiry(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        await desk.replies(2)
    desk.now = NOW + timedelta(seconds=10 + KEPT_AFTER_EXPIRY_S + 1)
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        [refused] = await desk.replies(1)
    assert "expired" in refused["reason"]
    assert not refused["is_repeat"]
    assert desk.carried_out == ["c1"]


async def test_a_command_that_cannot_be_remembered_is_not_carried_out(desk, address, tmp_path):
    async with reading(desk, address, tmp_path):
        with closing(Ledger(tmp_path / "commands.sqlite")) as other:
            other._connection.execute("DROP TABLE command")
        await desk.say(command())
        [refused] = await desk.replies(1)
    assert "cannot be remembered" in refused["reason"]
    assert desk.carried_out == []


@pytest.mark.parametrize(
    ("verb", "reason"), [("fail", "no heater here"), ("stumble", "SerializationError")]
)
async def test_a_command_that_fails_says_why_and_the_next_one_is_taken(
    verb, reason, desk, address, tmp_path
):
    async with reading(desk, address, tmp_path):
        await desk.say(command(args={"what": "heater"}), verb)
        _, failed = await desk.replies(2)
        await desk.say(command(cmd_id="c2"))
        assert (await desk.replies(2))[1]["state"] == "done"
    assert failed["state"] == "failed"
    assert reason in failed["reason"]


# Takes one command, and is stopped between remembering it and carrying it out.
DIE_BEFORE_ACTING = """
import asyncio, sys
from datetime import datetime
from pathlib import Path
from labctl.stream.commands import CommandReader
from labctl.stream.ledger import Ledger
from labctl.stream.mqtt import broker_address

async def act(command):
    print("acting", flush=True)
    await asyncio.Event().wait()

class Slow(CommandReader):
    def _begin(self, command, verb):
        print("remembered", flush=True)
        sys.stdin.read()

async def main(url, path, now):
    reader = Slow(Ledger(Path(path)), broker_address(url), rig="bench", session_id="s1",
                  handlers={"count": act}, now=lambda: datetime.fromisoformat(now))
    task = asyncio.create_task(reader.run())
    await reader.ready.wait()
    print("ready", flush=True)
    await task

asyncio.run(main(*sys.argv[1:]))
"""


def started(program: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_killed_between_remembering_and_acting_it_refuses_the_redelivery(
    desk, address, tmp_path, url_of
):
    path = str(tmp_path / "commands.sqlite")
    program = [sys.executable, "-c", DIE_BEFORE_ACTING, url_of(address), path, NOW.isoformat()]
    with started(program) as child:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "ready\n"
        await desk.say(command())
        assert await asyncio.to_thread(child.stdout.readline) == "remembered\n"
        child.kill()
    async with reading(desk, address, tmp_path):
        await desk.say(command())
        [refused] = await desk.replies(1)
    assert refused["state"] == "refused"
    assert refused["is_repeat"]
    assert "whether it was carried out then is not known" in refused["reason"]
    assert desk.carried_out == []


@pytest.fixture
def link(address, url_of, outbox_path):
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(address)) as link:
        yield link


async def test_a_link_answers_ping(link, address):
    pong = await send_command(address, "bench", "ping")
    assert pong.keys() == {"labctl_version", "python_version", "session", "time"}


async def test_the_sender_says_why_a_command_was_refused(link, address):
    with pytest.raises(CommandRefusedError, match="bench: start: refused: unknown verb 'start'"):
        await send_command(address, "bench", "start")


async def test_the_sender_says_that_nobody_is_there(address):
    with pytest.raises(RigSilentError, match=r"rig bench: no status within 0\.1 s"):
        await send_command(address, "bench", "ping", timeout_s=0.1)


async def test_the_sender_says_that_the_rig_has_gone(link, address):
    await send_command(address, "bench", "ping")
    await asyncio.to_thread(link.stop)
    with pytest.raises(RigSilentError, match=r"rig bench is offline \(ended\)"):
        await send_command(address, "bench", "ping")


async def test_the_sender_says_that_it_does_not_know_what_became_of_it(address):
    async with connected(address) as connection:
        mute = b'{"state": "online", "session": "s1"}'
        await connection.publish("labctl/bench/status", mute, retain=True)
        with pytest.raises(RigSilentError, match="whether it was carried out is not known"):
            await send_command(address, "bench", "ping", timeout_s=0.2)


@pytest.mark.parametrize("args", [{"x": "y" * MAX_BYTES}, {"x": object()}])
async def test_the_sender_refuses_arguments_that_cannot_travel(link, address, args):
    with pytest.raises(BadInputError, match="arguments"):
        await send_command(address, "bench", "ping", args)
