"""Faults between the processes: a network that is cut, half open, slow, or that alters bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.faults.bench import finish
from benchmarks.faults.brokers import Mosquitto, url_of
from benchmarks.faults.instrument import n_ocp_points
from benchmarks.faults.proxy import Proxy

if TYPE_CHECKING:
    from benchmarks.faults.bench import Bench
    from benchmarks.faults.check import Verdict

_CUTS = 3
# Every damaged message is sent again after a silence of 3 s, which many of them would add up.
_SHARE_DAMAGED = 0.02
_SHARE_DAMAGED_QUICK = 0.1
_OFFLINE_S = 48 * 3600.0


def network_cut(bench: Bench) -> Verdict:
    """Cut the network three times: every connection is reset, no new one is let through."""
    with Mosquitto(bench.folder) as broker, Proxy(broker.port, seed=bench.seed) as proxy:
        url = url_of(proxy.port)
        bench.start_recorder(url).until("ready")
        run = bench.start_run(url)
        for moment in bench.moments(_CUTS):
            run.child.until("sent", moment)
            proxy.cut()
            run.child.until("sent", moment + bench.gap())
            proxy.mend()
        finish(bench, run)
    return bench.verdict()


def half_open(bench: Bench) -> Verdict:
    """Leave every connection half open, twice: nobody hangs up and nothing comes through."""
    with Mosquitto(bench.folder) as broker, Proxy(broker.port, seed=bench.seed) as proxy:
        url = url_of(proxy.port)
        bench.start_recorder(url).until("ready")
        run = bench.start_run(url)
        for moment in bench.moments(2):
            run.child.until("sent", moment)
            proxy.freeze()
        finish(bench, run)
    return bench.verdict()


def slow_and_torn(bench: Bench) -> Verdict:
    """Deliver late, in small pieces, and reset connections in the middle of a message."""
    with Mosquitto(bench.folder) as broker, Proxy(broker.port, seed=bench.seed) as proxy:
        proxy.delay_s = 0.02
        proxy.largest_piece = 3000
        url = url_of(proxy.port)
        bench.start_recorder(url).until("ready")
        run = bench.start_run(url)
        for moment in bench.moments(5):
            run.child.until("sent", moment)
            proxy.reset()
        finish(bench, run)
    return bench.verdict()


def damaged_documents(bench: Bench) -> Verdict:
    """Turn over one bit in some messages of documents and of watermarks, on their way."""
    with Mosquitto(bench.folder) as broker, Proxy(broker.port, seed=bench.seed) as proxy:
        proxy.share_damaged = _SHARE_DAMAGED_QUICK if bench.is_quick else _SHARE_DAMAGED
        url = url_of(proxy.port)
        bench.start_recorder(url).until("ready")
        finish(bench, bench.start_run(url))
    n_damaged = proxy.n_damaged
    bench.notes.append(f"damaged {n_damaged['doc']} messages and {n_damaged['ack']} watermarks")
    return bench.verdict()


def credentials_refused(bench: Bench) -> Verdict:
    """Let the broker refuse the password until the run is half done."""
    broker = Mosquitto(bench.folder)
    broker.start(password="another")  # noqa: S106 - of a broker that lives for seconds
    try:
        recorder = bench.start_recorder(broker.url)
        run = bench.start_run(broker.url)
        run.child.until("sent", bench.n_points // 2)
        broker.kill()
        broker.start()
        recorder.until("ready")
        finish(bench, run)
    finally:
        broker.kill()
    return bench.verdict()


def two_recorders(bench: Bench) -> Verdict:
    """Require two recorders and kill one of them for a while: both must have everything."""
    second = bench.folder / "second.sqlite"
    with Mosquitto(bench.folder) as broker:
        bench.start_recorder(broker.url).until("ready")
        run = bench.start_run(broker.url, recorders=["recorder-1", "recorder-2"])
        for moment in bench.moments(2, of=bench.n_points // 2):
            recorder = bench.start_recorder(broker.url, number=2, store=second)
            recorder.until("recorded", moment, source=run.child)
            recorder.kill()
        run.child.until("ended")
        bench.start_recorder(broker.url, number=2, store=second)
        finish(bench, run)
    return bench.verdict((bench.store, second))


def two_days_offline(bench: Bench) -> Verdict:
    """Measure for 48 h of the instrument's time without a broker; then let it come."""
    broker = Mosquitto(bench.folder)
    interval_s = _OFFLINE_S / n_ocp_points(bench.n_points)
    run = bench.start_run(
        broker.url, interval_s=interval_s, telemetry_interval_s=max(60.0, 10 * interval_s)
    )
    run.child.until("ended")
    hours = run.child.facts.get("virtual_s", 0.0) / 3600
    bench.notes.append(f"{hours:.1f} simulated hours without a broker")
    with broker:
        bench.start_recorder(broker.url)
        finish(bench, run)
    return bench.verdict()
