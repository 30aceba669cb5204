"""How the results that protocols record look on the terminal, whatever they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_ROWS = 20
_HIDDEN = {"step", "key", "lambda", "residual"}


def result_tables(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Return a table for each stream of results and its warnings: a column for each number."""
    tables = [_table(stream, rows) for stream, rows in results.items()]
    notes = [_notes(rows) for rows in results.values()]
    return [each for pair in zip(tables, notes, strict=True) for each in pair if each is not None]


def _notes(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return the warnings of a stream's rows, each once with how often it was given."""
    from collections import Counter

    from rich.text import Text

    counts = Counter(str(warning) for row in rows for warning in row.get("warnings") or ())
    if not counts:
        return None
    times = {text: f" ({n} times)" if n > 1 else "" for text, n in counts.items()}
    return Text("\n".join(f"note: {text}{times[text]}" for text in counts))


def _table(stream: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    names = list(dict.fromkeys(name for row in rows for name in row if _is_shown(name, row[name])))
    if not names:
        return None
    left_out = max(0, len(rows) - _MOST_ROWS)
    table = Table(title=Text(_title(stream, left_out)), title_justify="left")
    for name in names:
        table.add_column(Text(name.replace("_", " ")), overflow="fold")
    for row in (
        *rows[: _MOST_ROWS // 2],
        *rows[max(_MOST_ROWS // 2, len(rows) - _MOST_ROWS // 2) :],
    ):
        table.add_row(*(Text(_text(row.get(name))) for name in names))
    return table


def _title(stream: str, left_out: int) -> str:
    between = f" ({left_out} rows between the first and the last are left out)" if left_out else ""
    return f"{stream}{between}"


def _is_shown(name: str, value: object) -> bool:
    """Return whether a value fits a cell: a number, a word, or a list of processes."""
    if name in _HIDDEN:
        return False
    return value is None or isinstance(value, (str, int, float)) or name == "peaks"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.5g}"
    if isinstance(value, list):
        return "; ".join(_item(each) for each in cast("list[object]", value))
    return str(value)


def _item(value: object) -> str:
    """Return a process as its relaxation time and resistance."""
    if isinstance(value, dict) and {"tau_s", "r_ohm"} <= value.keys():
        process = cast("dict[str, float]", value)
        return f"{process['tau_s']:.1e} s: {process['r_ohm']:.4g} ohm"
    return str(cast("object", value))
