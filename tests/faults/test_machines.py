"""Disks fill up, clocks are set back, brokers stay away for days."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.faults


# Not marked `server`, or they would fail where servers are required and mounting a small disk, or
# building the clock's library, is not possible: there they are skipped with the reason.
def test_a_full_store_disk_costs_no_point_once_there_is_room(survive):
    result = survive("store-disk-full")
    assert any("full" in words for words in result.words)
    assert result.verdict.n_stored == result.n_points


def test_a_full_outbox_disk_is_told_and_costs_nothing_that_was_kept(survive):
    result = survive("outbox-disk-full")
    assert any("full" in words for words in result.words)


def test_a_clock_set_back_by_an_hour_changes_nothing(survive):
    result = survive("clock-set-back")
    assert any("went back by 0:59" in note for note in result.notes)
    assert result.verdict.n_stored == result.n_points


@pytest.mark.server
def test_two_days_without_a_broker_are_recorded_once_it_comes(survive):
    result = survive("two-days-offline")
    assert result.verdict.n_stored == result.n_points
