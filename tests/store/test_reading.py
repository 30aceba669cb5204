from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

import labctl
from labctl.documents import Kind, Reason
from labctl.errors import BadInputError, StoreError
from labctl.store.holder import Holder, held_folder
from labctl.store.outcome import Outcome
from labctl.store.reading import connect, open_store


def test_a_directory_without_a_store_is_named(tmp_path):
    with pytest.raises(BadInputError, match=str(tmp_path)):
        open_store(tmp_path)


def test_a_database_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "labctl.sqlite"
    path.touch()
    with pytest.raises(StoreError, match="not a labctl store"):
        open_store(path)


def test_labctl_itself_opens_a_store(store, script):
    store.add(script.whole())
    assert labctl.open_store(store.path.parent).runs()[0].run_id == script.run_id


def test_importing_labctl_imports_nothing_heavy():
    code = "import labctl, sys; print({'sqlite3', 'orjson', 'numpy', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"set()"


def test_a_summary_says_what_was_measured(store, script):
    store.add(script.whole())
    [summary] = open_store(store.path).runs()
    assert (summary.protocol, summary.sample) == ("temperature_eis", "LPSCl pellet 7")
    assert (summary.duration_s, summary.n_points) == (3600.0, 3)
    assert summary.outcome is Outcome.COMPLETED


def test_runs_come_newest_first(store, script, other_script):
    store.add([*other_script.whole(), *script.whole()])
    runs = open_store(store.path).runs()
    assert [run.run_id for run in runs] == [other_script.run_id, script.run_id]


def test_latest_is_the_run_that_began_last(store, script, other_script):
    store.add([*other_script.whole(), *script.whole()])
    assert open_store(store.path).run("latest").run_id == other_script.run_id


def test_the_beginning_of_an_id_is_enough(store, script, other_script):
    store.add([*script.whole(), *other_script.whole()])
    assert open_store(store.path).run("20260302").run_id == other_script.run_id


def test_an_ambiguous_id_lists_the_candidates(store, script, other_script):
    store.add([*script.whole(), *other_script.whole()])
    with pytest.raises(BadInputError, match=r"2 runs begin with '2026'.*beef.*abcd"):
        open_store(store.path).run("2026")


def test_an_unknown_id_lists_the_latest_runs(store, script):
    store.add(script.whole())
    with pytest.raises(BadInputError, match=f"no run 'x'.*latest: {script.run_id}"):
        open_store(store.path).run("x")


def test_an_empty_store_has_no_latest_run(store):
    with pytest.raises(BadInputError, match="latest: none"):
        open_store(store.path).run()


def test_a_table_has_a_column_per_name_and_its_units(store, script):
    store.add(script.whole())
    frames = open_store(store.path).run().frames("eis")
    assert list(frames.columns) == ["seq", "time_s", "z_real_ohm"]
    assert frames["seq"].tolist() == [2, 2, 4]
    assert frames.attrs["units"] == {"time_s": "s", "z_real_ohm": "ohm"}


def test_a_described_stream_without_points_is_an_empty_table(store, script):
    script.descriptor()
    store.add(script.documents)
    frames = open_store(store.path).run().frames("eis")
    assert list(frames.columns) == ["seq", "time_s", "z_real_ohm"]
    assert frames.empty


def test_a_column_that_some_frames_lack_is_nan_there(store, script):
    script.frame((0.0, 1.0))
    script.add(Kind.EVENT_PAGE, stream="eis", n_points=1, columns={"time_s": [1.0]})
    store.add(script.documents)
    column = open_store(store.path).run().columns("eis")["z_real_ohm"]
    assert column[0] == 1.0
    assert math.isnan(column[1])


def test_an_unknown_stream_names_those_there_are(store, script):
    store.add(script.whole())
    with pytest.raises(BadInputError, match=r"'cv'; it has \['eis'\]"):
        open_store(store.path).run().columns("cv")


def test_streams_come_in_the_order_in_which_they_began(store, script):
    for stream in ("temperature", "eis", "cv"):
        script.descriptor(stream)
    store.add(script.documents[::-1])
    assert open_store(store.path).run().streams() == ["temperature", "eis", "cv"]


def test_events_come_with_their_seq(store, script):
    store.add(script.whole())
    run = open_store(store.path).run()
    assert run.event_streams() == ["steps"]
    [event] = run.events("steps")
    assert (event["seq"], event["data"]) == (3, {"step": "eis-25C"})
    assert run.events() == [event]


def test_a_run_is_read_while_it_is_written(store, script):
    script.whole()
    store.add(script.documents[:3])
    run = open_store(store.path).run()
    before = run.columns("eis")["time_s"].tolist()
    store.add(script.documents[3:5])
    assert (before, run.columns("eis")["time_s"].tolist()) == ([0, 0.5], [0, 0.5, 1])
    assert run.outcome is Outcome.INTERRUPTED


def test_a_reader_in_mid_question_does_not_stop_the_writer(store, script):
    from labctl.store.reading import connect

    script.whole()
    store.add(script.documents[:3])
    with connect(store.path) as reader:
        count = "SELECT count(*) FROM document"
        before = reader.execute(count).fetchone()
        store.add(script.documents[3:])
        assert reader.execute(count).fetchone() == before == (3,)
    assert store.watermark(script.run_id) == 5


def test_a_run_without_its_start_says_so(store, script):
    store.add(script.whole()[2:])
    with pytest.raises(StoreError, match="run_start"):
        _ = open_store(store.path).run().start


def test_a_run_that_ended_well_is_completed(store, script):
    store.add(script.whole())
    run = open_store(store.path).run()
    assert run.outcome is Outcome.COMPLETED
    assert run.stop is not None
    assert run.start["parameters"] == {"amplitude_v": 0.01}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.ABORTED, Outcome.ABORTED),
        (Reason.FAILED, Outcome.FAILED),
        (Reason.TRUNCATED, Outcome.TRUNCATED),
    ],
)
def test_a_run_that_did_not_end_well_says_how(store, script, reason, outcome):
    script.start()
    script.stop(reason)
    store.add(script.documents)
    assert open_store(store.path).run().outcome is outcome


def test_a_run_without_a_stop_is_interrupted(store, script):
    store.add(script.whole()[:-1])
    run = open_store(store.path).run()
    assert run.outcome is Outcome.INTERRUPTED
    assert "goes on on another machine" in run.ending.sentence
    assert run.stop is None


def test_a_success_with_fewer_points_than_measured_is_truncated(store, script):
    script.start()
    script.descriptor()
    script.frame((0.0, 1.0))
    script.stop(eis=2)
    store.add(script.documents)
    run = open_store(store.path).run()
    assert run.outcome is Outcome.TRUNCATED
    assert "stream eis holds 1 of 2 points" in run.ending.sentence


def test_a_success_with_a_document_missing_is_truncated(store, script):
    script.whole()
    store.add([document for document in script.documents if document.seq != 3])
    run = open_store(store.path).run()
    assert run.outcome is Outcome.TRUNCATED
    assert "1 documents before the run_stop are not stored" in run.ending.sentence


def test_a_failed_run_that_was_resumed_is_open_again(store, script):
    script.start()
    script.stop(Reason.FAILED)
    script.event(resumed=True)
    store.add(script.documents)
    assert open_store(store.path).run().outcome is Outcome.INTERRUPTED


def test_a_hundred_thousand_points_are_one_matrix(store, script):
    n = 1000
    pages = [{"stream": "cv", "n_points": n, "columns": {"a": [float(i)] * n}} for i in range(100)]
    for page in pages:
        script.add(Kind.EVENT_PAGE, **page)
    store.add(script.documents)
    column = open_store(store.path).run().columns("cv")["a"]
    assert column.shape == (100 * n,)
    assert column.flags["C_CONTIGUOUS"]
    assert column[::n].tolist() == list(range(100))


def test_a_run_that_goes_on_is_running_and_interrupted_once_its_process_has_gone(store, script):
    script.start()
    run_id = script.documents[0].run_id
    holder = Holder(pid=os.getpid(), run_id=run_id, since="2026-01-01T00:00:00+00:00")
    store.add(script.documents)
    with held_folder(store.path.parent, holder):
        assert open_store(store.path).run().outcome is Outcome.RUNNING
        assert open_store(store.path).runs()[0].outcome is Outcome.RUNNING
    assert open_store(store.path).run().outcome is Outcome.INTERRUPTED


def test_a_closed_store_is_read_where_nothing_may_be_written(store, script, tmp_path, monkeypatch):
    store.add(script.whole())
    store.close()
    tmp_path.chmod(0o555)
    if os.geteuid() == 0:  # who may write anywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    try:
        with connect(store.path) as connection:
            assert connection.execute("SELECT count(*) FROM document").fetchone() == (6,)
            assert [path.name for path in tmp_path.iterdir()] == [store.path.name]
    finally:
        tmp_path.chmod(0o755)


def test_the_latest_run_is_the_one_that_began_last_wherever_its_clock_stood(
    store, script, other_script
):
    script.start_time = "2026-03-01T08:00:00+00:00"
    other_script.start_time = "2026-03-01T08:30:00+01:00"
    store.add([*script.whole(), *other_script.whole()])
    assert open_store(store.path).run().run_id == script.run_id
