from __future__ import annotations

import math
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from labctl.documents import Document, Kind
from labctl.errors import DocumentError, StoreError
from labctl.store.reading import open_store
from labctl.store.sqlite import STORE_NAME, SqliteStore
from labctl.store.verification import verify

if TYPE_CHECKING:
    from pathlib import Path


def rows(store: SqliteStore, query: str) -> list[Any]:
    with closing(sqlite3.connect(store.path)) as connection:
        return connection.execute(query).fetchall()


def test_a_document_stored_twice_is_there_once(store, script):
    store.add(script.whole())
    store.add(script.whole()[:6])
    assert rows(store, "SELECT count(*) FROM document") == [(6,)]
    assert open_store(store.path).run().summary.n_points == 3


def test_a_document_twice_in_one_batch_is_there_once(store, script):
    script.whole()
    store.add([*script.documents, *script.documents])
    assert rows(store, "SELECT count(*) FROM document") == [(6,)]
    assert rows(store, "SELECT count(*) FROM quarantine") == [(0,)]


def test_another_document_in_a_taken_place_is_quarantined(store, script):
    store.add(script.whole())
    impostor = Document(script.run_id, 4, Kind.EVENT_PAGE, dict(script.documents[2].body))
    assert store.add([impostor]) == [f"run {script.run_id}: seq 4 holds another document already"]
    assert store.add([impostor]) == []
    [(line, problem)] = rows(store, "SELECT line, problem FROM quarantine")
    assert b'"n_points":2' in line
    assert "seq 4 holds another document" in problem
    assert open_store(store.path).run().columns("eis")["z_real_ohm"].tolist() == [100, 101, 102]


def test_an_unknown_run_has_no_watermark(store):
    assert store.watermark("nobody") == -1


def test_the_watermark_stops_at_the_first_gap(store, script):
    script.whole()
    store.add([script.documents[seq] for seq in (0, 1, 3, 4)])
    assert store.watermark(script.run_id) == 1


def test_the_watermark_passes_a_gap_once_it_is_filled(store, script):
    script.whole()
    store.add([script.documents[seq] for seq in (0, 1, 3, 4)])
    store.add([script.documents[2]])
    assert store.watermark(script.run_id) == 4


def test_what_exists_nowhere_any_more_is_given_up_and_taken_all_the_same(store, script):
    script.whole()
    store.add([script.documents[seq] for seq in (1, 3, 5)])
    assert store.give_up(script.run_id, 3) == [(0, 0), (2, 2)]
    assert (store.watermark(script.run_id), store.give_up(script.run_id, 3)) == (3, [])
    assert store.give_up(script.run_id, 10**9) == [(4, 4)]
    store.add([script.documents[seq] for seq in (0, 2, 4)])
    assert store.watermark(script.run_id) == 5
    assert verify(store.path).is_sound


def test_nothing_is_given_up_beyond_what_is_stored(store, script):
    store.add(script.whole()[:2])
    assert store.give_up(script.run_id, 99) == []
    assert store.give_up("nobody", 99) == []
    assert store.watermark(script.run_id) == 1


def test_the_units_of_the_last_descriptor_count_in_any_order_of_arrival(store, script):
    first = script.descriptor()
    last = script.add(Kind.DESCRIPTOR, stream="eis", units={"time_s": "s", "z_real_ohm": "kohm"})
    assert store.add([last]) == []
    assert store.add([first]) == []
    assert open_store(store.path).run().units("eis")["z_real_ohm"] == "kohm"
    again = script.add(Kind.DESCRIPTOR, stream="eis", units={})
    assert store.add([again]) == [f"run {script.run_id}: stream eis: other units now"]


def test_without_its_first_document_a_run_has_no_watermark(store, script):
    store.add(script.whole()[1:])
    assert store.watermark(script.run_id) == -1


def test_any_order_of_arrival_gives_the_same_run(store, script):
    documents = list(script.whole())
    random.Random(7).shuffle(documents)
    for document in documents:
        store.add([document])
    run = open_store(store.path).run()
    assert store.watermark(script.run_id) == 5
    assert run.columns("eis")["time_s"].tolist() == [0, 0.5, 1]
    assert run.streams() == ["eis"]


def test_the_watermark_survives_reopening(store, script):
    store.add(script.whole())
    store.close()
    again = SqliteStore(store.path)
    assert again.watermark(script.run_id) == 5
    again.close()


def test_one_bad_frame_keeps_the_whole_batch_out(store, script):
    script.start()
    script.add(Kind.EVENT_PAGE, stream="eis", n_points=2, columns={"a": [1.0, 2.0], "b": [1.0]})
    with pytest.raises(DocumentError, match="expected columns of 2"):
        store.add(script.documents)
    assert store.watermark(script.run_id) == -1


def test_a_seq_of_more_than_64_bits_is_refused(store, script):
    with pytest.raises(DocumentError, match="64 bits"):
        store.add([Document(script.run_id, 2**63, Kind.EVENT, {"stream": "steps", "data": {}})])


def test_numbers_come_back_to_the_last_bit(store, script):
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    script.descriptor()
    script.frame(*((float(i), value) for i, value in enumerate(values)))
    store.add(script.documents)
    column = open_store(store.path).run().columns("eis")["z_real_ohm"]
    assert [value.hex() for value in column.tolist()] == [value.hex() for value in values]


def test_the_same_bad_line_is_kept_once_and_counted(store):
    for _ in range(3):
        store.quarantine("labctl/rig/run/r/doc", b"\xff\x00 nonsense", "not JSON")
    assert rows(store, "SELECT topic, line, problem, n_times FROM quarantine") == [
        ("labctl/rig/run/r/doc", b"\xff\x00 nonsense", "not JSON", 3)
    ]


def test_a_write_does_not_wait_for_who_keeps_the_file_locked(store, script):
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun_s = perf_counter()
        with pytest.raises(StoreError, match="another process"):
            store.add(script.whole())
        assert perf_counter() - begun_s < 5
    store.add(script.documents)
    assert store.watermark(script.run_id) == 5


@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_removed_under_its_writer_is_noticed(store, script, replaced):
    store.add(script.whole())
    store.check_file()
    store.path.rename(store.path.with_suffix(".old"))
    if replaced:
        store.path.touch()
    with pytest.raises(StoreError, match="removed or replaced"):
        store.check_file()


WRITE_A_RUN = """
import sys
from contextlib import suppress
from pathlib import Path
from labctl.documents import Document, Kind
from labctl.errors import StoreError
from labctl.store.sqlite import SqliteStore

store, run_id = SqliteStore(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
n_refused = 0
body = {"stream": "eis", "n_points": 1, "columns": {"a": [1.0]}}
while (seq := store.watermark(run_id) + 1) < 200:
    try:
        store.add([Document(run_id, seq, Kind.EVENT_PAGE, body)])
    except StoreError:
        n_refused += 1
"""


def test_two_writers_at_once_both_store_everything(tmp_path: Path):
    path = tmp_path / STORE_NAME
    SqliteStore(path).close()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_A_RUN, str(path), run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for run_id in ("a", "b")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert sorted(run.n_points for run in open_store(path).runs()) == [200, 200]
    assert verify(path).is_sound


def test_a_store_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / STORE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="store version 99"):
        SqliteStore(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / STORE_NAME
    path.write_bytes(b"this is a text file, not a database" * 40)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore(path)


def test_a_full_disk_is_a_store_error_and_leaves_the_store_whole(store, script):
    store.add(script.whole()[:2])
    (n_pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {n_pages}")
    big = Document(script.run_id, 2, Kind.EVENT, {"stream": "steps", "data": {"x": "y" * 100_000}})
    with pytest.raises(StoreError, match="full"):
        store.add([big])
    assert store.watermark(script.run_id) == 1


WRITE_FOREVER = """
import sys
from pathlib import Path
from labctl.documents import Document, Kind
from labctl.store.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
seq = 0
while True:
    pages = [
        Document("r", seq + i, Kind.EVENT_PAGE,
                 {"stream": "eis", "n_points": 2, "columns": {"a": [seq + i, 0.5]}})
        for i in range(3)
    ]
    store.add(pages)
    seq += 3
    print(seq - 1, flush=True)
"""


def test_what_add_has_stored_outlives_a_kill(tmp_path: Path):
    path = tmp_path / STORE_NAME
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        promised = [int(child.stdout.readline()) for _ in range(20)][-1]
        child.kill()
    store = SqliteStore(path)
    watermark = store.watermark("r")
    store.close()
    points = open_store(path).run("r").columns("eis")
    assert watermark >= promised
    assert points["seq"].tolist() == [seq for seq in range(watermark + 1) for _ in range(2)]
    assert points["a"][::2].tolist() == list(range(watermark + 1))
