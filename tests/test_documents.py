"""Documents: one line of JSON each, checked when read."""

from __future__ import annotations

import math

import orjson
import pytest

from labctl.documents import (
    Document,
    ExitStatus,
    Kind,
    Reason,
    check,
    check_seal,
    decode,
    encode,
    points_of,
    sealed,
)
from labctl.errors import DocumentError

PAGE = {"stream": "eis", "n_points": 2, "columns": {"f": [1.0, 2.0], "z": [0.5, 0.25]}}
START = {"time": "2026-11-23T12:00:00+00:00", "protocol": "p", "parameters": {}, "sample": {}}


def page(**changes: object) -> Document:
    return Document(run_id="r", seq=3, kind=Kind.EVENT_PAGE, body={**PAGE, **changes})


def test_a_document_survives_the_wire() -> None:
    assert decode(encode(page())) == page()


def test_a_document_is_one_line() -> None:
    body = {"stream": "note", "time": "t", "data": {"text": "two\nlines"}}
    assert b"\n" not in encode(Document("r", 0, Kind.EVENT, body))


def test_a_bit_that_falls_over_alters_no_document_and_none_goes_unseen() -> None:
    line = encode(page())
    for place in range(8 * len(line)):
        damaged = bytearray(line)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(DocumentError):
            decode(bytes(damaged))


def test_a_digit_that_has_become_another_is_said_to_be_damage() -> None:
    with pytest.raises(DocumentError, match="damaged on its way"):
        decode(encode(page()).replace(b"0.25", b"0.35"))


def test_a_line_without_checksum_is_taken_at_its_word() -> None:
    check_seal(b'{"committed":3}')
    check_seal(sealed(b'{"committed":3}'))


def test_nan_travels_as_null_and_comes_back_as_nan() -> None:
    line = encode(page(columns={"f": [1.0, math.nan], "z": [math.nan, 2.0]}))
    assert b"null" in line
    columns = decode(line).body["columns"]
    assert columns["f"][0] == 1.0
    assert math.isnan(columns["f"][1])
    assert math.isnan(columns["z"][0])


def test_points_are_counted_in_frames_only() -> None:
    assert points_of(page()) == 2
    assert points_of(Document("r", 0, Kind.RUN_START, START)) == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": 2}, "schema 1"),
        ({"run_id": ""}, "run_id"),
        ({"seq": -1}, "seq"),
        ({"seq": True}, "seq"),
        ({"kind": "stop"}, "kind"),
        ({"body": []}, "body"),
        ({"body": {**PAGE, "n_points": 3}}, "column f"),
        ({"body": {**PAGE, "columns": {"f": [1.0]}}}, "column f"),
        ({"body": {**PAGE, "columns": {"f": ["a", 1]}}}, "column f"),
        ({"body": {"stream": "eis"}}, "n_points"),
        ({"body": {**PAGE, "columns": {}}}, "at least one"),
        ({"body": {**PAGE, "n_points": 1, "columns": {"seq": [1]}}}, "none named seq"),
        ({"kind": "descriptor", "body": {"stream": "eis", "units": {"f": None}}}, "units"),
        ({"more": 1}, "without a checksum"),
    ],
)
def test_a_bad_document_says_what_is_wrong(change: dict[str, object], complaint: str) -> None:
    envelope = {**orjson.loads(encode(page())), **change}
    del envelope["crc32"]
    with pytest.raises(DocumentError, match=complaint):
        decode(orjson.dumps(envelope))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"12"])
def test_what_is_no_document_is_refused(line: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(line)


def test_only_a_completed_run_is_a_success() -> None:
    assert [reason for reason in Reason if reason.exit_status is ExitStatus.SUCCESS] == [
        Reason.COMPLETED
    ]
    assert Reason.TRUNCATED.exit_status is ExitStatus.FAIL
    assert Reason.ABORTED.exit_status is ExitStatus.ABORT


STOP = {
    "time": "2026-11-23T13:00:00+00:00",
    "exit_status": "success",
    "reason": "completed",
    "expected_points": {"eis": 2},
    "actual_points": {"eis": 2},
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"time": "later"}, "ISO 8601"),
        ({"time": "2026-11-23T13:00:00"}, "offset from UTC"),
        ({"exit_status": "splendid"}, "exit_status"),
        ({"reason": "why not"}, "reason"),
        ({"actual_points": {"eis": "two"}}, "whole numbers"),
        ({"expected_points": {"eis": True}}, "whole numbers"),
        ({"forgone_points": None}, "forgone_points: expected whole numbers"),
        ({"forgone_points": {"eis": "x"}}, "forgone_points: expected whole numbers"),
        ({"safe_state": None}, "safe_state: expected text"),
        ({"safe_state": {"stage": None}}, "safe_state: expected text"),
        ({"reason": "failed"}, "reason failed is no ending with exit_status success"),
    ],
)
def test_a_run_stop_that_no_reader_could_judge_by_is_refused(change, complaint) -> None:
    decode(encode(Document("r", 4, Kind.RUN_STOP, STOP)))
    with pytest.raises(DocumentError, match=complaint):
        decode(encode(Document("r", 4, Kind.RUN_STOP, {**STOP, **change})))


def test_what_the_check_lets_pass_the_reader_takes() -> None:
    for document in (page(), Document("r", 4, Kind.RUN_STOP, STOP)):
        check(document)
        assert decode(encode(document)) == document
    with pytest.raises(DocumentError, match="column f"):
        check(page(columns={"f": ["a", 1.0], "z": [0.5, 0.25]}))
