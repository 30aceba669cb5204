from __future__ import annotations

from labctl.stream.under_way import UnderWay


def test_many_small_messages_leave_no_room_until_one_arrives():
    under_way = UnderWay()
    n_messages = 0
    while under_way.has_room:
        under_way.set_out(f"r{n_messages}", 100)
        n_messages += 1
    assert n_messages == 20
    under_way.arrive("r0", 100)
    assert under_way.has_room
    assert "r0" not in under_way
    assert "r1" in under_way


def test_few_large_messages_leave_no_room_but_one_may_always_go():
    under_way = UnderWay()
    under_way.set_out("r1", 8_000_000)
    assert not under_way.has_room
    under_way.arrive("r1", 8_000_000)
    assert under_way.has_room


def test_a_new_connection_begins_with_nothing_under_way():
    under_way = UnderWay()
    for _ in range(30):
        under_way.set_out("r1", 1_000_000)
    under_way.clear()
    assert under_way.has_room
    assert "r1" not in under_way
