"""The documents a run emits: event-model's kinds and names, one gap-free `seq` per run.

    run_start   what is measured, with what, by which protocol and parameters
    descriptor  the columns of one stream ("eis", "temperature", ...) and their units
    event_page  one frame of a stream: columns of equal length, every one float64
    event       one thing that happened: a step's start and end, a settle, a fitted result
    run_stop    how the run ended, with expected and actual point counts

On the wire a document is one line of JSON that a person can read. A number that is not a number
(NaN) travels as null. The last field is a checksum of what stands before it: a bit that falls over
in a digit leaves good JSON and another value, and TCP's own sum does not reach from end to end.
"""

from __future__ import annotations

import math
import reprlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, cast
from zlib import crc32

import orjson

from labctl.errors import DocumentError

SCHEMA_VERSION = 1
OUTPUTS_OFF = "outputs off"
"""What run_stop says in `safe_state` of an instrument that was made safe."""
IN_USE = "in use by "
"""How it begins where an instrument was left as it was, for the runs that follow."""

Columns = Mapping[str, Sequence[float]]

_KEYS = {"schema", "run_id", "seq", "kind", "body"}
_SEAL = b',"crc32":"'
_SEAL_SIZE = len(_SEAL) + 10


class Kind(StrEnum):
    """What a document is; event-model's names."""

    RUN_START = "run_start"
    DESCRIPTOR = "descriptor"
    EVENT_PAGE = "event_page"
    EVENT = "event"
    RUN_STOP = "run_stop"


class ExitStatus(StrEnum):
    """event-model's exit_status."""

    SUCCESS = "success"
    ABORT = "abort"
    FAIL = "fail"


class Reason(StrEnum):
    """How a run ended, finer than its exit_status."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"
    TRUNCATED = "truncated"

    @property
    def exit_status(self) -> ExitStatus:
        """Return the event-model status that this reason counts as."""
        return _STATUS[self]


_STATUS = {
    Reason.COMPLETED: ExitStatus.SUCCESS,
    Reason.ABORTED: ExitStatus.ABORT,
    Reason.FAILED: ExitStatus.FAIL,
    Reason.TRUNCATED: ExitStatus.FAIL,
}

# What each kind's body must hold, with its type; everything else in a body is free.
_REQUIRED: dict[Kind, dict[str, type | tuple[type, ...]]] = {
    Kind.RUN_START: {"time": str, "protocol": str, "parameters": dict, "sample": dict},
    Kind.DESCRIPTOR: {"stream": str, "units": dict},
    Kind.EVENT_PAGE: {"stream": str, "n_points": int, "columns": dict},
    Kind.EVENT: {"stream": str, "time": str, "data": dict},
    Kind.RUN_STOP: {
        "time": str,
        "exit_status": str,
        "reason": str,
        "expected_points": dict,
        "actual_points": dict,
    },
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document: what run it belongs to, its place in it, its kind and its body."""

    run_id: str
    seq: int
    kind: Kind
    body: Mapping[str, Any]

    @property
    def stream(self) -> str:
        """Return the stream that this document belongs to; "" for run_start and run_stop."""
        return str(self.body.get("stream", ""))


class Room(StrEnum):
    """How much room a sink has left."""

    PLENTY = "plenty"
    SCARCE = "scarce"
    NONE = "none"


class Sink(Protocol):
    """Takes documents; returns once it has taken responsibility for them."""

    @property
    def room(self) -> Room:
        """How much room is left; with none, a run shall pause before it gives more."""
        ...

    async def room_again(self) -> None:
        """Return when there is plenty of room."""
        ...

    async def put(self, document: Document) -> None:
        """Take one document, at once; then wait while the sink is full.

        Raises:
            DocumentError: it breaks its schema; it was not taken.
            StreamError: the sink can take no more; it was not taken, or is lost.
        """
        ...

    async def flush(self) -> None:
        """Return when every document taken so far is on disk."""
        ...


def encode(document: Document) -> bytes:
    """Return the document as one line of JSON, without the newline.

    Raises:
        DocumentError: the body holds something that JSON cannot, such as a complex number.
    """
    envelope = {
        "schema": SCHEMA_VERSION,
        "run_id": document.run_id,
        "seq": document.seq,
        "kind": document.kind.value,
        "body": document.body,
    }
    try:
        return sealed(orjson.dumps(envelope, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError as error:
        raise DocumentError(f"{document.kind} {document.stream}: {error}") from error


def decode(line: bytes) -> Document:
    """Return the document that a line of JSON holds, checked against its schema.

    Raises:
        DocumentError: damaged, not JSON, another schema version, a field missing or of the wrong
            type, or columns of unequal length.
    """
    check_seal(line)
    try:
        envelope = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error}") from error
    if not isinstance(envelope, dict) or envelope.get("schema") != SCHEMA_VERSION:
        raise DocumentError(f"not a document of schema {SCHEMA_VERSION}")
    if not _is_sealed(line) and envelope.keys() != _KEYS:
        # A bit in the seal's own name makes it a key that nobody knows.
        raise DocumentError(f"without a checksum: expected the keys {', '.join(sorted(_KEYS))}")
    return _checked(envelope)


def check(document: Document) -> None:
    """Raise DocumentError unless `decode` will take what `encode` makes of a document."""
    if not document.run_id or document.seq < 0:
        raise DocumentError(f"run_id {document.run_id!r}, seq {document.seq}: no place in a run")
    _check_body(document.kind, document.body)
    for name, column in document.body.get("columns", {}).items():
        _floats(name, column)


def sealed(line: bytes) -> bytes:
    """Return a JSON object with a checksum of its bytes as its last field, `crc32`."""
    return b'%s%s%08x"}' % (line[:-1], _SEAL, crc32(line[:-1]))


def check_seal(line: bytes) -> None:
    """Raise DocumentError if a JSON object ends with a checksum that is not its own."""
    content, seal = line[:-_SEAL_SIZE], line[-_SEAL_SIZE:]
    if _is_sealed(line) and seal != sealed(content + b"}")[-_SEAL_SIZE:]:
        raise DocumentError("damaged on its way: not the bytes that were sent")


def _is_sealed(line: bytes) -> bool:
    return line[-_SEAL_SIZE:].startswith(_SEAL)


def _checked(envelope: dict[str, Any]) -> Document:
    """Return the document in an envelope, or say what is wrong with it."""
    run_id, seq, body = envelope.get("run_id"), envelope.get("seq"), envelope.get("body")
    if not isinstance(run_id, str) or not run_id:
        raise DocumentError("run_id: expected text")
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
        raise DocumentError("seq: expected a whole number from 0")
    if not isinstance(body, dict):
        raise DocumentError("body: expected an object")
    kind = _kind(envelope.get("kind"))
    _check_body(kind, body)
    if kind is Kind.EVENT_PAGE:
        columns = body["columns"].items()
        body["columns"] = {name: _floats(name, column).tolist() for name, column in columns}
    return Document(run_id=run_id, seq=seq, kind=kind, body=body)


def _kind(name: object) -> Kind:
    """Return the kind of a name."""
    if not isinstance(name, str) or name not in list(Kind):
        raise DocumentError(f"kind: {_shown(name)} is none of {list(Kind)}")
    return Kind(name)


def _check_body(kind: Kind, body: Mapping[str, Any]) -> None:
    """Raise DocumentError if a body lacks what its kind promises."""
    for name, expected in _REQUIRED[kind].items():
        if not isinstance(body.get(name), expected):
            got = _shown(body.get(name))
            raise DocumentError(f"{kind}: {name}: expected {expected}, got {got}")
    if "time" in _REQUIRED[kind]:
        _check_time(kind, body["time"])
    if kind is Kind.RUN_STOP:
        _check_ending(body)
    if kind is Kind.EVENT_PAGE:
        _check_columns(body["columns"], body["n_points"])
    if kind is Kind.DESCRIPTOR:
        _check_texts("descriptor: units", body["units"])


def _shown(value: object) -> str:
    """Return the beginning of a value, which may be nested deeper than repr can follow."""
    return f"{reprlib.repr(value):.60}"


def _check_time(kind: Kind, time: str) -> None:
    """Raise DocumentError unless a time is ISO 8601 and says how far it is from UTC."""
    try:
        offset = datetime.fromisoformat(time).tzinfo
    except ValueError as error:
        raise DocumentError(f"{kind}: time: expected ISO 8601, got {_shown(time)}") from error
    if offset is None:
        raise DocumentError(f"{kind}: time: expected an offset from UTC, got {_shown(time)}")


def _check_ending(body: Mapping[str, Any]) -> None:
    """Raise DocumentError unless status, reason and counts are what readers judge by."""
    for name, words in (("exit_status", ExitStatus), ("reason", Reason)):
        if body[name] not in list(words):
            raise DocumentError(f"run_stop: {name}: {_shown(body[name])} is none of {list(words)}")
    if Reason(body["reason"]).exit_status != body["exit_status"]:
        raise DocumentError(
            f"run_stop: reason {body['reason']} is no ending with exit_status {body['exit_status']}"
        )
    for name in ("expected_points", "actual_points", "forgone_points"):
        counts = body.get(name, {})
        if not isinstance(counts, dict) or any(type(n) is not int for n in _values(counts)):
            raise DocumentError(f"run_stop: {name}: expected whole numbers")
    _check_texts("run_stop: safe_state", body.get("safe_state", {}))


def _check_texts(place: str, texts: object) -> None:
    """Raise DocumentError unless something maps names to text."""
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in _values(texts)):
        raise DocumentError(f"{place}: expected text for each name, got {_shown(texts)}")


def _values(mapping: object) -> list[Any]:
    return list(cast("dict[str, Any]", mapping).values())


def _check_columns(columns: Mapping[str, Any], n_points: int) -> None:
    """Raise DocumentError unless there are columns and every one is a list of n_points."""
    if not columns or "seq" in columns:
        raise DocumentError("event_page: columns: expected at least one, and none named seq")
    for name, column in columns.items():
        if not isinstance(column, list) or len(cast("list[Any]", column)) != n_points:
            raise DocumentError(f"event_page: column {name}: expected {n_points} numbers")


def _floats(name: str, column: list[Any]) -> array[float]:
    """Return a column as float64, null as NaN."""
    try:
        if None in column:
            return array("d", [math.nan if value is None else value for value in column])
        return array("d", column)
    except (TypeError, OverflowError) as error:
        raise DocumentError(f"event_page: column {name}: expected numbers") from error


def points_of(document: Document) -> int:
    """Return how many points a document brings: a frame's n_points, else 0."""
    return int(document.body["n_points"]) if document.kind is Kind.EVENT_PAGE else 0
