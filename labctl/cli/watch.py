"""`labctl watch` and `labctl send`: rigs seen and asked over MQTT, from anywhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from labctl.cli.options import Data, read_settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator

    from labctl.stream.mqtt import BrokerAddress
    from labctl.stream.watching import Watcher

_T = TypeVar("_T")

_LOOK_S = 0.25
_HEARD_WITHIN_S = 5.0
_QUIET_S = 0.3

_Name = Annotated[
    str | None, typer.Argument(metavar="[RIG]", help="Name of a rig.  [default: every rig]")
]
_Mqtt = Annotated[
    str | None,
    typer.Option("--mqtt", help="The broker: mqtts://host.  [default: that of the run going on]"),
]
_RigFile = Annotated[Path | None, typer.Option("--rig", help="Rig file: its name, its broker.")]


def watch(
    name: _Name = None,
    mqtt: _Mqtt = None,
    rig: _RigFile = None,
    data: Data = None,
    json: Annotated[bool, typer.Option("--json", help="Print an object for each change.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show how things are, then exit.")] = False,
) -> None:
    """Follow rigs live: status, run, step, temperature, newest points, time left.

    Without --mqtt and --rig it finds the broker of the run that goes on in the data folder.
    """
    from labctl.stream.watching import Watcher

    where = _Where(name, mqtt, rig, data)
    watcher = Watcher(where.address, rig=where.rig or "+", missing=where.missing)
    if once:
        _on_selector_loop(_show_once(watcher, where, json=json))
        return
    try:
        with _shown(json=json) as show:
            _on_selector_loop(_follow(watcher, show))
    except KeyboardInterrupt:
        return


def send(
    verb: Annotated[str, typer.Argument(metavar="VERB", help="What to do, such as ping.")],
    name: Annotated[
        str | None, typer.Argument(metavar="[RIG]", help="Name.  [default: the one running]")
    ] = None,
    mqtt: _Mqtt = None,
    rig: _RigFile = None,
    data: Data = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One argument; may be repeated."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="How long to wait, in s.")] = 10.0,
) -> None:
    """Send a command to a rig that is running and print its result as JSON.

    Example: labctl send ping
    """
    from labctl.cli.views import print_json
    from labctl.errors import BadInputError
    from labctl.stream.sending import send_command

    where = _Where(name, mqtt, rig, data)
    address = where.address()
    if address is None:
        raise BadInputError(f"{where.missing}; name a broker with --mqtt")
    if where.rig is None:
        raise BadInputError("which rig? Name it: labctl send VERB RIG")
    args = read_settings(set_ or [])
    sending = send_command(address, where.rig, verb, args, timeout_s=timeout)
    print_json(_on_selector_loop(sending))


class _Where:
    """Which rig a command means, and which broker it is on now."""

    def __init__(
        self, name: str | None, mqtt: str | None, rig: Path | None, data: Path | None
    ) -> None:
        from labctl.config import load_rig
        from labctl.store.reading import default_data
        from labctl.stream.mqtt import broker_address
        from labctl.stream.rig_broker import rig_broker

        config = load_rig(rig) if rig is not None else None
        self._name = name or (config.name if config else None)
        self._folder = data or default_data()
        if config is not None:
            self._address = rig_broker(config.mqtt, source=str(rig), url=mqtt)
        else:
            self._address = broker_address(mqtt) if mqtt else None
        self.missing = f"no run goes on in {self._folder}"

    @property
    def rig(self) -> str | None:
        """The name given, else that of the rig that is running here; None for neither."""
        from labctl.stream.whereabouts import read_whereabouts

        if self._name is not None or self._address is not None:
            return self._name
        where = read_whereabouts(self._folder)
        return None if where is None else where.rig

    def address(self) -> BrokerAddress | None:
        """Return the broker named, else that of the run in the data folder; None for neither."""
        from labctl.stream.whereabouts import read_whereabouts

        if self._address is not None:
            return self._address
        where = read_whereabouts(self._folder)
        return None if where is None else where.address


def _on_selector_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what some work returns; on a selector loop, which the MQTT client needs."""
    import asyncio

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(work)


async def _follow(watcher: Watcher, show: Callable[[Watcher], None]) -> None:
    """Show what changes until interrupted."""
    import asyncio

    watching = asyncio.create_task(watcher.run())
    try:
        while not watching.done():
            show(watcher)
            await asyncio.wait([watching], timeout=_LOOK_S)
        await watching
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _show_once(watcher: Watcher, where: _Where, *, json: bool) -> None:
    """Show the present state of what is heard within a few seconds.

    Raises:
        StreamError: nothing is.
    """
    import asyncio

    from labctl.cli.watch_lines import print_rows
    from labctl.errors import StreamError

    watching = asyncio.create_task(watcher.run())
    try:
        await _until_quiet(watcher, watching)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    if not any(rig.status or rig.channels for rig in watcher.picture.rigs.values()):
        who = f"rig {where.rig}" if where.rig else "any rig"
        at = f" on {watcher.address}" if watcher.address else ""
        why = f" ({watcher.problem})" if watcher.problem else ""
        raise StreamError(f"nothing heard of {who}{at} within {_HEARD_WITHIN_S:g} s{why}")
    if json:
        print_rows(watcher)
    else:
        from labctl.cli.views import console
        from labctl.cli.watch_view import picture_view

        out = console()
        out.print(picture_view(watcher, width=out.width, height=None))


async def _until_quiet(watcher: Watcher, watching: asyncio.Task[Any]) -> None:
    """Wait until everything retained is here: something came, and nothing more for a moment."""
    import asyncio

    with suppress(TimeoutError):
        async with asyncio.timeout(_HEARD_WITHIN_S):
            n_heard = 0
            while not watching.done():
                # Only what was asked for can come: on a slow link nothing comes before that.
                await watcher.has_asked.wait()
                await asyncio.wait([watching], timeout=_QUIET_S)
                n_now = watcher.picture.n_states
                if n_now and n_now == n_heard:
                    return
                n_heard = n_now


@contextmanager
def _shown(*, json: bool) -> Generator[Callable[[Watcher], None]]:
    """Give what shows a watcher's picture: JSON, a live table, or lines where nobody looks."""
    from labctl.cli.watch_lines import JsonLines, PlainLines

    if json:
        yield JsonLines()
        return
    if not sys.stdout.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.live import Live

    from labctl.cli.watch_view import picture_view

    screen = Console()
    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:

        def show(watcher: Watcher) -> None:
            view = picture_view(watcher, width=screen.width, height=screen.height)
            live.update(view, refresh=True)

        yield show
