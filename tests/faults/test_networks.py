"""The network between run, broker and recorder fails in every way a proxy can fail."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.server]


@pytest.mark.parametrize("name", ["network-cut", "half-open", "slow-and-torn"])
def test_a_broken_network_costs_no_point(survive, name):
    result = survive(name)
    assert result.verdict.n_stored == result.n_points


def test_a_message_damaged_on_its_way_is_noticed_and_sent_again(survive):
    result = survive("damaged-documents")
    assert result.verdict.n_stored == result.n_points


def test_a_broker_that_refuses_the_password_is_told_and_tried_again(survive):
    result = survive("credentials-refused")
    assert any("Not authorized" in words for words in result.words)
    assert result.verdict.n_stored == result.n_points
