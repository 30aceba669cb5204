"""Several processes are killed at once while simulated instruments measure."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.faults


def test_a_run_killed_with_its_own_broker_and_recorder_costs_nothing_durable(survive):
    assert "a run: interrupted" in survive("everything-in-one-killed").words


@pytest.mark.server
def test_run_broker_and_recorder_killed_at_once_cost_nothing_durable(survive):
    assert "a run: interrupted" in survive("all-killed-at-once").words


@pytest.mark.server
def test_with_two_recorders_required_both_have_every_point(survive):
    result = survive("two-recorders")
    assert result.verdict.n_stored == 2 * result.n_points
