from __future__ import annotations

import asyncio
from contextlib import closing

import orjson
import pytest

from labctl.documents import encode
from labctl.errors import StreamError
from labctl.store.reading import open_store
from labctl.stream.link import Link
from labctl.stream.mqtt import Connection, connected
from labctl.stream.outbox import Outbox, entry_of
from labctl.stream.publisher import Publisher
from labctl.stream.recorder import Recorder
from labctl.stream.topics import document_topic, resend_topic, status_topic, watermark_topic


class Ear:
    """A connection that plays the recorder, well or badly."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def hear(self) -> list[int]:
        """Return the seqs of the next message."""
        [message] = await self.connection.receive(1)
        return [orjson.loads(line)["seq"] for line in message.payload.split(b"\n")]

    async def say(self, committed: object, recorder_id: str = "ear") -> None:
        watermark = orjson.dumps({"recorder_id": recorder_id, "committed": committed})
        await self.connection.publish(watermark_topic("bench", "r1"), watermark)


@pytest.fixture
async def ear(broker):
    async with connected(broker) as connection:
        await connection.subscribe(document_topic("bench", "+"))
        yield Ear(connection)


@pytest.fixture
def link(broker, url_of, outbox_path):
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(broker)) as link:
        yield link


@pytest.fixture
def picky_link(broker, url_of, outbox_path):
    url = url_of(broker)
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url, recorders=["a", "b"]) as link:
        yield link


async def test_a_lone_document_travels_alone(link, ear, points):
    document = points(1)[0]
    await link.put(document)
    [message] = await ear.connection.receive(1)
    assert message.payload == encode(document)
    assert message.topic == "labctl/bench/run/r1/doc"


async def test_a_backlog_travels_in_bundles(outbox_path, broker, url_of, ear, points):
    link = Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(broker))
    link.start()
    for document in points(250):
        await link.put(document)
    heard = [seq for _ in range(3) for seq in await ear.hear()]
    link.stop()
    assert heard[0] == 0
    assert heard == list(range(len(heard)))
    assert len(heard) > 100


async def test_the_brokers_word_alone_lets_nothing_be_forgotten(link, ear, points):
    await link.put(points(1)[0])
    assert await ear.hear() == [0]
    assert await link.drain(0.05) == 1


async def test_a_watermark_lets_it_be_forgotten(link, ear, points):
    await link.put(points(1)[0])
    await ear.hear()
    await ear.say(0)
    assert await link.drain(5) == 0


async def test_a_lost_watermark_is_followed_by_a_resend(link, ear, points):
    await link.put(points(1)[0])
    assert [await ear.hear() for _ in range(3)] == [[0], [0], [0]]
    await ear.say(0)
    assert await link.drain(5) == 0


async def test_only_what_the_watermark_does_not_cover_is_sent_again(link, ear, points):
    for document in points(3):
        await link.put(document)
    await link.flush()
    heard = []
    while 2 not in heard:
        heard += await ear.hear()
    await ear.say(1)
    while (again := await ear.hear()) != [2]:
        assert again[-1] == 2
    await ear.say(2)
    assert await link.drain(5) == 0


async def test_a_new_connection_sends_at_once_what_no_watermark_covers(
    ear, broker, outbox_path, points, monkeypatch
):
    monkeypatch.setattr("labctl.stream.transfer._SILENCE_S", 60.0)
    with closing(Outbox(outbox_path, rig="bench")) as outbox:
        outbox.append([entry_of(document) for document in points(2)])
        publisher = Publisher(outbox, broker, rig="bench")
        for _ in range(2):
            async with connected(broker) as connection:
                session = asyncio.create_task(publisher._session(connection))
                assert await ear.hear() == [0, 1]
                session.cancel()
                await asyncio.wait([session])


@pytest.mark.parametrize("nonsense", [10**9, "many", None, {"committed": 3}])
async def test_a_watermark_beyond_what_was_sent_forgets_nothing_unsent(link, ear, points, nonsense):
    await ear.say(nonsense)
    await link.put(points(1)[0])
    assert await ear.hear() == [0]
    assert await link.drain(0.05) == 1


@pytest.mark.parametrize("kind", [watermark_topic, resend_topic])
@pytest.mark.parametrize(
    "evil",
    [
        b'{"recorder_id":' + b"[" * 1000 + b"]" * 1000 + b',"committed":1,"after_seq":1}',
        b'{"recorder_id":"ear","committed":18446744073709551615,"after_seq":18446744073709551615}',
        b'{"recorder_id":"ear","committed":"1","after_seq":"-1"}',
        b'{"recorder_id":"ear","committed":true,"after_seq":true}',
        b'{"recorder_id":"","committed":0,"after_seq":-1}',
        b'["recorder_id"]',
        b"\xff",
    ],
)
async def test_nothing_that_anybody_may_publish_ends_a_run(link, ear, points, kind, evil, caplog):
    await link.put(points(1)[0])
    await ear.hear()
    await ear.connection.publish(kind("bench", "r1"), evil)
    await ear.say(0)
    assert await link.drain(5) == 0
    assert link.problem is None
    assert not caplog.records


async def test_every_required_recorder_must_have_it(picky_link, ear, points):
    await picky_link.put(points(1)[0])
    await ear.hear()
    await ear.say(0, "a")
    await ear.say(0, "somebody else")
    assert await picky_link.drain(0.1) == 1
    await ear.say(0, "b")
    assert await picky_link.drain(5) == 0


async def test_the_status_is_online_then_offline_with_one_session(broker, url_of, outbox_path):
    async with connected(broker) as connection:
        await connection.subscribe(status_topic("bench"))
        link = Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(broker))
        link.start()
        [online] = await connection.receive(1)
        await asyncio.to_thread(link.stop)
        [offline] = await connection.receive(1)
    first, last = orjson.loads(online.payload), orjson.loads(offline.payload)
    assert (first["state"], last["state"]) == ("online", "offline")
    assert first["session"] == last["session"]


async def test_the_status_is_retained(broker, link):
    async with connected(broker) as early:
        await early.subscribe(status_topic("bench"))
        await early.receive(1)
    async with connected(broker) as late:
        await late.subscribe(status_topic("bench"))
        [message] = await late.receive(1)
    assert orjson.loads(message.payload)["state"] == "online"


async def test_an_outbox_that_cannot_forget_yet_forgets_later(
    broker, url_of, outbox_path, ear, points, monkeypatch, caplog
):
    monkeypatch.setattr("labctl.stream.publisher._FORGET_AGAIN_S", 0.05)
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(broker)) as link:
        for document in points(3):
            await link.put(document)
        await link.flush()
        heard = []
        while heard[-1:] != [2]:
            heard += await ear.hear()
        await on_the_outbox(link, "PRAGMA query_only = 1")  # writing fails, reading does not
        await ear.say(2)
        while link.problem is None:  # noqa: ASYNC110 - another thread notices it
            await asyncio.sleep(0.01)
        assert await link.drain(0.1) == 3
        await on_the_outbox(link, "PRAGMA query_only = 0")
        assert await link.drain(5.0) == 0
        assert link.problem is None
        await link.put(points(4)[3])
        assert await ear.hear() == [3]
    assert caplog.text.count("trying again") == 1


async def test_what_waits_of_another_rig_goes_out_under_its_own_name(
    broker, url_of, outbox_path, points
):
    with closing(Outbox(outbox_path, rig="oven")) as outbox:
        outbox.append([entry_of(document) for document in points(2, "r2")])
    async with connected(broker) as connection:
        await connection.subscribe(document_topic("+", "+"))
        with Link(outbox_path=outbox_path, rig="bench", mqtt=url_of(broker)) as link:
            await link.put(points(1)[0])
            heard: dict[str, str] = {}
            while len(heard) < 2:
                for message in await connection.receive(1):
                    _, rig, _, run_id, _ = message.topic.split("/")
                    heard[run_id] = rig
                    watermark = orjson.dumps({"recorder_id": "ear", "committed": 1})
                    await connection.publish(watermark_topic(rig, run_id), watermark)
            assert await link.drain(5) == 0
    assert heard == {"r1": "bench", "r2": "oven"}


async def test_the_runs_of_two_rigs_are_recorded_by_one_link(outbox_path, store_path, points):
    with closing(Outbox(outbox_path, rig="oven")) as outbox:
        outbox.append([entry_of(document) for document in points(2, "r2")])
    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        await link.put(points(1)[0])
        assert await link.drain(10) == 0
    assert sorted(run.run_id for run in open_store(store_path).runs()) == ["r1", "r2"]


async def test_that_nobody_confirms_is_a_trouble_until_somebody_does(
    broker, url_of, outbox_path, points, ear, monkeypatch, caplog
):
    monkeypatch.setattr("labctl.stream.publisher._UNCONFIRMED_S", 0.3)
    monkeypatch.setattr("labctl.stream.announcer._LOOK_S", 0.05)
    url = url_of(broker)
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url, recorders=["a", "b"]) as link:
        await link.put(points(1)[0])
        await ear.hear()
        await ear.say(0, "a")
        await until(lambda: link.problem is not None and "not confirmed" in link.problem)
        await until(lambda: "publisher: not confirmed by recorder b" in link.trouble)
        await ear.say(0, "b")
        assert await link.drain(5) == 0
        await until(lambda: link.problem is None and link.trouble == "")
    assert caplog.text.count("not confirmed by recorder b for more than 0.3 s") == 1
    assert caplog.text.count("is confirmed again") == 1


async def test_the_messages_under_way_are_bounded_over_all_runs_which_take_turns(
    broker, outbox_path, points
):
    with closing(Outbox(outbox_path, rig="bench")) as outbox:
        for n in range(50):
            outbox.append([entry_of(document) for document in points(1, run_id=f"r{n}")])
        publisher = Publisher(outbox, broker, rig="bench")
        first = publisher._next_messages(outbox.runs_pending())
        assert 0 < len(first) < 50
        assert publisher._next_messages(outbox.runs_pending()) == []
        for message in first:
            publisher._under_way.arrive(message.run_id, len(message.payload))
        second = publisher._next_messages(outbox.runs_pending())
        sent = [message.run_id for message in (*first, *second)]
        assert sent == [f"r{n}" for n in range(len(sent))]


async def test_a_recorder_that_is_not_there_keeps_nothing_from_others(
    broker, ear, outbox_path, store_path, points, monkeypatch
):
    async def denied(_: Recorder) -> None:
        raise StreamError("may not read")

    monkeypatch.setattr(Recorder, "run", denied)
    monkeypatch.setattr("labctl.stream.courier._RECORDER_FIRST_S", 0.1)
    await ear.connection.subscribe(status_topic("bench"))
    link = Link(outbox_path=outbox_path, rig="bench", mqtt=broker, store_path=store_path)
    async with link:
        await link.put(points(1)[0])
        said = [orjson.loads((await ear.connection.receive(1))[0].payload) for _ in range(2)]
        assert "state" in said[0]
        assert said[1]["seq"] == 0
        assert await link.drain(0.05) == 1  # the store must have it all the same


async def until(is_so) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.01)


async def on_the_outbox(link, statement: str) -> None:
    async def execute(courier) -> None:
        courier._outbox._connection.execute(statement)

    await link._on_courier(execute)
