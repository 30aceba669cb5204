import numpy as np
import pytest

from labctl_simulators.device import Faults
from labctl_simulators.dummy_cell import resistor
from labctl_simulators.methodscript_parser import parse_script
from labctl_simulators.methodscript_potentiostat import Potentiostat
from labctl_simulators.methodscript_run import ScriptRun

FOREVER_S = 1e6


def begin(script: str) -> tuple[ScriptRun, list[tuple[str, float]], Potentiostat]:
    output: list[tuple[str, float]] = []
    rng = np.random.default_rng(1)
    potentiostat = Potentiostat(
        resistor(1e3, rest_v=0.5), noise_fraction=0.0, rng=rng, faults=Faults()
    )
    run = ScriptRun(
        parse_script(script.strip().splitlines()),
        potentiostat,
        start_s=0.0,
        emit=lambda line, due_s: output.append((line, due_s)),
    )
    return run, output, potentiostat


def lines_of(script: str) -> list[str]:
    run, output, _ = begin(script)
    run.advance(FOREVER_S)
    assert not run.is_running
    return [line for line, _ in output]


def number(field: str) -> float:
    mantissa = int(field[2:9], 16) - 2**27
    return mantissa * 10.0 ** {"p": -12, "n": -9, "u": -6, "m": -3, " ": 0}[field[9]]


def test_string_is_sent_as_text() -> None:
    assert lines_of('send_string "hello world!"') == ["Thello world!", ""]


def test_f_string_fills_in_variables_and_elements() -> None:
    script = """
var x
array a 2i
store_var x 250m ab
store_var a[1i] 7i ja
send_string f"E = {x} V, n = {a[1i]}"
"""
    assert lines_of(script) == ["TE = 0.25 V, n = 7", ""]


def test_loop_is_framed_and_counts() -> None:
    script = """
var i
store_var i 0i ja
loop i < 2i
  pck_start
  pck_add i
  pck_end
  add_var i 1i
endloop
"""
    assert lines_of(script) == ["L", "Pja8000000i", "Pja8000001i", "+", ""]


def test_breakloop_leaves_the_innermost_loop_only() -> None:
    script = """
var i
store_var i 0i ja
loop i < 2i
  add_var i 1i
  loop 1 == 1
    breakloop
  endloop
endloop
send_string "end"
"""
    assert lines_of(script) == ["L", "L", "+", "L", "+", "+", "Tend", ""]


@pytest.mark.parametrize(("x", "expected"), [("1", "Tone"), ("2", "Ttwo"), ("3", "Tmany")])
def test_if_takes_the_first_branch_that_holds(x: str, expected: str) -> None:
    script = f"""
var x
store_var x {x} ja
if x == 1
  send_string "one"
elseif x <= 2
  send_string "two"
else
  send_string "many"
endif
"""
    assert lines_of(script) == [expected, ""]


@pytest.mark.parametrize(
    ("operation", "result_v"),
    [
        ("add_var x 500m", 2.0),
        ("sub_var x 500m", 1.0),
        ("mul_var x 2", 3.0),
        ("div_var x -2", -0.75),
    ],
)
def test_arithmetic_keeps_the_type_of_its_target(operation: str, result_v: float) -> None:
    script = f"""
var x
store_var x 1500m ab
{operation}
pck_start
pck_add x
pck_end
"""
    (packet, _) = lines_of(script)
    assert packet[1:3] == "ab"
    assert number(packet[1:]) == pytest.approx(result_v)


def test_integer_quotient_is_cut_off_towards_zero() -> None:
    script = """
var i
store_var i -7i ja
div_var i 2i
pck_start
pck_add i
pck_end
"""
    assert lines_of(script) == ["Pja7FFFFFDi", ""]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["store_var x 1 ja", "div_var x 0"], "!0028: Line 3"),
        (["store_var x 1 ja", "add_var x 1i"], "!4207: Line 3"),
        (["store_var x 2147483647i ja", "add_var x 1i"], "!4037: Line 3"),
        (["array a 2i", "store_var a[2i] 1 ja"], "!400F: Line 3"),
        (["array a 2i", "store_var a[0] 1 ja"], "!4207: Line 3"),
        (["array a 4096"], "!4207: Line 2"),
        (["array a 0i"], "!4204: Line 2"),
        (["pck_add x"], "!401B: Line 2"),
        (["pck_end"], "!401B: Line 2"),
        (["pck_start", "pck_start"], "!401B: Line 3"),
        (["wait -1"], "!4200: Line 2"),
        (["set_script_output 7"], "!403C: Line 2"),
        (["set_acquisition_frac_autoadjust 55"], "!4205: Line 2"),
        (["set_max_bandwidth 0"], "!4204: Line 2"),
        (["set_pgstat_chan 1"], "!002F: Line 2"),
        (["set_pgstat_mode 4"], "!0021: Line 2"),
        (["set_e 6001m"], "!000F: Line 2"),
        (["set_range eb 1"], "!0084: Line 2"),
        (["set_range_minmax da -7 1"], "!000F: Line 2"),
        (["set_autoranging ba 1m 1u"], "!4205: Line 2"),
        (["cell_on"], "!0023: Line 2"),
        (["set_pgstat_mode 2", "cell_on", "set_pgstat_mode 3"], "!4028: Line 4"),
        (["meas 1 x ea"], "!4209: Line 2"),
    ],
)
def test_run_time_error_names_its_line_and_ends_the_script(lines: list[str], error: str) -> None:
    script = "\n".join(["var x", *lines, 'send_string "not reached"'])
    assert lines_of(script) == [error, ""]


@pytest.mark.parametrize(
    "loop",
    [
        "meas_loop_lsv x y 0 1 10m 100m",
        "meas_loop_cv x y 0 1 0 10m 100m",
        "meas_loop_ca x y 0 100m 1",
        "meas_loop_cp x y 0 100m 1",
        "meas_loop_lsp x y 0 1 10m 100m",
        "meas_loop_geis x y z 1m 1k 10 3 0",
    ],
)
def test_technique_in_a_mode_that_cannot_do_it_is_refused(loop: str) -> None:
    assert lines_of(f"var x\nvar y\nvar z\n{loop}\nendloop") == ["!0023: Line 4", ""]


def test_error_runs_nothing_behind_on_finished() -> None:
    script = """
set_pgstat_mode 2
cell_on
set_e 7
on_finished:
cell_off
send_string "finished"
"""
    run, output, potentiostat = begin(script)
    run.advance(FOREVER_S)
    assert [line for line, _ in output] == ["!000F: Line 3", ""]
    assert potentiostat.cell_is_on


def test_abort_command_runs_what_stands_behind_on_finished() -> None:
    script = """
loop 1 == 1
abort
endloop
send_string "not reached"
on_finished:
send_string "finished"
"""
    assert lines_of(script) == ["L", "+", "Tfinished", ""]


def test_output_can_be_switched_off_and_on_again() -> None:
    script = """
set_script_output 0
send_string "silent"
loop 1 == 2
endloop
set_script_output 1
send_string "heard"
"""
    assert lines_of(script) == ["Theard", ""]


def test_wait_takes_its_time_to_the_microsecond_but_for_the_commands() -> None:
    run, output, _ = begin('wait 10\nsend_string "x"')
    run.advance(9.9)
    assert output == []
    run.advance(10.1)
    assert output[0][0] == "Tx"
    assert output[0][1] == pytest.approx(10.0, abs=1e-3)


def test_timer_tells_what_passed_since_it_was_started() -> None:
    script = """
var t
wait 3
timer_start
wait 2
timer_get t
pck_start
pck_add t
pck_end
"""
    packet, _ = lines_of(script)
    assert packet[1:3] == "eb"
    assert number(packet[1:]) == pytest.approx(2.0, abs=1e-3)


def test_nothing_is_done_before_it_is_due() -> None:
    run, _, potentiostat = begin("set_pgstat_mode 2\nwait 3600\ncell_on")
    run.advance(3599.0)
    assert not potentiostat.cell_is_on
    assert run.next_step_s() == pytest.approx(3600.0, abs=1e-3)
    run.advance(3601.0)
    assert potentiostat.cell_is_on


def test_halted_script_takes_as_much_longer_as_it_was_halted() -> None:
    run, output, _ = begin('wait 10\nsend_string "x"')
    run.halt(4.0)
    run.halt(5.0)
    assert run.next_step_s() is None
    run.advance(50.0)
    run.resume(104.0)
    run.advance(FOREVER_S)
    assert output[0][1] == pytest.approx(110.0, abs=1e-3)


def test_end_of_measurement_goes_on_behind_the_loop() -> None:
    script = """
var p
meas_loop_ocp p 1 100
  loop 1 == 1
    wait 1
  endloop
endloop
send_string "behind"
"""
    run, output, _ = begin(script)
    run.advance(5.0)
    run.end_measurement(5.0)
    run.advance(6.0)
    assert [line for line, _ in output] == ["M000B", "L", "+", "*", "Tbehind", ""]


def test_end_of_measurement_without_one_changes_nothing() -> None:
    run, output, _ = begin('wait 10\nsend_string "x"')
    run.end_measurement(5.0)
    run.advance(FOREVER_S)
    assert output[0][1] == pytest.approx(10.0, abs=1e-3)


def test_abort_while_finishing_lets_it_finish() -> None:
    run, output, _ = begin('on_finished:\nwait 10\nsend_string "safe"')
    run.advance(5.0)
    run.abort(5.0)
    run.advance(FOREVER_S)
    assert [line for line, _ in output] == ["Tsafe", ""]


def test_measured_potential_and_current_carry_their_metadata() -> None:
    script = """
var p
var c
set_pgstat_mode 2
set_range ba 1m
meas 100m p ab
set_e 1500m
cell_on
meas 100m c ba
pck_start
pck_add p
pck_add c
pck_end
"""
    packet, _ = lines_of(script)
    potential, current = packet[1:].split(";")
    assert (potential[:2], potential[10:]) == ("ab", ",10,206")
    assert number(potential) == pytest.approx(0.5, abs=2e-4)
    # 1 V above rest across 1 kohm
    assert (current[:2], current[10:]) == ("ba", ",10,215")
    assert number(current) == pytest.approx(1e-3, rel=1e-3)


def test_rest_has_a_point_at_the_end_of_each_interval() -> None:
    script = """
var p
meas_loop_ocp p 300m 900m
pck_start
pck_add p
pck_end
endloop
"""
    run, output, _ = begin(script)
    run.advance(FOREVER_S)
    packets = [due_s for line, due_s in output if line[0:1] == "P"]
    assert packets == pytest.approx([0.3, 0.6, 0.9], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "error"), [("0 1", "!4204: Line 2"), ("1 100m", "!4029: Line 2")]
)
def test_rest_refuses_a_time_without_points(arguments: str, error: str) -> None:
    assert lines_of(f"var p\nmeas_loop_ocp p {arguments}\nendloop") == [error, ""]


def test_rest_needs_the_cell_off() -> None:
    script = "var p\nset_pgstat_mode 2\ncell_on\nmeas_loop_ocp p 1 10\nendloop"
    assert lines_of(script) == ["!0014: Line 4", ""]
