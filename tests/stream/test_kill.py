"""A process killed in mid-stream loses nothing that was durable and stores nothing twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from labctl.store.reading import open_store
from labctl.stream.link import Link

if TYPE_CHECKING:
    from pathlib import Path

# Puts documents as fast as it can, after those it put before it was killed; says what is durable.
RUN_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from labctl.documents import Document, Kind
from labctl.stream.link import Link

async def main(link):
    seq = await link.last_seq("r1") + 1
    while True:
        for _ in range(7):
            body = {"stream": "eis", "n_points": 2, "columns": {"a": [seq, seq + 0.5]}}
            await link.put(Document("r1", seq, Kind.EVENT_PAGE, body))
            seq += 1
        await link.flush()
        print(seq - 1, flush=True)

outbox, store, url = sys.argv[1:]
with Link(outbox_path=Path(outbox), rig="bench", mqtt=url or None,
          store_path=Path(store) if store else None) as link:
    asyncio.run(main(link))
"""


def run_and_kill(
    outbox_path: Path, store_path: Path | str, url: str = "", n_lines: int = 40
) -> int:
    """Let a child put documents until it has said so often what is durable; return the last."""
    arguments = [sys.executable, "-c", RUN_FOR_EVER, str(outbox_path), str(store_path), url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        durable = [int(child.stdout.readline()) for _ in range(n_lines)][-1]
        child.kill()
    return durable


async def drain(link: Link) -> tuple[int, int]:
    """Return how many documents are left and the last seq there ever was."""
    return await link.drain(30), await link.last_seq("r1")


def assert_gap_free(store_path: Path, last_seq: int) -> None:
    columns = open_store(store_path).run("r1").columns("eis")
    assert columns["seq"].tolist() == [seq for seq in range(last_seq + 1) for _ in range(2)]
    assert columns["a"].tolist() == [seq + half for seq in range(last_seq + 1) for half in (0, 0.5)]


def test_killed_three_times_the_store_has_every_durable_document_once(outbox_path, store_path):
    durable = [run_and_kill(outbox_path, store_path) for _ in range(3)]
    with Link(outbox_path=outbox_path, rig="bench", store_path=store_path) as link:
        left, last_seq = asyncio.run(drain(link))
    assert left == 0
    assert last_seq >= durable[-1] > durable[0]
    assert_gap_free(store_path, last_seq)


@pytest.mark.server
def test_killed_while_its_broker_is_killed_too_nothing_is_lost(
    outbox_path, store_path, mosquitto, free_port
):
    url = f"mqtt://127.0.0.1:{free_port}"
    with mosquitto():
        run_and_kill(outbox_path, store_path, url)
    durable = run_and_kill(outbox_path, "", url)
    with (
        mosquitto(),
        Link(outbox_path=outbox_path, rig="bench", mqtt=url, store_path=store_path) as link,
    ):
        left, last_seq = asyncio.run(drain(link))
    assert left == 0
    assert last_seq >= durable
    assert_gap_free(store_path, last_seq)


@pytest.mark.server
def test_a_killed_process_is_told_by_its_last_will(outbox_path, mosquitto, free_port):
    url = f"mqtt://127.0.0.1:{free_port}"

    async def statuses(stack: ExitStack) -> list[str]:
        import orjson

        from labctl.stream.mqtt import broker_address, connected
        from labctl.stream.topics import status_topic

        async with connected(broker_address(url)) as connection:
            await connection.subscribe(status_topic("bench"))
            await asyncio.to_thread(run_and_kill, outbox_path, "", url, 400)
            messages = await connection.receive(1)
            messages += await connection.receive(1)
        return [orjson.loads(message.payload)["state"] for message in messages]

    with mosquitto(), ExitStack() as stack:
        assert asyncio.run(statuses(stack)) == ["online", "offline"]
