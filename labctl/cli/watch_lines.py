"""What a watcher hears, as JSON objects for scripts and as lines for logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import orjson

from labctl.clock import utc_now
from labctl.quantities import celsius, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from labctl.stream.watching import Picture, WatchedRig, Watcher

_Key = tuple[str, str, str]


def rows(watcher: Watcher) -> dict[_Key, dict[str, Any]]:
    """Return everything a watcher knows: one object for the broker, each rig and each channel."""
    broker = {"kind": "broker", "url": watcher.address and str(watcher.address)}
    found: dict[_Key, dict[str, Any]] = {
        ("broker", "", ""): {**broker, "problem": watcher.problem},
    }
    for name, rig in sorted(watcher.picture.rigs.items()):
        of_rig = {("rig", name, ""): _rig_row(name, rig)}
        of_channels = {
            ("channel", name, channel): _channel_row(watcher.picture, name, channel)
            for channel in sorted(rig.channels)
        }
        # In the order in which it happened: a run ends before its rig goes.
        found |= of_rig | of_channels if rig.is_there else of_channels | of_rig
    return found


def _rig_row(name: str, rig: WatchedRig) -> dict[str, Any]:
    status = rig.status
    return {
        "kind": "rig",
        "rig": name,
        "state": rig.state,
        "reason": status.reason if status else "",
        "session": status.session if status else None,
        "time": status.time if status else None,
    }


def _channel_row(picture: Picture, name: str, channel: str) -> dict[str, Any]:
    rig = picture.rigs[name]
    said = rig.channels[channel]
    run = picture.runs.get(said.run_id)
    return {
        "kind": "channel",
        "rig": name,
        "channel": channel,
        **said.model_dump(),
        "state": rig.state_of(channel).value,
        "alert": rig.alert_of(channel),
        "last_points": dict(run.last_points) if run else {},
        "fit": run.fit if run else None,
    }


def age_s(at: datetime | None) -> float | None:
    """Return how long ago something was said, in s; None if nobody knows."""
    return None if at is None else max(0.0, (utc_now() - at).total_seconds())


def printable(text: str) -> str:
    """Return text from anybody as one line that does nothing to a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)


def duration_text(seconds: float | None) -> str:
    """Return a duration as a person says it; "?" for one that nobody knows."""
    return "?" if seconds is None else format_duration(seconds)


def print_rows(watcher: Watcher) -> None:
    """Print every row as a line of JSON."""
    for row in rows(watcher).values():
        _write(orjson.dumps(row).decode())


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class JsonLines:
    """Prints a row whenever it has changed."""

    def __init__(self) -> None:
        self._shown: dict[_Key, dict[str, Any]] = {}

    def __call__(self, watcher: Watcher) -> None:
        """Print what has changed since the last call."""
        for key, row in rows(watcher).items():
            if self._shown.get(key) != row:
                self._shown[key] = row
                _write(orjson.dumps(row).decode())


class PlainLines:
    """Prints a line for each change that a log should hold: states, steps, fits."""

    def __init__(self) -> None:
        self._shown: dict[_Key, str] = {}

    def __call__(self, watcher: Watcher) -> None:
        """Print what has changed since the last call."""
        for key, row in rows(watcher).items():
            what, line = _line(row)
            if self._shown.get(key) != what:
                self._shown[key] = what
                _write(f"{utc_now():%H:%M:%S}Z {printable(line)}")


def _line(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what has to change for a new line, and the line."""
    if row["kind"] == "broker":
        line = row["problem"] or f"connected to {row['url']}"
        return line, line
    if row["kind"] == "rig":
        because = f": {row['reason']}" if row["reason"] else ""
        line = f"{row['rig']} {row['state']}{because}"
        return line, line
    return _channel_line(row)


def _channel_line(row: Mapping[str, Any]) -> tuple[str, str]:
    where = f"{row['rig']}/{row['channel']}"
    state = row["outcome"] or row["state"]
    what = f"{row['run_id']} {state} {row['step_key']} {row['alert']}"
    if row["state"] != "running":
        said = row["alert"] or row["message"]
        return what, f"{where} {state}, run {row['run_id']}{': ' * bool(said)}{said}"
    at = "" if row["temperature_k"] is None else f", {celsius(row['temperature_k']):.2f} degC"
    left = duration_text(row["time_left_s"])
    step = f"step {row['step']} of {row['steps']} {row['step_key']}"
    return what, f"{where} {state}, {step}{at}, {row['progress']:.0%}, about {left} left"
