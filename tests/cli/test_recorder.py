"""The recorder as a process of its own: `labctl recorder`, `drain`, `verify`."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from base64 import b64decode
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from labctl.documents import Document, Kind
from labctl.store.holder import Holder, held_folder
from labctl.store.lease import lease
from labctl.store.sqlite import STORE_NAME, SqliteStore
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.link import Link

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path


def whole_run(run_id: str = "r1") -> list[Document]:
    counts = {"expected_points": {"eis": 2}, "actual_points": {"eis": 2}}
    about = {"protocol": "p", "parameters": {}, "sample": {"name": "s"}, "rig": "bench"}
    frame = {"stream": "eis", "n_points": 2, "columns": {"a": [0.5, 1.5]}}
    ending = {"exit_status": "success", "reason": "completed", **counts}
    bodies = [
        (Kind.RUN_START, {"time": "2026-11-25T00:00:00+00:00", **about}),
        (Kind.DESCRIPTOR, {"stream": "eis", "units": {"a": "ohm"}}),
        (Kind.EVENT_PAGE, frame),
        (Kind.RUN_STOP, {"time": "2026-11-25T01:00:00+00:00", **ending}),
    ]
    return [Document(run_id, seq, kind, body) for seq, (kind, body) in enumerate(bodies)]


@pytest.fixture
def url() -> Iterator[str]:
    """A broker's, with the password in it."""
    broker = EmbeddedBroker()
    address = broker.start()
    yield f"mqtt://{address.username}:{address.password}@{address.host}:{address.port}"
    broker.stop()


def leave_in_outbox(data: Path, documents: list[Document], rig: str = "bench") -> None:
    """Let a run of a rig put documents that nobody takes."""

    async def main() -> None:
        for document in documents:
            await link.put(document)

    nobody = "mqtt://127.0.0.1:1"
    with Link(outbox_path=data / "outbox.sqlite", rig=rig, mqtt=nobody) as link:
        asyncio.run(main())


@pytest.fixture
def recorder(tmp_path: Path, url: str, start: Callable[..., Any]) -> Callable[..., Any]:
    """Starts `labctl recorder` on a data folder; gives its process once it is connected."""

    @contextmanager
    def started(data: Path) -> Iterator[subprocess.Popen[str]]:
        with start(tmp_path, "recorder", "--mqtt", url, "--id", "cellar", data=data) as process:
            try:
                assert process.stdout.readline() == (
                    f"recorder cellar records into {data / STORE_NAME}\n"
                )
                assert process.stdout.readline().startswith("connected to mqtt://127.0.0.1")
                yield process
            finally:
                process.kill()

    return started


def test_what_one_machine_drains_another_records(tmp_path, url, recorder, labctl) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    leave_in_outbox(near, whole_run())
    with recorder(far) as process:
        said = labctl("drain", "--data", str(near), "--mqtt", url, "--timeout", "60")
        assert (said.exit_code, said.out) == (0, "all 4 documents are stored\n")
        assert process.stdout.readline() == "run r1 ended: completed, 4 documents\n"
        at_work = labctl("recorder", "status", "--data", str(far), "--json").json
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    assert at_work["recorder"]["recorder_id"] == "cellar"
    assert at_work["recorder"]["is_alive"]
    assert not labctl("recorder", "status", "--data", str(far), "--json").json["recorder"][
        "is_alive"
    ]
    assert labctl("verify", "--data", str(far)).exit_code == 0
    assert (far / "runs" / "r1_eis.parquet").exists()


def test_a_recorder_goes_on_when_nobody_reads_what_it_says(tmp_path, url, recorder, labctl) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    leave_in_outbox(near, whole_run())
    with recorder(far) as process:
        process.stdout.close()
        said = labctl("drain", "--data", str(near), "--mqtt", url, "--timeout", "60")
        assert said.out == "all 4 documents are stored\n"
        process.send_signal(signal.SIGTERM)
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")


def test_a_recorder_told_of_one_rig_leaves_others_alone_though_it_had_them_before(
    tmp_path, url, recorder, labctl, start, write_bench
) -> None:
    bench = write_bench(tmp_path / "bench")
    with (bench / "rig.toml").open("a") as file:
        file.write(f'\n[mqtt]\nurl = "{url}"\n')
    leave_in_outbox(tmp_path / "near", whole_run(), rig="other")
    with recorder(tmp_path / "far"):
        pass
    narrow = ("recorder", "--rig", str(bench / "rig.toml"), "--id", "cellar")
    with start(tmp_path, *narrow, data=tmp_path / "far") as process:
        try:
            assert process.stdout.readline().startswith("recorder cellar records")
            assert process.stdout.readline().startswith("connected")
            order = ("drain", "--data", str(tmp_path / "near"), "--mqtt", url)
            assert labctl(*order, "--timeout", "1").out.startswith("4 of 4 documents are not")
        finally:
            process.kill()


def test_a_second_recorder_of_a_store_is_refused(tmp_path, url, recorder, labctl) -> None:
    data = tmp_path / "far"
    with recorder(data) as process:
        said = labctl("recorder", "--mqtt", url, "--data", str(data))
        assert said.exit_code == 2
        assert said.err == (
            f"labctl: error: {data / STORE_NAME}: recorder cellar (process {process.pid},"
            f" mqtt://{url.rpartition('@')[2]}) records into this store\n"
        )


def test_without_a_recorder_drain_says_how_much_is_left(tmp_path, url, labctl) -> None:
    leave_in_outbox(tmp_path, whole_run())
    said = labctl("drain", "--data", str(tmp_path), "--mqtt", url, "--timeout", "0.2")
    assert said.exit_code == 1
    assert said.out.startswith("4 of 4 documents are not stored yet: ")


def test_drain_records_into_the_folder_s_own_store(tmp_path, labctl) -> None:
    SqliteStore(tmp_path / STORE_NAME).close()
    leave_in_outbox(tmp_path, whole_run())
    said = labctl("drain", "--data", str(tmp_path))
    assert (said.exit_code, said.out) == (0, "all 4 documents are stored\n")
    assert labctl("drain", "--data", str(tmp_path)).out == "nothing waits in the outbox\n"
    assert labctl("verify", "r1", "--data", str(tmp_path)).out == (
        "r1  sound: 4 documents, 2 points; ended\n"
    )


def test_drain_does_not_guess_where_documents_are_meant_to_go(tmp_path, url, labctl) -> None:
    leave_in_outbox(tmp_path, whole_run()[1:])
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as outbox, outbox:
        outbox.execute("UPDATE run SET rig = NULL")  # of before runs named their rigs
    nowhere = labctl("drain", "--data", str(tmp_path))
    no_rig = labctl("drain", "--data", str(tmp_path), "--mqtt", url)
    assert (nowhere.exit_code, no_rig.exit_code) == (2, 2)
    assert "recorded elsewhere" in nowhere.err
    assert "name it with --rig" in no_rig.err


def test_drain_keeps_out_of_a_folder_where_a_run_goes_on(tmp_path, labctl) -> None:
    SqliteStore(tmp_path / STORE_NAME).close()
    leave_in_outbox(tmp_path, whole_run())
    for run_id, named in (("r9", "run r9 (process 1, since "), ("", "`labctl drain` (process 1, ")):
        with held_folder(tmp_path, Holder(pid=1, run_id=run_id, since="2026-11-25T16:33:43")):
            said = labctl("drain", "--data", str(tmp_path))
        assert said.exit_code == 2
        assert named in said.err
    assert labctl("drain", "--data", str(tmp_path)).out == "all 4 documents are stored\n"


def test_what_two_rigs_left_is_drained_under_the_name_of_each(tmp_path, url, labctl) -> None:
    leave_in_outbox(tmp_path, whole_run())
    leave_in_outbox(tmp_path, whole_run("r2"), rig="oven")
    SqliteStore(tmp_path / STORE_NAME).close()
    said = labctl("drain", "--data", str(tmp_path), "--mqtt", url)
    assert (said.exit_code, said.out) == (0, "all 8 documents are stored\n")
    status = labctl("recorder", "status", "--data", str(tmp_path), "--json").json
    assert status["recorder"]["source"].endswith("rig bench, oven")


def test_a_run_whose_recording_is_left_to_others_says_how_to_see_it(
    tmp_path, url, recorder, labctl, write_bench, quick_world, change_toml
) -> None:
    bench = write_bench(tmp_path / "bench", world=quick_world)
    with (bench / "rig.toml").open("a") as file:
        file.write(f'\n[mqtt]\nurl = "{url}"\nrecord = false\nrecorders = ["cellar"]\n')
    order = ("run", "temperature_eis", "--rig", str(bench / "rig.toml"), "--simulate")
    quick = ("--set", 'temperatures=["25 degC"]', "--set", 'frequency_end="100 Hz"')
    with recorder(tmp_path / "far"):
        said = labctl(*order, *quick, "--data", str(tmp_path / "near"))
    assert said.exit_code == 0, said.err
    assert "recorded by recorder cellar; on its machine `labctl recorder status`" in said.out
    assert not (tmp_path / "near" / STORE_NAME).exists()
    [run] = labctl("runs", "--data", str(tmp_path / "far"), "--json").json
    assert run["outcome"] == "completed"


def test_a_run_leaves_the_recording_to_who_records_into_its_folder(
    tmp_path, url, recorder, labctl, write_bench, quick_world, caplog
) -> None:
    bench = write_bench(tmp_path / "bench", world=quick_world)
    order = ("run", "temperature_eis", "--rig", str(bench / "rig.toml"), "--simulate")
    quick = ("--set", 'temperatures=["25 degC"]', "--set", 'frequency_end="100 Hz"')
    with recorder(tmp_path / "data"):
        said = labctl(*order, *quick, "--mqtt", url)
        alone = labctl(*order, *quick)
    assert said.exit_code == 0, said.err
    assert "the recording into" in caplog.text
    assert "is left to recorder cellar" in caplog.text
    assert "outcome   completed" in said.out
    assert alone.exit_code == 2
    assert "records into this store; name its broker with --mqtt" in alone.err


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A data folder with a run that has a gap, and a line that was no document."""
    documents = whole_run()
    with (
        lease(tmp_path / STORE_NAME, recorder_id="cellar", source="mqtt://host:1883"),
        closing(SqliteStore(tmp_path / STORE_NAME)) as store,
    ):
        store.add([document for document in documents if document.seq != 1])
        store.quarantine("labctl/rig/run/r1/doc", b"\xff nonsense", "not JSON")
    return tmp_path


def test_status_says_what_is_missing_and_what_was_no_document(stored, labctl) -> None:
    said = labctl("recorder", "status", "--data", str(stored))
    assert "recorder cellar" in said.out
    assert "not at work" in said.out
    assert "ended, last document 3 (run_stop)" in said.out
    assert "watermark 0, missing: 1\n" in said.out
    assert "1 lines that were no documents" in said.out
    found = labctl("recorder", "status", "--data", str(stored), "--json").json
    assert found["runs"][0]["missing"] == [[1, 1]]
    assert found["quarantine"][0]["problem"] == "not JSON"
    assert found["n_bytes"] > 0


def test_status_says_what_is_lost_for_good(stored, labctl) -> None:
    with closing(SqliteStore(stored / STORE_NAME)) as store:
        store.give_up("r1", 3)
    said = labctl("recorder", "status", "--data", str(stored))
    assert "watermark 3, LOST, nowhere any more: 1\n" in said.out
    found = labctl("recorder", "status", "--data", str(stored), "--json").json
    assert (found["runs"][0]["lost"], found["runs"][0]["missing"]) == ([[1, 1]], [])


def test_quarantine_shows_the_bytes(stored, labctl) -> None:
    assert r"b'\xff nonsense'" in labctl("recorder", "quarantine", "--data", str(stored)).out
    [line] = labctl("recorder", "quarantine", "--data", str(stored), "--json").json
    assert b64decode(line["line"]) == b"\xff nonsense"


def test_verify_says_what_is_wrong_in_one_line_for_each_run(stored, labctl) -> None:
    said = labctl("verify", "--data", str(stored))
    assert said.exit_code == 1
    assert said.out == "r1  DAMAGED: missing: document 1\n"
    assert labctl("verify", "--data", str(stored), "--json").json["is_sound"] is False


def test_verify_does_not_mind_an_interrupted_run(tmp_path, labctl) -> None:
    with closing(SqliteStore(tmp_path / STORE_NAME)) as store:
        store.add(whole_run()[:3])
    said = labctl("verify", "--data", str(tmp_path))
    assert said.exit_code == 0
    assert said.out == (
        "r1  sound: 3 documents, 2 points; interrupted or still running, nothing missing so far\n"
    )


def test_verify_finds_a_flipped_byte(tmp_path, labctl) -> None:
    with closing(SqliteStore(tmp_path / STORE_NAME)) as store:
        store.add(whole_run())
    with closing(sqlite3.connect(tmp_path / STORE_NAME)) as connection, connection:
        connection.execute("UPDATE document SET points = zeroblob(16) WHERE seq = 2")
    said = labctl("verify", "--data", str(tmp_path))
    assert (said.exit_code, said.out) == (1, "r1  DAMAGED: checksum wrong: document 2\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("recorder",), "no broker: name it with --mqtt, or a rig file with --rig"),
        (("recorder", "--mqtt", "http://x"), "expected mqtt://host:port"),
        (("recorder", "--mqtt", "mqtt://127.0.0.1", "--id", "a/b"), "--id 'a/b': expected letters"),
        (("recorder", "--rig", "rig.toml"), "rig.toml: mqtt.url: missing"),
        (("recorder", "--rig", "nowhere.toml"), "nowhere.toml: no such file"),
        (("recorder", "--id", "x", "status"), "options of `labctl recorder status` go behind it"),
        (("recorder", "status"), "no such store"),
        (("verify",), "no such store"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    labctl, tmp_path, write_bench, arguments, expected
) -> None:
    write_bench(tmp_path)
    said = labctl(*arguments)
    assert said.exit_code == 2
    assert said.err.count("\n") == 1
    assert expected in said.err
