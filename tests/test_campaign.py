"""Campaigns: what a file may say, and what comes of it, from the file to the store."""

from __future__ import annotations

import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labctl import campaign
from labctl.campaign_file import CampaignRequest
from labctl.errors import BadInputError, LabctlError
from labctl.store.reading import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from labctl.campaign import CampaignReport
    from labctl.run.progress import Progress

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "four-pellets"
EPOCH = datetime(2026, 3, 1, 8, tzinfo=UTC)
TWO_ENTRIES = """\
name = "two"
rig = "rig.toml"

[[runs]]
name = "first"
protocol = "temperature_eis"
params = "quick.toml"
samples = { cell-1 = "samples/a.toml", cell-2 = "samples/b.toml" }

[[runs]]
name = "second"
protocol = "temperature_eis"
params = "quick.toml"
parameters = { frequency_end = "1 kHz" }

[runs.samples]
cell-1 = "samples/c.toml"
cell-2 = { file = "samples/d.toml", parameters = { amplitude_v_rms = "20 mV" } }
"""
QUICK = """\
temperatures = ["26 degC", "28 degC"]
ramp_rate = "5 K/min"
frequency_end = "100 Hz"
points_per_decade = 4
settle_band = "0.5 K"
settle_slope = "0.5 K/min"
settle_window = "60 s"
probe_interval = "30 s"
probe_tolerance = "2 %"
"""


def unseen(_: str) -> Callable[[Progress], None]:
    return lambda _: None


@pytest.fixture
def folder(tmp_path: Path, change_toml, quick_world) -> Path:
    """A folder with the example's rig, world and samples, and a campaign of two entries."""
    shutil.copytree(EXAMPLE, tmp_path / "bench")
    bench = tmp_path / "bench"
    change_toml(bench / "world.toml", quick_world)
    (bench / "quick.toml").write_text(QUICK)
    (bench / "campaign.toml").write_text(TWO_ENTRIES)
    return bench


def request(folder: Path, **changes: Any) -> CampaignRequest:
    given = {
        "file": folder / "campaign.toml",
        "data": folder / "data",
        "is_simulated": True,
        "campaign_id": "c",
        "epoch": EPOCH,
    }
    return CampaignRequest(**{**given, **changes})


def changed(folder: Path, old: str, new: str) -> CampaignRequest:
    """Return the request for a campaign of which one place says something else."""
    file = folder / "campaign.toml"
    text = file.read_text()
    assert text.count(old) >= 1
    file.write_text(text.replace(old, new, 1))
    return request(folder)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "two"\n', "", r"campaign\.toml: name: missing"),
        ('rig = "rig.toml"', 'rig = "rigg.toml"', r"rigg\.toml: no such file"),
        ('rig = "rig.toml"', 'rigs = "rig.toml"', r"campaign\.toml: rigs: unknown key"),
        ('"second"', '"first"', r"campaign\.toml: runs\.1\.name = 'first': another entry has"),
        (
            '"temperature_eis"',
            '"eis"',
            r"campaign\.toml: runs\.0\.protocol = 'eis': unknown protocol; there are: .*temp",
        ),
        (
            '"temperature_eis"',
            '"mine.py"',
            r"campaign\.toml: runs\.0\.protocol = 'mine\.py': no such file",
        ),
        ('"quick.toml"', '"slow.toml"', r"slow\.toml: no such file"),
        (
            "cell-1 =",
            "cell-9 =",
            (
                r"runs\.0\.samples\.cell-9 = 'samples/a\.toml': no channel 'cell-9' in .*rig\.toml"
                r"; there are: cell-1, cell-2, cell-3, cell-4"
            ),
        ),
        ("samples/b.toml", "samples/x.toml", r"samples/x\.toml: no such file"),
        (
            '"samples/b.toml"',
            "3",
            r"campaign\.toml: runs\.0\.samples\.cell-2 = 3: expected a sample file, or a table",
        ),
        (
            '"1 kHz"',
            '"1 V"',
            r"campaign\.toml: runs\.1\.parameters: frequency_end = '1 V': expected a frequency",
        ),
        (
            '"20 mV"',
            '"20 K"',
            r"campaign\.toml: runs\.1\.samples\.cell-2\.parameters: amplitude_v_rms = '20 K': ",
        ),
        (
            '"20 mV"',
            '"20 V"',
            r"samples/d\.toml on cell-2: step .*eis: amplitude_v_rms.*20 V",
        ),
        (
            'amplitude_v_rms = "20 mV"',
            'temperatures = ["26 degC", "30 degC"]',
            (
                r"campaign\.toml: runs\.1: cell-1 and cell-2 share the stage 'stage', but visit "
                r"different temperatures: 26, 28 degC and 26, 30 degC; expected the same"
            ),
        ),
        (
            'samples = { cell-1 = "samples/a.toml", cell-2 = "samples/b.toml" }',
            "samples = {}",
            r"campaign\.toml: runs\.0\.samples = \{\}: expected at least one",
        ),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_touched(
    folder: Path, old: str, new: str, complaint: str
) -> None:
    with pytest.raises(LabctlError, match=complaint) as caught:
        campaign.run(changed(folder, old, new), unseen)
    assert isinstance(caught.value, BadInputError)
    assert not (folder / "data").exists()


def test_an_entry_that_there_is_not_is_named(folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"--only third: no such entry; there are first, sec"):
        campaign.check(request(folder, only="third"))


def test_a_cell_that_the_world_has_not_is_named(folder: Path, change_toml) -> None:
    change_toml(folder / "samples/d.toml", {"cell": '"oven"'})
    with pytest.raises(BadInputError, match=r"samples/d\.toml: simulation\.cell = 'oven': no cell"):
        campaign.run(request(folder), unseen)


def test_a_channel_without_a_simulated_cell_is_named(folder: Path, change_toml) -> None:
    change_toml(folder / "world.toml", {"cells": '["a"]'})
    with pytest.raises(BadInputError, match=r"channels\.cell-2\.multiplexer_input = 2: the world"):
        campaign.run(request(folder), unseen)


def test_samples_that_somebody_has_to_change_are_refused_on_a_real_rig(folder: Path) -> None:
    real = request(folder, is_simulated=False)
    with pytest.raises(BadInputError, match=r"runs\.1\.samples\.cell-1 = .*c\.toml.*--only second"):
        campaign.run(real, unseen)
    assert not real.data.exists()


def test_a_check_knows_every_run_and_its_steps(folder: Path) -> None:
    runs = campaign.check(request(folder))
    assert [(run.entry, run.channel, run.sample) for run in runs] == [
        ("first", "cell-1", "pellet a"),
        ("first", "cell-2", "pellet b"),
        ("second", "cell-1", "pellet c"),
        ("second", "cell-2", "pellet d"),
    ]
    assert all(run.steps for run in runs)


def fitted(report: CampaignReport) -> list[float]:
    """Return the conductivity at 26 degC that each run has found, in S/cm."""
    store = open_store(report.store)
    fits = [store.run(run.run_id).events("fit")[0]["data"] for run in report.runs]
    return [fit["conductivity"]["sigma_s_per_cm"] for fit in fits]


@pytest.fixture(scope="module")
def done(tmp_path_factory, change_toml, quick_world) -> CampaignReport:
    """The campaign of two entries, carried out."""
    bench = tmp_path_factory.mktemp("done") / "bench"
    shutil.copytree(EXAMPLE, bench)
    change_toml(bench / "world.toml", quick_world)
    (bench / "quick.toml").write_text(QUICK)
    (bench / "campaign.toml").write_text(TWO_ENTRIES)
    return campaign.run(request(bench), unseen)


def test_every_run_is_complete_and_stored(done: CampaignReport) -> None:
    assert done.is_complete
    assert [run.run_id for run in done.runs] == [
        "c-1-cell-1",
        "c-1-cell-2",
        "c-2-cell-1",
        "c-2-cell-2",
    ]
    stored = {run.run_id: run for run in open_store(done.store).runs()}
    assert {run.outcome for run in stored.values()} == {"completed"}
    for run in done.runs:
        assert stored[run.run_id].campaign == {"id": "c", "name": "two", "entry": run.entry}
        assert stored[run.run_id].sample == run.sample


def test_each_sample_is_the_simulated_cell_that_it_names(done: CampaignReport) -> None:
    assert fitted(done) == pytest.approx([1.05e-3, 4.2e-4, 1.57e-4, 5.3e-5], rel=0.03)


def test_what_is_asked_for_on_one_sample_is_asked_there_only(done: CampaignReport) -> None:
    store = open_store(done.store)
    asked = [store.run(run.run_id).start["parameters"] for run in done.runs]
    assert [each["amplitude_v_rms"] for each in asked] == [0.01, 0.01, 0.01, 0.02]
    assert [each["frequency_end"] for each in asked] == [100.0, 100.0, 1000.0, 1000.0]


def test_entries_are_carried_out_in_turn(done: CampaignReport) -> None:
    store = open_store(done.store)
    first, second = (
        [store.run(run.run_id) for run in done.runs if run.entry == entry]
        for entry in ("first", "second")
    )
    last_end = max(datetime.fromisoformat(run.stop["time"]) for run in first if run.stop)
    begun = {datetime.fromisoformat(run.start["time"]) for run in second}
    assert len(begun) == 1
    assert begun.pop() > last_end


def test_the_same_seed_gives_the_same_runs(done: CampaignReport, folder: Path) -> None:
    again = campaign.run(request(folder), unseen)
    assert again.runs == done.runs
    one, other = open_store(done.store), open_store(again.store)
    for run in done.runs:
        one_run, other_run = one.run(run.run_id), other.run(run.run_id)
        assert one_run.frames("eis").equals(other_run.frames("eis"))
        assert one_run.stop == other_run.stop


def test_one_entry_alone_finds_what_it_finds_among_others(
    done: CampaignReport, folder: Path
) -> None:
    alone = campaign.run(request(folder, only="second"), unseen)
    assert [run.run_id for run in alone.runs] == ["c-2-cell-1", "c-2-cell-2"]
    # Its world begins anew; only its noise falls otherwise on a clock that began elsewhere.
    assert fitted(alone) == pytest.approx(fitted(done)[2:], rel=0.01)


def test_a_signal_aborts_every_run_and_no_other_entry_begins(folder: Path) -> None:
    sent: list[str] = []

    def observer_for(channel: str) -> Callable[[Progress], None]:
        def observe(progress: Progress) -> None:
            if channel == "cell-2" and progress.last_point and not sent:
                sent.append(channel)
                signal.raise_signal(signal.SIGTERM)

        return observe

    report = campaign.run(request(folder), observer_for)
    assert [run.reason for run in report.runs] == [
        "aborted",
        "aborted",
        "not started",
        "not started",
    ]
    assert not report.is_complete
    assert report.undelivered == ""
    stops = [open_store(report.store).run(run.run_id).stop for run in report.runs[:2]]
    states = [state for stop in stops if stop for state in stop["safe_state"].values()]
    assert states.count("outputs off") >= 2
    assert not any(run.unsafe for run in report.runs)


def test_a_script_beside_the_file_runs(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "from labctl_protocols.temperature_eis import PROTOCOL  # noqa: F401\n"
    )
    for _ in range(2):
        asked = changed(folder, '"temperature_eis"', '"mine.py"')
    report = campaign.run(asked, unseen)
    assert {run.reason for run in report.runs} == {"completed"}
