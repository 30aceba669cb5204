"""Joining the parts: what happens before a run begins."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from labctl import assembly
from labctl.cli.run import exit_code
from labctl.clock import ScaledTimeLoop, run_on
from labctl.documents import Document, Kind, Reason
from labctl.errors import BadInputError, InstrumentError, StreamError
from labctl.instruments.serving import DeviceServer
from labctl.run.progress import Progress
from labctl.run_status import ShownRun
from labctl.store.reading import open_store
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.delivery import OUTBOX_NAME, waiting_in
from labctl.stream.link import Link
from labctl.stream.mqtt import connected
from labctl.stream.outbox import Outbox, entry_of
from labctl.stream.publisher import Publisher
from labctl.stream.topics import channel_status_topic
from labctl_drivers.lakeshore_336 import LakeShore336

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def request(folder: Path, **changes: Any) -> assembly.RunRequest:
    given = {
        "protocol": "temperature_eis",
        "rig": folder / "rig.toml",
        "sample": folder / "sample.toml",
        "parameters": {"temperatures": ["26 degC"]},
        "data": folder / "data",
    }
    return assembly.RunRequest(**{**given, **changes})


@pytest.mark.realtime
def test_a_heater_that_was_left_on_is_off_before_a_run_begins(
    tmp_path: Path, write_bench: Callable[..., Path]
) -> None:
    folder = write_bench(tmp_path)

    async def main() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        prepared = assembly.prepare(request(folder))
        devices = assembly.simulated_devices(prepared.config, source="rig.toml")
        start_s = loop.time()
        servers = {name: DeviceServer(each, start_s=start_s) for name, each in devices.items()}
        instruments = {}
        for name, server in servers.items():
            address = f"TCPIP::127.0.0.1::{await server.start()}::SOCKET"
            old = prepared.config.instruments[name]
            instruments[name] = old.model_copy(update={"address": address})
        config = prepared.config.model_copy(update={"instruments": instruments})
        stage = devices["stage"]
        stage.connect(0.0)
        stage.receive(b"SETP 1,350;RANGE 1,3\nRANGE? 1\n", 0.0)
        left_on = stage.transmit(1.0).decode().strip()
        stage.disconnect(1.0)
        prepared = assembly.Prepared(**{**vars(prepared), "config": config})
        async with assembly.open_rig([prepared]) as (rig, _):
            wire = rig.drivers["stage"]
            reading = await wire.read()
        for server in servers.values():
            await server.stop()
        now_s = loop.time() - start_s
        stage.connect(now_s)
        stage.receive(b"RANGE? 1\n", now_s)
        assert reading.setpoint_k < 340.0
        return left_on, stage.transmit(now_s + 1.0).decode().strip()

    assert run_on(ScaledTimeLoop(20.0), main()) == ("3", "0")


def test_a_run_id_is_used_once(
    tmp_path: Path, write_bench: Callable[..., Path], quick: dict[str, Any]
) -> None:
    folder = write_bench(tmp_path)
    twice = request(folder, parameters=quick, is_simulated=True, run_id="once")
    assert assembly.run(twice, lambda _: None).undelivered == ""
    with pytest.raises(BadInputError, match="run_id = 'once'"):
        assembly.run(twice, lambda _: None)
    (twice.data / "outbox.sqlite").unlink()
    with pytest.raises(BadInputError, match="run_id = 'once'"):
        assembly.run(twice, lambda _: None)


def test_what_is_wrong_with_the_data_is_part_of_the_progress(
    tmp_path, write_bench, quick, monkeypatch
) -> None:
    monkeypatch.setattr("labctl.stream.announcer._LOOK_S", 0.02)
    order = assembly.order_of(
        assembly.prepare(request(write_bench(tmp_path), parameters=quick)), "run-1"
    )
    nobody = "mqtt://127.0.0.1:1"
    seen: list[Progress] = []
    with Link(outbox_path=tmp_path / "outbox.sqlite", rig="bench", mqtt=nobody) as link:
        link.report_trouble("publisher", "not confirmed")
        shown = ShownRun(link, order, "cell-1", seen.append)
        while not seen or not seen[-1].trouble:
            shown(Progress(step="eis"))
    assert seen[-1].step == "eis"
    assert "publisher: not confirmed" in seen[-1].trouble


async def test_a_channel_says_that_its_run_is_paused(tmp_path, write_bench, quick, monkeypatch):
    monkeypatch.setattr("labctl.stream.announcer._LOOK_S", 0.02)
    prepared = assembly.prepare(request(write_bench(tmp_path), parameters=quick))
    broker = EmbeddedBroker()
    address = broker.start()
    said: list[str] = []
    async with (
        connected(address) as connection,
        Link(outbox_path=tmp_path / "outbox.sqlite", rig="bench", mqtt=address) as link,
    ):
        await connection.subscribe(channel_status_topic("bench", "cell-1"))
        shown = ShownRun(link, assembly.order_of(prepared, "run-1"), "cell-1", lambda _: None)
        for is_paused in (False, True, False):
            shown(Progress(step="eis", is_paused=is_paused))
            [message] = await connection.receive(1)
            said.append(orjson.loads(message.payload)["state"])
    broker.stop()
    assert said == ["running", "paused", "running"]


def test_what_another_rig_has_left_is_said_and_makes_no_run_incomplete(
    tmp_path, write_bench, quick, monkeypatch
) -> None:
    monkeypatch.setattr("labctl.assembly._DRAIN_TIMEOUT_S", 3.0)
    ours = request(write_bench(tmp_path), parameters=quick, is_simulated=True)
    ours.data.mkdir()
    with closing(Outbox(ours.data / OUTBOX_NAME, rig="another")) as outbox:
        body = {"stream": "eis", "n_points": 1, "columns": {"a": [1.0]}}
        outbox.append([entry_of(Document("theirs", 0, Kind.EVENT_PAGE, body))])
    # What forbids the other rig on a shared broker: its documents reach nobody.
    monkeypatch.setattr(Publisher, "run", forbidden_to("another", Publisher.run))
    report = assembly.run(ours, lambda _: None)
    assert (report.undelivered, report.n_left_by_others) == ("", 1)
    assert exit_code(report) == 0


def forbidden_to(rig: str, run: Callable[[Publisher], Awaitable[None]]) -> Any:
    async def but_not_for(publisher: Publisher) -> None:
        if publisher.name.endswith(rig):
            raise StreamError("not allowed here")
        await run(publisher)

    return but_not_for


def fail_after(kind: type, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a method of a class raise an error once it has done its work."""
    method = getattr(kind, name)

    async def awaited(self: Any, *args: Any) -> None:
        await method(self, *args)
        raise error

    def called(self: Any, *args: Any) -> None:
        method(self, *args)
        raise error

    is_async = asyncio.iscoroutinefunction(method)
    monkeypatch.setattr(kind, name, awaited if is_async else called)


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        (LakeShore336, "close", InstrumentError("stage", "does not let go")),
        (ShownRun, "end", StreamError("the status cannot be shown")),
    ],
)
def test_what_fails_after_the_end_of_a_run_is_told_and_every_document_stored(
    tmp_path, write_bench, quick, monkeypatch, kind, name, error
) -> None:
    fail_after(kind, name, error, monkeypatch)
    run = request(write_bench(tmp_path), parameters=quick, is_simulated=True)
    report = assembly.run(run, lambda _: None)
    assert (report.ending.reason, report.undelivered) == (Reason.COMPLETED, "")
    assert report.went_wrong == str(error)
    assert open_store(run.data).run(report.run_id).outcome == "completed"
    assert waiting_in(run.data).n_documents == 0


def test_before_an_error_of_any_other_kind_is_raised_every_document_is_stored(
    tmp_path, write_bench, quick, monkeypatch
) -> None:
    fail_after(LakeShore336, "close", OSError("no such port"), monkeypatch)
    run = request(write_bench(tmp_path), parameters=quick, is_simulated=True)
    with pytest.raises(OSError, match="no such port"):
        assembly.run(run, lambda _: None)
    assert open_store(run.data).run().outcome == "completed"
    assert waiting_in(run.data).n_documents == 0


@pytest.mark.parametrize(
    ("sample", "part"),
    [
        ("LLZO pellet", "-LLZO-pellet-"),
        ("µ-LiCl", "-u-LiCl-"),
        ("../../x", "-x-"),
        ("Li₂S (größer)", "-Li2S-grosser-"),
        ("電池", "-"),
    ],
)
def test_a_run_id_holds_of_a_sample_s_name_what_every_file_system_takes(
    sample: str, part: str
) -> None:
    run_id = assembly.new_run_id(sample)
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}{re.escape(part)}[0-9a-f]{{6}}", run_id)


def test_the_rig_file_of_a_run_is_the_one_that_was_used(
    tmp_path: Path, write_bench: Callable[..., Path], quick: dict[str, Any]
) -> None:
    folder = write_bench(tmp_path)
    rig = folder / "rig.toml"
    used = rig.read_text()
    prepared = assembly.prepare(request(folder, parameters=quick))
    rig.write_text("name = 'another'")
    assert assembly.order_of(prepared, "run-1").provenance["rig_file"] == used
