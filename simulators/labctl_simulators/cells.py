"""The kinds of cells that a world file can hold, each made from its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl_simulators.cell_in_time import CellInTime
from labctl_simulators.full_cell import FullCell, FullCellProperties
from labctl_simulators.full_cell_body import FullCellBody
from labctl_simulators.lsv_body import LsvBody
from labctl_simulators.lsv_cell import LsvCell, LsvCellProperties
from labctl_simulators.pellet import Pellet, PelletProperties
from labctl_simulators.pellet_body import PelletBody
from labctl_simulators.symmetric_cell import SymmetricCell, SymmetricCellProperties
from labctl_simulators.table import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from labctl_simulators.cell import MeasuredCell
    from labctl_simulators.stage import Stage

    Maker = Callable[[Mapping[str, Any], Stage, str], MeasuredCell]

DEFAULT_KIND = "pellet"


def make_cell(table: Mapping[str, Any], stage: Stage, *, where: str) -> MeasuredCell:
    """Return the cell that a table describes, on its stage.

    Args:
        table: the keys of [cells.NAME] without `stage`; `kind` is "pellet" if it is missing.
        stage: what the cell lies on.
        where: what an error begins with: the file and the name of the table.

    Raises:
        ValueError: a kind or a key that is unknown, or a value that is not what it should be.
    """
    kind = table.get("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(repr(name) for name in KINDS)
        raise ValueError(f"{where}.kind = {kind!r}: expected one of {known}")
    numbers = {key: value for key, value in table.items() if key != "kind"}
    return KINDS[kind](numbers, stage, where)


def _pellet(table: Mapping[str, Any], stage: Stage, where: str) -> MeasuredCell:
    pellet = Pellet(read_table(PelletProperties, table, where=where))
    return CellInTime(PelletBody(pellet, stage))


def _symmetric(table: Mapping[str, Any], stage: Stage, where: str) -> MeasuredCell:
    cell = SymmetricCell(read_table(SymmetricCellProperties, table, where=where))
    return CellInTime(PelletBody(cell, stage))


def _lsv(table: Mapping[str, Any], stage: Stage, where: str) -> MeasuredCell:
    cell = LsvCell(read_table(LsvCellProperties, table, where=where))
    return CellInTime(LsvBody(cell, stage))


def _full(table: Mapping[str, Any], stage: Stage, where: str) -> MeasuredCell:
    cell = FullCell(read_table(FullCellProperties, table, where=where))
    return CellInTime(FullCellBody(cell, stage))


KINDS: dict[str, Maker] = {
    "pellet": _pellet,
    "symmetric": _symmetric,
    "lsv": _lsv,
    "full": _full,
}
