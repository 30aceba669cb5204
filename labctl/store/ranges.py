"""Which numbers of a run's documents are missing, as ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Range = tuple[int, int]
"""The first and the last seq of a range."""

_N_SHOWN = 5


def missing_ranges(seqs: Iterable[int], *, first: int = 0) -> list[Range]:
    """Return the ranges that are missing from `first` to the last of some seqs.

    Args:
        seqs: In rising order, none below `first`.
        first: Where to begin.
    """
    missing: list[Range] = []
    expected = first
    for seq in seqs:
        if seq > expected:
            missing.append((expected, seq - 1))
        expected = seq + 1
    return missing


def split_ranges(ranges: Iterable[Range], seq: int) -> tuple[list[Range], list[Range]]:
    """Return what of some ranges lies up to a seq, and what lies above it."""
    kept = list(ranges)
    below = [(first, min(last, seq)) for first, last in kept if first <= seq]
    above = [(max(first, seq + 1), last) for first, last in kept if last > seq]
    return below, above


def shown_ranges(ranges: list[Range]) -> str:
    """Return ranges of numbers as a person writes them, the first few of them."""
    shown = ", ".join(
        str(first) if first == last else f"{first} to {last}" for first, last in ranges[:_N_SHOWN]
    )
    return f"{shown} and more" if len(ranges) > _N_SHOWN else shown
