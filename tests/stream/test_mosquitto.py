"""The same promises on a real Mosquitto: nothing depends on the embedded broker's manners."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from labctl.documents import encode
from labctl.store.reading import open_store
from labctl.store.sqlite import SqliteStore
from labctl.stream.link import Link
from labctl.stream.mqtt import broker_address, connected
from labctl.stream.recorder import Recorder
from labctl.stream.topics import document_topic, watermark_topic

pytestmark = pytest.mark.server


@pytest.fixture
def url(free_port):
    return f"mqtt://127.0.0.1:{free_port}"


async def put_all(link, documents):
    for document in documents:
        await link.put(document)


async def test_what_is_put_is_recorded_on_connections_that_hold(
    mosquitto, url, outbox_path, store_path, points, caplog
):
    with (
        mosquitto(),
        Link(outbox_path=outbox_path, rig="bench", mqtt=url, store_path=store_path) as link,
    ):
        await put_all(link, points(500))
        assert await link.drain(20) == 0
    assert open_store(store_path).run("r1").summary.n_points == 500
    assert "trying again" not in caplog.text


async def test_nothing_is_acknowledged_before_it_has_been_dealt_with(mosquitto, url):
    address = broker_address(url)
    with mosquitto():
        async with connected(address) as listener, connected(address) as speaker:
            await listener.subscribe("a")
            for number in range(21):
                await speaker.publish("a", b"%d" % number)
            received = []
            while len(received) < 20:
                received += await listener.receive(1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.receive(1), timeout=0.1)
            for message in received:
                listener.acknowledge(message)
            [last] = await listener.receive(1)
    assert last.payload == b"20"


async def test_a_recorder_acknowledges_or_the_broker_would_stop_after_20(
    mosquitto, url, store_path, points
):
    address = broker_address(url)
    with mosquitto(), closing(SqliteStore(store_path)) as store:
        recorder = Recorder(store, address, recorder_id="bench-1")
        async with connected(address) as connection:
            await connection.subscribe(watermark_topic("bench", "r1"))
            recording = asyncio.create_task(recorder.run())
            await recorder.ready.wait()
            for document in points(50):
                await connection.publish(document_topic("bench", "r1"), encode(document))
            async with asyncio.timeout(10):
                while store.watermark("r1") < 49:
                    await connection.receive(1)
        recording.cancel()
        await asyncio.wait([recording])


async def test_a_broker_killed_in_mid_stream_loses_nothing(
    mosquitto, url, outbox_path, store_path, points
):
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url, store_path=store_path) as link:
        for part in range(3):
            with mosquitto():
                await put_all(link, points(200, first=200 * part))
                await link.flush()
        await put_all(link, points(200, first=600))
        assert await link.drain(0) > 0
        with mosquitto():
            assert await link.drain(20) == 0
    columns = open_store(store_path).run("r1").columns("eis")
    assert columns["seq"].tolist() == list(range(800))


async def test_a_publish_that_the_access_list_denies_is_not_taken_for_a_delivery(
    mosquitto, url, outbox_path, store_path, points, problem_of
):
    with Link(outbox_path=outbox_path, rig="bench", mqtt=url, store_path=store_path) as link:
        with mosquitto(may_publish=False):
            await put_all(link, points(5))
            assert "may not publish labctl/bench/run/+/ack" in await problem_of(link, "may not")
            assert await link.drain(0) == 5
        with mosquitto():
            assert await link.drain(20) == 0
    assert open_store(store_path).run("r1").summary.n_points == 5


async def test_what_comes_while_a_named_client_is_away_waits_for_it(mosquitto, url):
    address = broker_address(url)
    with mosquitto():
        async with connected(address, client_id="recorder-1") as listener:
            await listener.subscribe("a")
        async with connected(address) as speaker:
            await speaker.publish("a", b"meanwhile")
        async with connected(address, client_id="recorder-1") as listener:
            [message] = await asyncio.wait_for(listener.receive(1), timeout=10)
    assert message.payload == b"meanwhile"


async def test_a_recorder_that_was_away_has_everything_though_the_broker_forgot_it(
    mosquitto, url, outbox_path, store_path, points
):
    address = broker_address(url)
    with (
        Link(outbox_path=outbox_path, rig="bench", mqtt=url, recorders=["far"]) as link,
        closing(SqliteStore(store_path)) as store,
    ):
        for part in range(3):
            recorder = Recorder(store, address, recorder_id="far", client_id="recorder-far")
            with mosquitto():
                recording = asyncio.create_task(recorder.run())
                await put_all(link, points(100, first=100 * part))
                assert await link.drain(20) == 0
                recording.cancel()
                await asyncio.wait([recording])
        assert store.watermark("r1") == 299
