"""`labctl recorder`: recording as a process of its own, and what it has."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.options import Data, Json
from labctl.cli.silence import falling_silent
from labctl.errors import BadInputError

if TYPE_CHECKING:
    from labctl.store.overview import Overview, RecordedRun
    from labctl.stream.mqtt import BrokerAddress

Rig = Annotated[Path | None, typer.Option("--rig", help="Rig file: its name, its broker.")]
Mqtt = Annotated[str | None, typer.Option("--mqtt", help="Broker: mqtts://host.")]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_N_ENDED_SHOWN = 5
_N_BYTES_SHOWN = 200

app = typer.Typer()


@app.callback(invoke_without_command=True)
def recorder(
    context: typer.Context,
    rig: Rig = None,
    mqtt: Mqtt = None,
    data: Data = None,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", help="Name in the watermarks.  [default: made from the store's place]"
        ),
    ] = None,
) -> None:
    """Record the runs of a rig, or of all rigs on a broker, into a store until Ctrl-C.

    With a rig file those of that rig, with --mqtt alone those of all rigs on that broker.
    """
    if context.invoked_subcommand is not None:
        _check_order(context)
        return
    import asyncio

    from labctl.store.reading import default_data
    from labctl.store.sqlite import STORE_NAME
    from labctl.stream.recording import recorder_id_of

    rig_name, address = _source(rig, mqtt)
    store_path = (data or default_data()) / STORE_NAME
    recorder_id = recorder_id_of(store_path) if id_ is None else _checked_id(id_)
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_record(store_path, address, recorder_id, rig_name))


@app.command()
def status(data: Data = None, json: Json = False) -> None:
    """Say who records, how far each run is stored, what is missing and what was no document."""
    from labctl.cli.views import print_json
    from labctl.store.overview import overview
    from labctl.store.reading import default_data

    found = overview(data or default_data())
    if json:
        print_json(_status_data(found))
    else:
        _print_status(found)


@app.command()
def quarantine(data: Data = None, json: Json = False) -> None:
    """Show the lines that were no documents, byte for byte."""
    from labctl.cli.views import print_json
    from labctl.store.overview import quarantined
    from labctl.store.reading import default_data

    lines = quarantined(data or default_data())
    if json:
        print_json([{**asdict(each), "line": b64encode(each.line).decode()} for each in lines])
        return
    for each in lines:
        more = f" and {each.n_bytes - _N_BYTES_SHOWN} bytes more" * (each.n_bytes > _N_BYTES_SHOWN)
        typer.echo(f"{each.first_at}  {each.n_times} x  {each.topic}: {each.problem}")
        typer.echo(f"    {each.line[:_N_BYTES_SHOWN]!r}{more}")


def _check_order(context: typer.Context) -> None:
    """Refuse options that stand before a command, which would not hear of them."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise BadInputError(
                f"options of `labctl recorder {context.invoked_subcommand}` go behind it"
            )


def _source(rig: Path | None, mqtt: str | None) -> tuple[str, BrokerAddress]:
    """Return whose runs are to be recorded, and the broker they come by."""
    from labctl.config import load_rig
    from labctl.stream.mqtt import broker_address
    from labctl.stream.rig_broker import rig_broker
    from labctl.stream.topics import ANY

    if rig is None and mqtt is None:
        raise BadInputError("no broker: name it with --mqtt, or a rig file with --rig")
    if rig is None:
        return ANY, broker_address(mqtt or "")
    config = load_rig(rig)
    address = rig_broker(config.mqtt, source=str(rig), url=mqtt)
    if address is None:
        raise BadInputError(f"{rig}: mqtt.url: missing; a recorder needs a broker of its own")
    return config.name, address


def _checked_id(recorder_id: str) -> str:
    if _NAME.fullmatch(recorder_id):
        return recorder_id
    raise BadInputError(f"--id {recorder_id!r}: expected letters, digits, _ . -, at most 64")


async def _record(store_path: Path, address: BrokerAddress, recorder_id: str, rig: str) -> None:
    """Record until a signal asks for the end."""
    import asyncio

    from labctl.signals import signals_call
    from labctl.stream.recording import record_until, recording
    from labctl.stream.topics import ANY

    stopping = asyncio.Event()
    # The rig in it: a session that the broker keeps brings its old subscriptions back.
    client_id = f"labctl-recorder-{recorder_id}" + (f"-{rig}" if rig != ANY else "")
    with (
        signals_call(stopping.set),
        recording(
            store_path, address, recorder_id=recorder_id, rigs=[rig], client_id=client_id, tell=_say
        ) as work,
    ):
        _say(f"recorder {recorder_id} records into {store_path}")
        await record_until(stopping, work)
    _say("stopped")


def _say(line: str) -> None:
    """Print a line at once, for whoever waits for it; if nobody does, the recording goes on."""
    with falling_silent(sys.stdout):
        typer.echo(line)


def _status_data(found: Overview) -> dict[str, Any]:
    """Return what `recorder status --json` prints."""
    lessee = found.recorder
    return {
        "store": str(found.path),
        "n_bytes": found.n_bytes,
        "recorder": lessee._asdict() if lessee else None,
        "runs": [asdict(run) for run in found.runs],
        "quarantine": [
            {name: value for name, value in asdict(line).items() if name != "line"}
            for line in found.quarantine
        ],
    }


def _print_status(found: Overview) -> None:
    typer.echo(f"store      {found.path}, {found.n_bytes / 1e6:.1f} MB")
    typer.echo(f"recorder   {_recorder_text(found)}")
    ended = [run for run in found.runs if not (run.is_open or run.missing or run.lost)]
    shown = [run for run in found.runs if run not in ended[_N_ENDED_SHOWN:]]
    for run in shown:
        typer.echo(f"run        {run.run_id}  {_run_text(run)}")
    if len(shown) < len(found.runs):
        typer.echo(f"           and {len(found.runs) - len(shown)} older runs, ended and whole")
    n_lines = sum(line.n_times for line in found.quarantine)
    typer.echo(f"quarantine {n_lines} lines that were no documents")
    for line in found.quarantine[:_N_ENDED_SHOWN]:
        typer.echo(
            f"           {line.first_at}  {line.n_times} x  {line.topic}: {line.problem:.80}"
        )


def _recorder_text(found: Overview) -> str:
    lessee = found.recorder
    if lessee is None:
        return "nobody has recorded into this store yet"
    since = f"since {lessee.since}"
    state = {True: f"at work {since}", False: f"not at work; was {since}", None: since}
    return f"{lessee}, {state[lessee.is_alive]}"


def _run_text(run: RecordedRun) -> str:
    from labctl.store.ranges import shown_ranges

    state = "open" if run.is_open else "ended"
    gaps = f", missing: {shown_ranges(run.missing)}" if run.missing else ""
    gaps += f", LOST, nowhere any more: {shown_ranges(run.lost)}" if run.lost else ""
    at = f" at {run.stored_at}" if run.stored_at else ""
    return (
        f"{state}, last document {run.last_seq} ({run.last_kind}){at}, "
        f"watermark {run.watermark}{gaps or ', no gaps'}"
    )
