"""`labctl drain` and `labctl verify`: is everything stored, and is it sound."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.options import Data, Json
from labctl.cli.recorder import Mqtt, Rig
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from labctl.store.verification import RunFindings
    from labctl.stream.delivery import Delivery, Waiting
    from labctl.stream.link import Link

_TELL_EVERY_S = 1.0
_NOTHING_WAITS = "nothing waits in the outbox"


def drain(
    data: Data = None,
    rig: Rig = None,
    mqtt: Mqtt = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.0, help="Give up after so many seconds.")
    ] = 60.0,
) -> None:
    """Deliver what waits in the outbox, after a crash or when the broker or recorder was away.

    With a rig file as a run of that rig does. Without one into the folder's own store, or through
    the broker that --mqtt names. Each run goes out under the topics of its own rig.
    """
    from labctl.store.holder import held_folder, this_process
    from labctl.store.reading import default_data
    from labctl.stream.delivery import OUTBOX_NAME

    folder = data or default_data()
    if not (folder / OUTBOX_NAME).is_file():
        typer.echo(_NOTHING_WAITS)
        return
    with held_folder(folder, this_process(run_id="")):
        _drain_held(folder, rig, mqtt, timeout)


def _drain_held(folder: Path, rig: Path | None, mqtt: str | None, timeout_s: float) -> None:
    """Deliver what waits in a folder that is ours."""
    import asyncio

    from labctl.stream.delivery import waiting_in

    waiting = waiting_in(folder)
    if waiting.n_documents == 0:
        typer.echo(_NOTHING_WAITS)
        return
    link = _delivery(folder, waiting, rig, mqtt).link
    left, problem = asyncio.run(_drain(link, waiting.n_documents, timeout_s))
    if left:
        typer.echo(f"{left} of {waiting.n_documents} documents are not stored yet: {problem}")
        raise typer.Exit(1)
    typer.echo(f"all {waiting.n_documents} documents are stored")


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's id.  [default: all runs]")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check what is stored: no gaps, every checksum right, every point counted, the file sound."""
    from labctl.cli.views import print_json
    from labctl.store.reading import default_data
    from labctl.store.verification import verify as verified

    found = verified(data or default_data(), run)
    if json:
        print_json({"is_sound": found.is_sound, **asdict(found)})
    else:
        for problem in found.problems:
            typer.echo(f"the file: {problem}")
        if not found.has_checksums:
            typer.echo("version 1, without checksums: the next recording on it adds them")
        for each in found.runs:
            typer.echo(f"{each.run_id}  {_verdict(each)}")
    raise typer.Exit(0 if found.is_sound else 1)


def _verdict(run: RunFindings) -> str:
    """Return what was found of a run, on one line."""
    if run.problems:
        return "DAMAGED: " + "; ".join(run.problems)
    ending = "interrupted or still running, nothing missing so far" if run.is_open else "ended"
    return f"sound: {run.n_documents} documents, {run.n_points} points; {ending}"


def _delivery(folder: Path, waiting: Waiting, rig: Path | None, mqtt: str | None) -> Delivery:
    """Return the way on which the documents are to go."""
    from labctl.config import load_rig
    from labctl.store.sqlite import STORE_NAME
    from labctl.stream.delivery import OUTBOX_NAME, delivery_from
    from labctl.stream.outbox import OutboxLimits, limits_of
    from labctl.stream.rig_broker import rig_broker

    if rig is not None:
        config = load_rig(rig)
        return delivery_from(
            folder,
            rig=config.name,
            mqtt=rig_broker(config.mqtt, source=str(rig), url=mqtt),
            is_recording=config.mqtt.record,
            recorders=config.mqtt.recorders,
            limits=OutboxLimits.of(config.outbox),
        )
    if mqtt is not None and None in waiting.rigs:
        raise BadInputError(
            "the outbox does not say which rig's documents wait: name it with --rig"
        )
    # Where there is a store, runs on this folder record into it: it must have the rest as well.
    is_recording = (folder / STORE_NAME).is_file()
    if mqtt is None and not is_recording:
        raise BadInputError(
            f"{folder}: no store here, so these runs are recorded elsewhere: name the broker with"
            " --rig or --mqtt"
        )
    # Of an outbox of before runs named their rigs; nobody but our own recorder hears of this name.
    name = next(filter(None, waiting.rigs), "drain")
    limits = limits_of(folder / OUTBOX_NAME)
    return delivery_from(folder, rig=name, mqtt=mqtt, is_recording=is_recording, limits=limits)


async def _drain(link: Link, n_documents: int, timeout_s: float) -> tuple[int, str]:
    """Return how many documents are left after so long, or at a signal, and why."""
    import asyncio

    from labctl.signals import signals_call

    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    stopping = asyncio.Event()
    left = n_documents

    def stop() -> None:
        stopping.set()
        link.hurry()

    with signals_call(stop):
        async with link:
            while left and not stopping.is_set() and (left_s := deadline_s - loop.time()) > 0:
                before, left = left, await link.drain(min(_TELL_EVERY_S, left_s))
                if left and left != before:
                    typer.echo(f"{left} of {n_documents} documents left", err=True)
            problem = "stopped" if stopping.is_set() else link.problem or "no recorder has them"
    return left, problem
