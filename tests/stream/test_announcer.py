"""What a rig says about itself, and what a watcher makes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import pytest

from labctl.stream import announcer as announcer_module
from labctl.stream import watching
from labctl.stream.announcer import Announcer
from labctl.stream.link import Link
from labctl.stream.mqtt import broker_address, connected
from labctl.stream.status import (
    ChannelState,
    ChannelStatus,
    RigState,
    RigStatus,
    believed_state,
    read_status,
)
from labctl.stream.topics import channel_status_topic, status_topic
from labctl.stream.watching import Watcher
from labctl.stream.whereabouts import BROKER_FILE, read_whereabouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from labctl.stream.mqtt import BrokerAddress

RUNNING = ChannelStatus(state=ChannelState.RUNNING, run_id="r1", step=2, steps=5, step_key="b")
ENDED = RUNNING.model_copy(update={"state": ChannelState.ENDED, "outcome": "completed"})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(announcer_module, "_LOOK_S", 0.02)
    monkeypatch.setattr(watching, "_RETRY_S", 0.02)


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.server)])
def address(request: pytest.FixtureRequest, free_port: int) -> Iterator[BrokerAddress]:
    if request.param == "embedded":
        yield request.getfixturevalue("broker")
        return
    with request.getfixturevalue("mosquitto")():
        yield broker_address(f"mqtt://127.0.0.1:{free_port}")


@asynccontextmanager
async def watched(address: BrokerAddress | None) -> AsyncIterator[Watcher]:
    watcher = Watcher(lambda: address)
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def announcing(announcer: Announcer) -> AsyncIterator[None]:
    task = asyncio.create_task(announcer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; looked at whenever the loop has turned."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - what changes may be anything
            await asyncio.sleep(0.005)


def state(watcher: Watcher) -> str:
    rig = watcher.picture.rigs.get("bench")
    return rig.state if rig else ""


def channel_state(watcher: Watcher) -> str:
    rig = watcher.picture.rigs.get("bench")
    return rig.state_of("cell-1").value if rig and rig.channels else ""


@pytest.mark.parametrize(
    ("channel", "rig", "believed"),
    [
        (RUNNING, None, "unknown"),
        (RUNNING, RigStatus(state=RigState.OFFLINE, session=""), "unknown"),
        (RUNNING, RigStatus(state=RigState.ONLINE, session="another"), "unknown"),
        (RUNNING, RigStatus(state=RigState.ONLINE, session=""), "running"),
        (RUNNING, RigStatus(state=RigState.DEGRADED, session=""), "running"),
        (ENDED, RigStatus(state=RigState.OFFLINE, session=""), "ended"),
        (ENDED, None, "ended"),
    ],
)
def test_when_a_reader_believes_a_channel(channel, rig, believed):
    assert believed_state(channel, rig) == believed


@pytest.mark.parametrize("payload", [b"", b"online", b'{"state":"asleep","session":""}', b"[]"])
def test_what_is_no_status_says_nothing(payload):
    assert read_status(RigStatus, payload) is None


async def test_a_watcher_sees_a_rig_come_and_its_run_end(address):
    announcer = Announcer(address, rig="bench", session_id="s1")
    async with watched(address) as watcher:
        async with announcing(announcer):
            await until(lambda: state(watcher) == "online")
            announcer.show("cell-1", RUNNING)
            await until(lambda: channel_state(watcher) == "running")
            announcer.show("cell-1", ENDED)
        await until(lambda: state(watcher) == "offline")
        assert channel_state(watcher) == "ended"
        assert watcher.picture.rigs["bench"].alert_of("cell-1") == ""


async def test_a_status_is_published_only_when_it_has_changed(address):
    announcer = Announcer(address, rig="bench", session_id="s1")
    async with connected(address) as connection:
        await connection.subscribe(channel_status_topic("bench", "+"))
        async with announcing(announcer):
            for step in (1, 2, 2):
                announcer.show("cell-1", RUNNING.model_copy(update={"step": step}))
            [first] = await connection.receive(1)
            announcer.show("cell-1", RUNNING.model_copy(update={"step": 2}))
            announcer.show("cell-1", RUNNING.model_copy(update={"step": 3}))
            [second] = await connection.receive(1)
    assert [orjson.loads(m.payload)["step"] for m in (first, second)] == [2, 3]


async def test_a_run_that_ends_with_its_process_is_still_told(address):
    announcer = Announcer(address, rig="bench", session_id="s1")
    async with watched(address) as watcher:
        async with announcing(announcer):
            await until(lambda: state(watcher) == "online")
            announcer.show("cell-1", ENDED)
        await until(lambda: channel_state(watcher) == "ended")


async def test_a_trouble_that_lasts_makes_a_rig_degraded_until_it_is_over(address):
    troubles = {"recorder": "disk full"}
    announcer = Announcer(address, rig="bench", session_id="s1", find_troubles=lambda: troubles)
    async with watched(address) as watcher, announcing(announcer):
        await until(lambda: state(watcher) == "degraded")
        assert watcher.picture.rigs["bench"].status.reason == "recorder: disk full"
        troubles.clear()
        await until(lambda: state(watcher) == "online")


async def test_a_trouble_that_is_over_at_the_next_look_is_none(address):
    looks = [{"publisher": "not connected"}, {}, {"publisher": "lost"}, {}]
    announcer = Announcer(
        address, rig="bench", session_id="s1", find_troubles=lambda: looks.pop() if looks else {}
    )
    async with connected(address) as connection:
        await connection.subscribe(status_topic("bench"))
        async with announcing(announcer):
            await until(lambda: not looks)
        states = [orjson.loads((await connection.receive(1))[0].payload)["state"] for _ in "12"]
    assert states == ["online", "offline"]


async def test_a_link_says_what_it_is_told_is_wrong(address, url_of, outbox_path):
    async with watched(address) as watcher:
        with Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(address)) as link:
            link.report_trouble("outbox", "nearly full")
            await until(lambda: state(watcher) == "degraded")
            link.report_trouble("outbox", None)
            await until(lambda: state(watcher) == "online")
            link.show("cell-1", RUNNING)
            await until(lambda: channel_state(watcher) == "running")


async def test_a_late_last_will_does_not_make_a_living_rig_offline(address):
    announcer = Announcer(address, rig="bench", session_id="s2")
    async with connected(address) as connection, announcing(announcer):
        await connection.subscribe(status_topic("bench"))
        heard = await connection.receive(1)
        will = RigStatus(state=RigState.OFFLINE, session="s1").wire()
        await connection.publish(status_topic("bench"), will, retain=True)
        while len(heard) < 3:
            heard += await connection.receive(1)
    said = [orjson.loads(message.payload) for message in heard]
    states = [(status["state"], status["session"]) for status in said]
    assert states == [("online", "s2"), ("offline", "s1"), ("online", "s2")]


async def test_what_an_earlier_session_has_said_is_not_believed(address):
    async with connected(address) as connection:
        old = RUNNING.model_copy(update={"session": "s1"}).wire()
        await connection.publish(channel_status_topic("bench", "cell-1"), old, retain=True)
    announcer = Announcer(address, rig="bench", session_id="s2")
    async with watched(address) as watcher, announcing(announcer):
        await until(lambda: state(watcher) == "online" and channel_state(watcher) != "")
        assert channel_state(watcher) == "unknown"
        assert "started again since" in watcher.picture.rigs["bench"].alert_of("cell-1")


@pytest.mark.server
async def test_a_watch_lives_through_a_broker_that_comes_late_and_is_restarted(
    mosquitto, free_port
):
    address = broker_address(f"mqtt://127.0.0.1:{free_port}")
    announcer = Announcer(address, rig="bench", session_id="s1")
    announcer.show("cell-1", RUNNING)
    async with watched(address) as watcher, announcing(announcer):
        await until(lambda: "refused" in (watcher.problem or ""))
        for _ in range(2):
            with mosquitto():
                await until(lambda: channel_state(watcher) == "running")
                assert state(watcher) == "online"
            await until(lambda: state(watcher) == "unknown")
            assert channel_state(watcher) == "unknown"


async def test_a_watch_waits_for_a_broker_that_is_not_known_yet():
    async with watched(None) as watcher:
        await until(lambda: watcher.problem == "no broker is known")


async def test_what_others_have_subscribed_to_is_not_sent_to_a_new_client(broker):
    async with connected(broker) as first:
        await first.subscribe("state/+")
        await first.publish("state/a", b"1", retain=True)
        await first.receive(1)
        async with connected(broker) as second:
            await second.subscribe("other")
            await first.publish("other", b"2")
            [message] = await second.receive(1)
    assert message.topic == "other"


def test_while_a_link_runs_its_folder_says_where_its_broker_is(outbox_path, store_path):
    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path):
        where = read_whereabouts(outbox_path.parent)
        assert where is not None
        assert where.rig == "bench"
        assert where.address.password
        assert (outbox_path.parent / BROKER_FILE).stat().st_mode & 0o077 == 0
        with pytest.raises(Exception, match="another process"):
            Link(outbox_path=outbox_path, rig="other", store_path=store_path).start()
        assert read_whereabouts(outbox_path.parent) == where
    assert read_whereabouts(outbox_path.parent) is None


def test_the_password_of_a_broker_that_is_not_ours_is_not_written_down(outbox_path, free_port):
    url = f"mqtt://me:secret@127.0.0.1:{free_port}"
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url):
        assert "secret" not in (outbox_path.parent / BROKER_FILE).read_text()


async def test_who_leaves_before_the_broker_answers_says_offline_too(broker):
    async with connected(broker) as listener, connected(broker) as connection:
        await listener.subscribe(status_topic("bench"))
        client = connection._client._client
        told, client.on_publish = client.on_publish, lambda *_: None  # the answer is lost
        announcer = Announcer(broker, rig="bench", session_id="s1")
        session = asyncio.create_task(announcer._session(connection))
        [online] = await listener.receive(1)
        client.on_publish = told
        session.cancel()
        await asyncio.wait([session])
        [offline] = await listener.receive(1)
    states = [orjson.loads(message.payload)["state"] for message in (online, offline)]
    assert states == ["online", "offline"]
