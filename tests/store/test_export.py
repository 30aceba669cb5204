from __future__ import annotations

import json
import math
from errno import ENOSPC
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest

from labctl.documents import Kind
from labctl.store import export
from labctl.store.export import export_csv, export_parquet
from labctl.store.reading import StoredRun, open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(store, script) -> StoredRun:
    script.start()
    script.descriptor()
    script.frame((0.1, 1 / 3), (0.2, math.nan))
    script.event(note="door opened")
    script.stop(eis=2)
    store.add(script.documents)
    return open_store(store.path).run()


def test_csv_brings_every_number_back(run, tmp_path):
    _, file = export_csv(run, tmp_path / "out")
    table = pd.read_csv(file, comment="#")
    pd.testing.assert_frame_equal(table, run.frames("eis"), check_exact=True)


def test_csv_tells_units_in_its_second_line(run, tmp_path):
    _, file = export_csv(run, tmp_path)
    lines = file.read_text().splitlines()
    assert lines[0] == f"# labctl run {run.run_id}, completed; stream eis"
    assert lines[1] == "# units: seq=, time_s=s, z_real_ohm=ohm"
    assert lines[2] == "seq,time_s,z_real_ohm"


def test_csv_comes_with_everything_that_is_no_column(run, tmp_path):
    about, _ = export_csv(run, tmp_path)
    content = json.loads(about.read_bytes())
    assert content["run_start"]["sample"] == {"name": "LPSCl pellet 7"}
    assert content["outcome"] == "completed"
    assert content["events"][0]["data"] == {"note": "door opened"}


def test_parquet_carries_units_and_the_run(run, tmp_path):
    file, _ = export_parquet(run, tmp_path)
    table = pq.read_table(file)
    assert table.schema.field("z_real_ohm").metadata == {b"unit": b"ohm"}
    assert json.loads(table.schema.metadata[b"labctl.run_stop"])["reason"] == "completed"
    assert table["z_real_ohm"].to_numpy()[0] == 1 / 3
    assert table["seq"].to_pylist() == [2, 2]


def test_names_that_no_file_system_takes_are_made_safe(store, script, tmp_path):
    script.start()
    script.frame((0.0, 1.0), stream="../eis 25°C/1")
    store.add(script.documents)
    files = export_csv(open_store(store.path).run(), tmp_path / "out")
    assert files[1].name == f"{script.run_id}_eis-25-C-1-62723714.csv"
    assert files[1].parent == tmp_path / "out"


def test_streams_whose_names_are_changed_to_the_same_do_not_share_a_file(store, script, tmp_path):
    script.start()
    streams = ("温度", "電圧", "eis 1", "eis-1", "eis_1", "events")
    for value, stream in enumerate(streams):
        script.frame((0.0, float(value)), stream=stream)
    script.event(note="door opened")
    store.add(script.documents)
    *files, events = export_parquet(open_store(store.path).run(), tmp_path)
    assert [pq.read_table(file)["z_real_ohm"].to_pylist() for file in files] == [
        [float(value)] for value in range(len(streams))
    ]
    assert events.name == f"{script.run_id}_events.parquet"


def test_events_are_a_parquet_file_of_their_own_and_in_no_other(run, tmp_path):
    file, events = export_parquet(run, tmp_path)
    [line] = pq.read_table(events).to_pylist()
    assert (line["seq"], line["stream"], json.loads(line["data"])) == (
        3,
        "steps",
        {"note": "door opened"},
    )
    assert b"door opened" not in file.read_bytes()


def test_a_long_stream_is_written_in_parts(store, script, tmp_path, monkeypatch):
    monkeypatch.setattr("labctl.store.reading._FRAMES_AT_ONCE", 2)
    script.start()
    for value in range(4):
        script.frame((0.0, float(value)))
    script.add(Kind.EVENT_PAGE, stream="eis", n_points=1, columns={"other": [5.0]})
    store.add(script.documents)
    run = open_store(store.path).run()
    [file] = export_parquet(run, tmp_path)
    assert pq.ParquetFile(file).num_row_groups == 3
    pd.testing.assert_frame_equal(pd.read_parquet(file), run.frames("eis"), check_exact=True)
    _, table = export_csv(run, tmp_path)
    written = pd.read_csv(table, comment="#")
    pd.testing.assert_frame_equal(written, run.frames("eis"), check_exact=True)


def test_a_file_that_could_not_be_written_whole_is_not_there(run, tmp_path):
    def write_half(part: Path) -> None:
        part.write_text("half")
        raise OSError(ENOSPC, "no space left")

    with pytest.raises(OSError, match="no space"), export._whole_file(tmp_path / "x.csv") as part:
        write_half(part)
    assert not list(tmp_path.glob("*x.csv*"))
