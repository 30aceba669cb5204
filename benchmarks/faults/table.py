"""The table of the campaign in the page on reliability, between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.faults.campaign import Result

BEGIN = "<!-- campaign: written by python -m benchmarks.faults --write -->"
END = "<!-- end of campaign -->"


def write_table(page: Path, results: Sequence[Result]) -> None:
    """Put the results' table where the last one stands in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """Return the results as Markdown."""
    seed, n_points = results[0].seed, max(result.n_points for result in results)
    head = f"Seed {seed}, {n_points:,} points per fault; times are those of the machine it ran on."
    columns = ("fault", "sent", "stored", "lost", "twice", "altered", "in order", "beside")
    lines = [head, "", _line(columns), _line(["---"] * len(columns)), *map(_row, results), ""]
    lines += ["What people see meanwhile:", ""]
    lines += [f"- **{result.name}**: {_words(result)}" for result in results]
    return "\n".join(lines)


def _row(result: Result) -> str:
    verdict = result.verdict
    counts = (verdict.n_sent, verdict.n_stored, verdict.n_lost, verdict.n_duplicated)
    return _line(
        [
            f"**{result.name}**: {result.what}",
            *(f"{count:,}" for count in (*counts, verdict.n_altered)),
            "yes" if verdict.is_in_order else "NO",
            "; ".join(_beside(result)),
        ]
    )


def _beside(result: Result) -> list[str]:
    """Return what else is to be said of a fault."""
    verdict = result.verdict
    beside: list[str] = []
    if verdict.n_in_flight:
        span = f"the oldest {verdict.in_flight_ms:.0f} ms old"
        beside.append(f"{verdict.n_in_flight} points in flight at the kills, {span}")
    if verdict.n_refused:
        beside.append(f"{verdict.n_refused} points after the outbox was full, and said so")
    return beside + [note for note in result.notes if "all recorded" not in note]


def _words(result: Result) -> str:
    """Return what a user saw; a problem that is also logged stands there once."""
    words = [
        each
        for each in result.words
        if not any(each != other and each in other for other in result.words)
    ]
    return "; ".join(f"`{each}`" for each in words) or "nothing"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
