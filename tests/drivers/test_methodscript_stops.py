"""Stop conditions run by the simulated interpreter itself, without a line between."""

import numpy as np
import pytest

from labctl_drivers import methodscript_loops as loops
from labctl_drivers.methodscript_packets import parse_packet
from labctl_drivers.methodscript_script import PgstatMode, Script
from labctl_drivers.methodscript_stops import ChargeSum
from labctl_simulators.device import Faults
from labctl_simulators.dummy_cell import resistor
from labctl_simulators.methodscript_parser import parse_script
from labctl_simulators.methodscript_potentiostat import Potentiostat
from labctl_simulators.methodscript_run import ScriptRun


def sums_c(*, current_a: float, n_points: int) -> list[tuple[float, float]]:
    """Return time and charge as the instrument has them, point by point."""
    script = Script()
    elapsed, potential, current = (script.var(name) for name in "tpc")
    charge = ChargeSum(script)
    script.set_pgstat_mode(PgstatMode.GALVANOSTAT)
    script.set_range("db", current_a)
    script.cell_on()
    script.timer_start()
    with loops.cp(
        script, potential, current, current_a=current_a, interval_s=1.0, duration_s=n_points
    ):
        script.timer_get(elapsed)
        charge.write(elapsed, current)
        script.packet(elapsed, charge.total)
    lines: list[str] = []
    potentiostat = Potentiostat(
        resistor(100.0), noise_fraction=0.0, rng=np.random.default_rng(1), faults=Faults()
    )
    run = ScriptRun(
        parse_script(script.lines()),
        potentiostat,
        start_s=0.0,
        emit=lambda line, _: lines.append(line),
    )
    run.advance(1e9)
    packets = [parse_packet(line) for line in lines if line.startswith("P")]
    return [(packet.variables[0].value, packet.variables[1].value) for packet in packets]


def test_the_sum_of_many_equal_parts_keeps_the_precision_of_one() -> None:
    # A plain sum of these in single precision is off by 5e-5 in the end, after 20,000 by 2e-4.
    current_a, n_points = 1.2345e-3, 8000
    sums = sums_c(current_a=current_a, n_points=n_points)
    assert len(sums) == n_points
    for elapsed_s, charge_c in sums[100:]:
        assert charge_c == pytest.approx(current_a * elapsed_s, rel=1e-5)


def test_a_negative_current_gives_a_negative_charge() -> None:
    elapsed_s, charge_c = sums_c(current_a=-1e-3, n_points=10)[-1]
    assert charge_c == pytest.approx(-1e-3 * elapsed_s, rel=1e-5)
