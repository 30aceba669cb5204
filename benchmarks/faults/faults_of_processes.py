"""Faults of processes: broker, recorder and run are killed, alone and together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.faults.bench import finish
from benchmarks.faults.brokers import Amqtt, Mosquitto

if TYPE_CHECKING:
    from benchmarks.faults.bench import Bench
    from benchmarks.faults.check import Verdict

KILLS = 3
PACE_S = 0.001
"""How long a point takes at least where the process that has it is killed."""


def broker_killed(bench: Bench) -> Verdict:
    """Kill Mosquitto three times while the instrument sends; it keeps nothing."""
    return _broker_killed(bench, Mosquitto(bench.folder))


def persistent_broker_killed(bench: Bench) -> Verdict:
    """Kill a Mosquitto that saves its state, and so comes back with an old one."""
    return _broker_killed(bench, Mosquitto(bench.folder, is_persistent=True))


def embedded_broker_killed(bench: Bench) -> Verdict:
    """Kill amqtt, the embedded broker's software, three times."""
    return _broker_killed(bench, Amqtt())


def _broker_killed(bench: Bench, broker: Mosquitto | Amqtt) -> Verdict:
    with broker:
        bench.start_recorder(broker.url).until("ready")
        run = bench.start_run(broker.url)
        for moment in bench.moments(KILLS):
            run.child.until("sent", moment)
            broker.kill()
            run.child.until("sent", moment + bench.gap())
            broker.start()
        finish(bench, run)
    return bench.verdict()


def recorder_killed(bench: Bench) -> Verdict:
    """Kill the recorder three times, at random moments of its own work."""
    broker = Mosquitto(bench.folder)
    with broker:
        run = bench.start_run(broker.url)
        for moment in bench.moments(KILLS, of=bench.n_points // KILLS):
            recorder = bench.start_recorder(broker.url)
            recorder.until("recorded", moment, source=run.child)
            recorder.kill()
        bench.start_recorder(broker.url)
        finish(bench, run)
    return bench.verdict()


def run_killed(bench: Bench) -> Verdict:
    """Kill the run process three times; the next one takes the outbox over."""
    broker = Mosquitto(bench.folder)
    with broker:
        bench.start_recorder(broker.url).until("ready")
        _kill_runs(bench, broker.url)
    return bench.verdict()


def everything_in_one_killed(bench: Bench) -> Verdict:
    """Kill a run that brings its own broker and recorder: `labctl run` as it comes."""
    _kill_runs(bench, None, store=str(bench.store))
    return bench.verdict()


def _kill_runs(bench: Bench, url: str | None, **changes: object) -> None:
    """Start run after run, kill all but the last."""
    n_each = bench.n_points // (KILLS + 1)
    for _ in range(KILLS):
        run = bench.start_run(url, n_points=2 * n_each, pace_s=PACE_S, **changes)
        run.child.until("sent", bench.random.randrange(n_each // 2, n_each * 3 // 2))
        bench.kill_run(run)
    finish(bench, bench.start_run(url, n_points=bench.n_points_left(), **changes))


def all_killed_at_once(bench: Bench) -> Verdict:
    """Kill run, broker and recorder together, three times."""
    broker = Mosquitto(bench.folder)
    n_each = bench.n_points // (KILLS + 1)
    with broker:
        for _ in range(KILLS):
            recorder = bench.start_recorder(broker.url)
            run = bench.start_run(broker.url, n_points=2 * n_each, pace_s=PACE_S)
            run.child.until("sent", bench.random.randrange(n_each // 2, n_each * 3 // 2))
            broker.kill()
            bench.kill_run(run)
            recorder.kill()
            broker.start()
        bench.start_recorder(broker.url)
        finish(bench, bench.start_run(broker.url, n_points=bench.n_points_left()))
    return bench.verdict()
