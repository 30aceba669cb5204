"""The simulated world: stages, the cells on them, and which instrument is wired to which.

A world file is TOML: `seed`, then tables [stages.NAME], [cells.NAME] and [instruments.NAME], where
an instrument's name is the one the rig file gives it. Keys carry their units in their names; those
of a cell depend on its `kind`: "pellet", which is the default, "symmetric", "lsv" or "full".
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from labctl_simulators.cells import make_cell
from labctl_simulators.stage import Stage, StageProperties
from labctl_simulators.table import read_table

if TYPE_CHECKING:
    from pathlib import Path

    from labctl_simulators.cell import MeasuredCell

_Table = Mapping[str, Any]
_SECTIONS = ("stages", "cells", "instruments")


class World:
    """The physical things of one simulation and how instruments are wired to them.

    Args:
        seed: what all noise is drawn from, a number >= 0.
        stages: stages by name.
        cells: cells by name.
        instruments: for each instrument its table of the world file: `stage` and `cell` name what
            it is wired to, `cells` the cells at the inputs 1, 2, ... of its multiplexer; every
            other key is the instrument's own affair.
    """

    def __init__(
        self,
        *,
        seed: int,
        stages: Mapping[str, Stage],
        cells: Mapping[str, MeasuredCell],
        instruments: Mapping[str, _Table],
    ) -> None:
        self._seed = seed
        self._stages = dict(stages)
        self._cells = dict(cells)
        self._instruments = {
            name: MappingProxyType(dict(table)) for name, table in instruments.items()
        }
        self._mounted = {name: _wired_cells(table) for name, table in self._instruments.items()}

    @classmethod
    def from_toml(cls, path: Path) -> World:
        """Return the world that a file describes.

        Raises:
            ValueError: the file is not a world; the message names file, key, value and what was
                expected.
            OSError: the file cannot be read.
        """
        sections = _read_sections(path)
        seed = _seed(sections.pop("seed", 0), where=f"{path}: seed")
        stages = {
            name: Stage(
                read_table(StageProperties, table, where=f"{path}: stages.{name}"),
                noise_seed=int(_generator(seed, f"stages.{name}").integers(2**32)),
            )
            for name, table in sections["stages"].items()
        }
        cells = {
            name: _cell(table, stages, where=f"{path}: cells.{name}")
            for name, table in sections["cells"].items()
        }
        for name, table in sections["instruments"].items():
            _check_wire(table, "stage", stages, where=f"{path}: instruments.{name}")
            _check_wire(table, "cell", cells, where=f"{path}: instruments.{name}")
            _check_inputs(table, cells, where=f"{path}: instruments.{name}")
        return cls(seed=seed, stages=stages, cells=cells, instruments=sections["instruments"])

    def stage(self, instrument: str) -> Stage:
        """Return the stage that an instrument controls; ValueError if it controls none."""
        table = self.settings(instrument)
        if "stage" not in table:
            raise ValueError(f"instrument {instrument!r} of this world is wired to no stage")
        return self._stages[table["stage"]]

    def cell(self, instrument: str) -> MeasuredCell:
        """Return the cell that an instrument is wired to; ValueError if there is none."""
        return self.cells(instrument)[0]

    def cells(self, instrument: str) -> tuple[MeasuredCell, ...]:
        """Return the cells at an instrument's inputs; ValueError if there is none."""
        self.settings(instrument)
        if not self._mounted[instrument]:
            raise ValueError(f"instrument {instrument!r} of this world is wired to no cell")
        return tuple(self._cells[name] for name in self._mounted[instrument])

    def mount(self, instrument: str, cell: str, *, at_input: int = 1) -> None:
        """Put another cell where an instrument, not made yet, measures one.

        Args:
            instrument: which instrument.
            cell: a cell of this world.
            at_input: the input of its multiplexer, counted from 1.

        Raises:
            ValueError: no such instrument, cell or input.
        """
        n_inputs = len(self.cells(instrument))
        if cell not in self._cells:
            raise ValueError(f"no cell {cell!r} in this world; expected {_one_of(self._cells)}")
        if not 1 <= at_input <= n_inputs:
            raise ValueError(
                f"instrument {instrument!r} of this world has no input {at_input}; its `cells` "
                f"name {n_inputs}"
            )
        self._mounted[instrument][at_input - 1] = cell

    def settings(self, instrument: str) -> Mapping[str, Any]:
        """Return an instrument's table as the file gives it; ValueError for an unknown name."""
        if instrument not in self._instruments:
            known = ", ".join(self._instruments) or "none"
            raise ValueError(f"no instrument {instrument!r} in this world; there are: {known}")
        return self._instruments[instrument]

    def rng(self, name: str) -> np.random.Generator:
        """Return a new generator that depends on the seed and `name` only, not on who asked."""
        return _generator(self._seed, name)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def _read_sections(path: Path) -> dict[str, Any]:
    """Return the file's top level with every section there, each a table of tables."""
    try:
        top = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from error
    for key, value in top.items():
        if key not in ("seed", *_SECTIONS):
            known = ", ".join(("seed", *_SECTIONS))
            raise ValueError(f"{path}: {key} = {value!r}: unknown key; expected one of {known}")
    for section in _SECTIONS:
        _check_tables(top.setdefault(section, {}), section, path)
    return top


def _check_tables(tables: object, section: str, path: Path) -> None:
    """Raise ValueError if a section is not a table of tables."""
    expected = f"expected a table [{section}.NAME]"
    if not isinstance(tables, dict):
        raise ValueError(f"{path}: {section} = {tables!r}: {expected}")  # noqa: TRY004
    for name, table in cast("dict[str, object]", tables).items():
        if not isinstance(table, dict):
            raise ValueError(f"{path}: {section}.{name} = {table!r}: {expected}")  # noqa: TRY004


def _seed(value: object, *, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{where} = {value!r}: expected a whole number of at least 0")
    return value


def _cell(table: _Table, stages: Mapping[str, Stage], *, where: str) -> MeasuredCell:
    if "stage" not in table:
        raise ValueError(f"{where}.stage: missing; expected {_one_of(stages)}")
    _check_wire(table, "stage", stages, where=where)
    rest = {key: value for key, value in table.items() if key != "stage"}
    return make_cell(rest, stages[table["stage"]], where=where)


def _check_wire(table: _Table, key: str, known: Mapping[str, object], *, where: str) -> None:
    """Raise ValueError if `key` is there but names nothing that exists."""
    if key in table and (not isinstance(table[key], str) or table[key] not in known):
        raise ValueError(f"{where}.{key} = {table[key]!r}: expected {_one_of(known)}")


def _wired_cells(table: _Table) -> list[str]:
    """Return the names of the cells at an instrument's inputs."""
    if "cells" in table:
        return list(table["cells"])
    return [table["cell"]] if "cell" in table else []


def _check_inputs(table: _Table, known: Mapping[str, object], *, where: str) -> None:
    """Raise ValueError if `cells` is there but is no list of cells, or stands beside `cell`."""
    if "cells" not in table:
        return
    names: object = table["cells"]
    if "cell" in table:
        raise ValueError(f"{where}.cells = {names!r}: expected `cell` or `cells`, not both")
    if not isinstance(names, list) or not names:
        raise ValueError(f"{where}.cells = {names!r}: expected a list of cells")
    for name in cast("list[object]", names):
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{where}.cells = {names!r}: {name!r}: expected {_one_of(known)}")


def _one_of(known: Mapping[str, object]) -> str:
    return (
        "one of " + ", ".join(repr(name) for name in known) if known else "nothing: there is none"
    )
