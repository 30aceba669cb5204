"""`labctl protocols` and `labctl new`: which experiments there are, and how to begin one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.options import Json
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from labctl.run.protocol import Protocol

app = typer.Typer(no_args_is_help=True)

_ENTRY = re.compile(r"^ {8}(?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n {12}.*)*)", re.MULTILINE)
_SCRIPT_NAME = re.compile(r"[a-z][a-z0-9_]*")


def protocols(
    name: Annotated[
        str | None, typer.Argument(metavar="[PROTOCOL]", help="One of them, or SCRIPT.py.")
    ] = None,
    json: Json = False,
) -> None:
    """List the protocols, or one protocol's parameters with their defaults."""
    from labctl.instruments import registry
    from labctl.request import find_protocol

    if name is not None:
        _show_one(find_protocol(name), json=json)
        return
    found = [find_protocol(each) for each in registry.names("labctl.protocols")]
    if json:
        _print_json([{"name": each.name, "summary": each.summary} for each in found])
        return
    width = max(len(each.name) for each in found)
    for each in found:
        typer.echo(f"{each.name:{width}}  {each.summary}")
    typer.echo("\n`labctl protocols NAME` lists one's parameters.")


def _show_one(protocol: Protocol[Any], *, json: bool) -> None:
    """Print one protocol's parameters."""
    about = _parameters(protocol)
    if json:
        _print_json({"name": protocol.name, "summary": protocol.summary, "parameters": about})
        return
    from rich.markup import escape
    from rich.table import Table

    from labctl.cli.views import console

    table = Table(title=f"{protocol.name}: {protocol.summary}", title_justify="left")
    for heading in ("parameter", "default", "meaning"):
        table.add_column(heading)
    for each in about:
        default = "(must be given)" if each["is_required"] else each["default"]
        table.add_row(each["name"], escape(default), escape(each["meaning"]))
    console().print(table)


def _parameters(protocol: Protocol[Any]) -> list[dict[str, Any]]:
    """Return name, default and meaning of every parameter, those that must be given first."""
    meanings = _meanings(protocol.parameters)
    about = [
        {
            "name": name,
            "is_required": field.is_required(),
            "default": "" if field.is_required() else _default_text(field),
            "meaning": meanings.get(name, ""),
        }
        for name, field in protocol.parameters.model_fields.items()
    ]
    return sorted(about, key=lambda each: not each["is_required"])


def _default_text(field: Any) -> str:
    """Return a default as a person writes it in a file."""
    from labctl.quantities import written

    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, tuple) and value and hasattr(value[0], "model_dump"):
        return ", ".join(str(each.model_dump(exclude_defaults=True)) for each in value)
    return written(value, field.metadata)


def _meanings(model: type[Any]) -> dict[str, str]:
    """Return what the docstrings of a model and its bases say of each attribute."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        for match in _ENTRY.finditer(kind.__doc__ or ""):
            text = " ".join(match["text"].split())
            found |= dict.fromkeys(match["names"].split(", "), text)
    return found


@app.command("protocol")
def new_protocol(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it, in lower case.")],
    folder: Annotated[
        Path, typer.Option("--folder", help="Where the files go.", show_default="here")
    ] = Path(),
) -> None:
    """Write a protocol to start from, NAME.py, and a test of it, test_NAME.py, that passes."""
    from labctl.cli.templates import PROTOCOL, TEST

    if not _SCRIPT_NAME.fullmatch(name):
        raise BadInputError(f"NAME = {name!r}: expected lower-case letters, digits and _")
    texts = {folder / f"{name}.py": PROTOCOL, folder / f"test_{name}.py": TEST}
    for path in texts:
        if path.exists():
            raise BadInputError(f"{path}: is there already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text.replace("NAME", name).replace("Name", _class_name(name)))
        typer.echo(f"wrote {path}")
    typer.echo(f"test it with `pytest {folder / f'test_{name}.py'}`")
    typer.echo(f"run it with `labctl run {folder / f'{name}.py'} --rig rig.toml`")


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _print_json(value: object) -> None:
    from labctl.cli.views import print_json

    print_json(value)
