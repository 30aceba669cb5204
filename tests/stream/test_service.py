"""Whatever breaks beside the outbox costs time, not documents, and no run its end."""

from __future__ import annotations

import asyncio
from contextlib import closing

import orjson
import pytest

from labctl.errors import StreamError
from labctl.stream import announcer, service
from labctl.stream.link import Link
from labctl.stream.mqtt import BrokerAddress, connected
from labctl.stream.outbox import Outbox
from labctl.stream.publisher import Publisher
from labctl.stream.service import Service
from labctl.stream.topics import status_topic


@pytest.fixture(autouse=True)
def _haste(monkeypatch):
    monkeypatch.setattr(service, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(service, "_LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(service, "_SOUND_AFTER_S", 0.1)
    monkeypatch.setattr(announcer, "_LOOK_S", 0.05)


async def until(is_so) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "said"),
    [(StreamError("no room"), "no room"), (KeyError("x"), "has broken: KeyError('x')")],
)
async def test_a_service_that_breaks_begins_again_and_says_why_meanwhile(error, said, caplog):
    errors = [error, error]

    async def work() -> None:
        if errors:
            raise errors.pop()
        await asyncio.Event().wait()

    it = Service("it", work)
    running = asyncio.create_task(it.run())
    await until(lambda: it.problem == said)
    await until(lambda: it.problem is None)
    running.cancel()
    await asyncio.wait([running])
    assert caplog.text.count(f"it: {said}") == 1


async def test_a_fault_of_every_service_costs_no_document(outbox_path, points):
    nowhere = BrokerAddress("broker..example", 1883)  # a name that no resolver is even asked for
    async with Link(outbox_path=outbox_path, rig="bench", mqtt=nowhere) as link:
        for document in points(20):
            await link.put(document)
            await link.flush()
        await until(lambda: "publisher: has broken: UnicodeError" in link.trouble)
        await link.put(points(1, first=20)[0])
        assert await link.drain(0.05) == 21
    with closing(Outbox(outbox_path, rig="bench")) as outbox:
        assert outbox.pending() == 21


async def test_a_rig_is_degraded_not_offline_while_its_publisher_breaks(
    broker, outbox_path, store_path, points, monkeypatch
):
    sound_run, is_broken = Publisher.run, True

    async def run(self) -> None:
        if is_broken:
            raise RuntimeError("broken on purpose")
        await sound_run(self)

    monkeypatch.setattr(Publisher, "run", run)
    said = []

    async def listen(connection) -> None:
        while True:
            said.extend(orjson.loads(each.payload) for each in await connection.receive(10))

    async with connected(broker) as connection:
        await connection.subscribe(status_topic("bench"))
        listening = asyncio.create_task(listen(connection))
        link = Link(outbox_path=outbox_path, rig="bench", mqtt=broker, store_path=store_path)
        async with link:
            await link.put(points(1)[0])
            await until(lambda: said and said[-1]["state"] == "degraded")
            assert "publisher: has broken: RuntimeError" in said[-1]["reason"]
            is_broken = False
            assert await link.drain(10) == 0
            await until(lambda: said[-1]["state"] == "online")
            assert "offline" not in {each["state"] for each in said}
        await until(lambda: said[-1]["state"] == "offline")
        listening.cancel()
        await asyncio.wait([listening])


async def test_what_a_disk_does_not_take_beside_the_outbox_delays_nothing(
    outbox_path, store_path, points, caplog
):
    for name in ("commands.sqlite", ".broker.json.part"):  # nor could it on a full disk
        (outbox_path.parent / name).mkdir()
    async with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        await link.put(points(1)[0])
        assert await link.drain(5) == 0
        await until(lambda: "commands: " in link.trouble and "ledger" in link.trouble)
        (outbox_path.parent / "commands.sqlite").rmdir()
        await until(lambda: link.trouble == "")
    assert "nobody can look on" in caplog.text
