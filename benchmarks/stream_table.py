"""What the streaming benchmark has found, as the page on speed shows it, between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BEGIN = "<!-- speed: written by python -m benchmarks.streaming --peers --write -->"
END = "<!-- end of speed -->"

PEERS = "peers, frames of 100, points/s"
_FRAMES = ("frames of 100", "frames of 1000", "frames of 1")


def write_page(page: Path, figures: Mapping[str, Any]) -> None:
    """Put figures where the last ones stand in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text(figures)}\n{END}{after}", encoding="utf-8")


def text(figures: Mapping[str, Any]) -> str:
    """Return figures as Markdown: two tables and a paragraph."""
    return "\n".join([_head(figures), "", *_loads(figures), "", _beside(figures), *_peers(figures)])


def _head(figures: Mapping[str, Any]) -> str:
    share = " A twentieth of the usual load (`--quick`)." if figures["is_quick"] else ""
    rate = figures["fsync_per_s"]
    return f"The disk brought {rate:,.0f} writes of 4 kB a second to safety.{share}"


def _loads(figures: Mapping[str, Any]) -> list[str]:
    """Return the table of points/s: end to end, on a slower disk, and of each stage alone."""
    slow = figures["with 5 ms more for each commit"]["end to end, points/s"]
    rows: dict[str, list[float]] = {
        "end to end": [figures[load]["end to end"]["points_per_s"] for load in _FRAMES],
        "end to end, each commit 5 ms slower": [slow[load] for load in _FRAMES],
    }
    alone = [figures[load]["stages alone, points/s"] for load in _FRAMES]
    rows |= {f"{stage} alone": [each[stage] for each in alone] for stage in alone[0]}
    return [
        _line(["points/s", "frames of 100", "frames of 1,000", "one point a frame"]),
        _line(["---"] * 4),
        *(_line([name, *(f"{rate:,.0f}" for rate in rates)]) for name, rates in rows.items()),
    ]


def _beside(figures: Mapping[str, Any]) -> str:
    """Return the paragraph on latency, backlog and memory."""
    late = figures["latency at 1,000 points/s"]
    slow = figures["with 5 ms more for each commit"]["latency at 1,000 points/s"]
    backlog, long = figures["drain of an outbox"], figures["10 million points in frames of 1000"]
    publisher, recorder = (
        " to ".join(f"{long[f'{who}_mb, {when}']:.0f}" for when in ("after a tenth", "at the end"))
        for who in ("publisher", "recorder")
    )
    return (
        "At 1,000 points/s, one a frame, half of the points are known to be committed "
        f"{late['p50_ms']:.0f} ms after they were put, 99 % after {late['p99_ms']:.0f} ms "
        f"({slow['p50_ms']:.0f} and {slow['p99_ms']:.0f} ms with commits that take 5 ms longer). "
        f"An outbox of {backlog['points']:,.0f} points in frames of 100 is delivered in "
        f"{backlog['seconds']:.1f} s. Over {long['points']:,.0f} points the publisher's process "
        f"goes from {publisher} MB, most of which is the benchmark's own data, and the recorder's "
        f"from {recorder} MB."
    )


def _peers(figures: Mapping[str, Any]) -> list[str]:
    """Return the table of what others record with, and how many times as much labctl takes."""
    if PEERS not in figures:
        return []
    ours = figures["frames of 100"]["end to end"]["points_per_s"]
    rates = {"labctl, every commit on disk": ours, **figures[PEERS]}
    return [
        "",
        _line(["frames of 100, in the same run", "points/s", "labctl takes"]),
        _line(["---"] * 3),
        *(_line([name, f"{rate:,.0f}", _ratio(ours / rate)]) for name, rate in rates.items()),
    ]


def _ratio(times: float) -> str:
    return f"{times:,.0f} times as much" if round(times) > 1 else "as much"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
