"""Processes are killed while simulated instruments measure: nothing is lost, nothing doubled."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.faults


@pytest.mark.server
@pytest.mark.parametrize("name", ["broker-killed", "persistent-broker-killed"])
def test_a_broker_killed_three_times_costs_no_point(survive, name):
    result = survive(name)
    assert result.verdict.n_stored == result.n_points


def test_the_embedded_brokers_software_killed_three_times_costs_no_point(survive):
    result = survive("embedded-broker-killed")
    assert result.verdict.n_stored == result.n_points


@pytest.mark.server
def test_a_recorder_killed_three_times_costs_no_point(survive):
    result = survive("recorder-killed")
    assert result.verdict.n_stored == result.n_points


@pytest.mark.server
def test_a_killed_run_leaves_its_outbox_to_the_next_one(survive):
    assert "a run: interrupted" in survive("run-killed").words
