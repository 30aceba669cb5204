from __future__ import annotations

import pytest

from labctl.stream.outbox import Entry
from labctl.stream.transfer import Transfer, next_message


@pytest.fixture(autouse=True)
def _real_silence(monkeypatch):
    monkeypatch.setattr("labctl.stream.transfer._SILENCE_S", 3.0)


def test_nothing_is_forgotten_before_a_watermark():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    assert transfer.watermark == -1


def test_a_watermark_lets_the_outbox_forget():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    assert transfer.committed("any", 5, now_s=0.1)
    assert transfer.watermark == 5


def test_an_old_watermark_changes_nothing():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    transfer.committed("any", 5, now_s=0.1)
    assert not transfer.committed("any", 3, now_s=0.2)
    assert transfer.watermark == 5


def test_a_watermark_beyond_what_was_sent_covers_only_what_was_sent():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    transfer.committed("any", 10**9, now_s=0.1)
    assert transfer.watermark == 9


def test_the_slowest_of_the_required_recorders_counts():
    transfer = Transfer(["bench", "fleet"])
    transfer.message_sent(9, now_s=0.0)
    assert not transfer.committed("bench", 9, now_s=0.1)
    assert transfer.committed("fleet", 4, now_s=0.2)
    assert transfer.watermark == 4


def test_a_recorder_that_is_not_required_does_not_count():
    transfer = Transfer(["fleet"])
    transfer.message_sent(9, now_s=0.0)
    assert not transfer.committed("laptop", 9, now_s=0.1)


def test_silence_for_three_seconds_sends_again_from_the_watermark():
    transfer = Transfer()
    transfer.message_sent(4, now_s=0.0)
    transfer.message_sent(9, now_s=0.0)
    transfer.committed("any", 4, now_s=1.0)
    assert not transfer.rewind_after_silence(now_s=3.9)
    assert transfer.sent_seq == 9
    assert transfer.rewind_after_silence(now_s=4.0)
    assert transfer.sent_seq == 4


def test_after_silence_one_message_at_a_time_until_a_sign_of_life():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    transfer.rewind_after_silence(now_s=3.0)
    transfer.message_sent(4, now_s=3.0)
    assert not transfer.has_room
    transfer.committed("any", 4, now_s=3.1)
    transfer.message_sent(6, now_s=3.1)
    assert transfer.has_room


def test_a_hundred_messages_may_wait_for_the_watermark():
    transfer = Transfer()
    for seq in range(100):
        assert transfer.has_room
        transfer.message_sent(seq, now_s=0.0)
    assert not transfer.has_room


def test_nothing_under_way_is_no_silence():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    transfer.committed("any", 9, now_s=0.1)
    assert transfer.resend_at_s is None


def entries(*seqs: int, size: int = 10) -> list[Entry]:
    return [Entry("r1", seq, b"x" * size) for seq in seqs]


def test_a_message_of_a_hundred_documents_is_full():
    message, is_full = next_message(entries(*range(150)))
    assert len(message) == 100
    assert is_full


def test_a_message_ends_before_a_gap():
    message, is_full = next_message(entries(3, 4, 6))
    assert [entry.seq for entry in message] == [3, 4]
    assert is_full


def test_a_message_of_64_kilobytes_is_full():
    message, is_full = next_message(entries(*range(10), size=20_000))
    assert len(message) == 3
    assert is_full


def test_a_message_with_room_for_more_may_wait_for_it():
    message, is_full = next_message(entries(0, 1, 2))
    assert len(message) == 3
    assert not is_full


def test_a_document_too_large_for_any_message_goes_alone():
    assert len(next_message(entries(0, 1, size=100_000))[0]) == 1


def test_no_more_is_read_than_fits():
    read = iter(entries(*range(10), size=20_000))
    next_message(read)
    assert next(read).seq == 4


def test_nothing_to_send_is_no_message():
    assert next_message([]) == ([], False)


def test_a_message_that_is_not_full_waits_for_more_and_a_full_one_does_not():
    transfer = Transfer()
    transfer.message_sent(9, now_s=1.0)
    assert transfer.waits_for_more(is_full=False, now_s=1.01) == pytest.approx(1.015)
    assert transfer.waits_for_more(is_full=True, now_s=1.01) is None
    assert transfer.waits_for_more(is_full=False, now_s=1.02) is None


def test_silence_counts_from_when_the_broker_has_the_first_message_that_waits():
    transfer = Transfer()
    transfer.message_sent(9, now_s=0.0)
    transfer.message_sent(19, now_s=0.1)
    transfer.message_taken(9, now_s=5.0)
    transfer.message_taken(19, now_s=7.0)
    assert transfer.resend_at_s == 8.0
    assert not transfer.rewind_after_silence(7.9)
    assert transfer.rewind_after_silence(8.0)
