import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from labctl_simulators.dummy_cell import DummyCell
from labctl_simulators.palmsens_emstat4_hr import PalmSensEmStat4Hr
from labctl_simulators.world import World

EIS = """e
var f
var r
var j
set_pgstat_chan 0
set_pgstat_mode 3
set_max_bandwidth 200k
set_range ba 1m
set_autoranging ba 1u 1m
set_e 0
cell_on
meas_loop_eis f r j 10m 20k 1 9 0
  pck_start
  pck_add f
  pck_add r
  pck_add j
  pck_end
endloop
on_finished:
cell_off

"""
FOREVER_S = 1e6


def instrument(*, seed: int = 1, **settings: object) -> PalmSensEmStat4Hr:
    table = {"cell": "dummy", **settings}
    world = World(
        seed=seed, stages={}, cells={"dummy": DummyCell(rest_v=0.25)}, instruments={"pstat": table}
    )
    device = PalmSensEmStat4Hr(world, "pstat")
    device.connect(0.0)
    return device


def ask(device: PalmSensEmStat4Hr, message: str, now_s: float = 0.0) -> str:
    device.receive(message.encode(), now_s)
    return device.transmit(now_s).decode()


def run(device: PalmSensEmStat4Hr, script: str, *, until_s: float = FOREVER_S) -> str:
    return ask(device, script) + device.transmit(until_s).decode()


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("\n", "\n"),
        ("t\n", "tes4_hr1500#Mar 12 2026 14:28:01\nR*\n"),
        ("i\n", "iES4HR20B0008\n"),
        ("v\n", "v01.09.00\n"),
        ("m\n", "m!0048\n"),
        ("fail\n", "f!0003\n"),
        ("store_var x 1 ja\n", "s!0003\n"),
        ("Z\n", "Z!0006\n"),
        ("h\n", "h!0006\n"),
        ("H\n", "H!0006\n"),
        ("Y\n", "Y!0006\n"),
        ("R\n", "R!0006\n"),
        ("r\n", "r!000C\n"),
        ("G06\n", "GES4HR20B0008\n"),
        ("G08\n", "G00\n"),
        ("S0801\n", "S\n"),
        ("S06AA\n", "S!0005\n"),
        ("S08xy\n", "S!006D\n"),
        ("S08\n", "S!004B\n"),
        ("G\n", "G!004B\n"),
        ("Gzz\n", "G!006D\n"),
        ("G7F\n", "G!0004\n"),
        ("e\nfail\n\n", "e!4001: Line 1, Col 1\n"),
        ("l\nfail\n\n", "l!4001: Line 1, Col 1\n"),
        ("l\nwait 1\n\n", "l\n"),
        ('e\nsend_string "hello world!"\n\n', "e\n"),
        ("x" * 255 + "\n", "x!0003\n"),
        ("x" * 256 + "\n", "x!0008\n"),
        ("e\n#" + "x" * 255 + "\n", "e!0008\n"),
    ],
)
def test_idle_dialogue(message: str, reply: str) -> None:
    assert ask(instrument(), message) == reply


def test_register_keeps_what_was_set_until_power_is_cut() -> None:
    device = instrument()
    ask(device, "S0801\n")
    assert ask(device, "G08\n") == "G01\n"
    device.power_cycle(1.0)
    assert ask(device, "G08\n", 1.0) == "G00\n"


def test_serial_number_comes_from_the_world() -> None:
    assert ask(instrument(serial_number="ES4HR23C0042"), "i\n") == "iES4HR23C0042\n"


@pytest.mark.parametrize(
    "settings", [{"serial_number": 5}, {"noise_fraction": "low"}, {"noise_fraction": -1.0}]
)
def test_unusable_setting_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"pstat.{next(iter(settings))}"):
        instrument(**settings)


def test_capabilities_name_what_is_simulated() -> None:
    device = instrument()
    script_bits = int(ask(device, "CM\n")[1:], 16)
    link_bits = int(ask(device, "CC\n")[1:], 16)
    assert all(script_bits >> bit & 1 for bit in (1, 13, 23, 28, 30, 31, 67, 69, 70))
    assert not script_bits >> 50 & 1
    assert all(link_bits >> bit & 1 for bit in (1, 32, 33, 38, 98))
    assert not link_bits >> 51 & 1


def test_input_is_ignored_for_50_ms_after_an_error() -> None:
    device = instrument()
    assert ask(device, "fail\ni\n") == "f!0003\n"
    assert ask(device, "i\n", 0.049) == ""
    assert ask(device, "i\n", 0.05) == "iES4HR20B0008\n"


def test_line_cut_by_the_deaf_time_is_gone_as_a_whole() -> None:
    device = instrument()
    ask(device, "fail\nxx")
    assert ask(device, "i\n", 0.1) == "iES4HR20B0008\n"


def test_carriage_returns_and_split_bytes_change_nothing() -> None:
    device = instrument()
    replies = "".join(ask(device, character) for character in "t\r\ni\r\n")
    assert replies == "tes4_hr1500#Mar 12 2026 14:28:01\nR*\niES4HR20B0008\n"


def test_loaded_script_runs_as_often_as_asked() -> None:
    device = instrument()
    ask(device, 'l\nsend_string "a"\n\n')
    expected = "r\nTa\n\n"
    assert run(device, "r\n") == expected
    device.receive(b"r\n", FOREVER_S + 1)
    assert device.transmit(FOREVER_S + 2).decode() == expected


def test_script_that_could_not_be_loaded_cannot_be_run() -> None:
    device = instrument()
    ask(device, 'l\nsend_string "a"\n\n')
    ask(device, "l\nfail\n\n")
    assert ask(device, "r\n", 1.0) == "r!000C\n"


def test_vendor_script_says_hello() -> None:
    assert run(instrument(), 'e\nsend_string "hello world!"\n\n') == "e\nThello world!\n\n"


def test_empty_line_inside_a_script_ends_it_and_the_next_line_is_a_command() -> None:
    device = instrument()
    ask(device, "e\nwait 1\n\n")
    device.transmit(2.0)
    assert ask(device, "store_var x 1 ja\n", 2.0) == "s!0003\n"


def test_sweep_has_one_packet_per_frequency_when_it_is_finished() -> None:
    device = instrument(noise_fraction=0.0)
    ask(device, EIS)
    due_s: list[float] = []
    lines: list[str] = []
    while (next_s := device.next_due_s()) is not None:
        for line in device.transmit(next_s).decode().splitlines():
            lines.append(line)
            due_s += [next_s] if line.startswith("P") else []
    assert [lines[0], lines[-2:]] == ["M000D", ["*", ""]]
    assert [line[:3] for line in lines[1:-2]] == ["Pdc"] * 9
    gaps_s = [after - before for before, after in itertools.pairwise(due_s)]
    assert gaps_s == sorted(gaps_s)
    assert 4.0 <= gaps_s[-1] < 33.0


def test_spectrum_can_be_read_back_from_the_packets() -> None:
    output = run(instrument(), EIS)
    packets = [line for line in output.splitlines() if line.startswith("P")]
    for packet in packets[4:]:
        frequency_hz, real_ohm, imaginary_ohm = (number(field) for field in packet[1:].split(";"))
        true_ohm = DummyCell(rest_v=0.25).impedance(frequency_hz, 0.0)
        assert abs(complex(real_ohm, imaginary_ohm) - true_ohm) < 0.005 * abs(true_ohm)


def number(field: str) -> float:
    exponents = {"p": -12, "n": -9, "u": -6, "m": -3, " ": 0, "k": 3, "M": 6}
    return (int(field[2:9], 16) - 2**27) * 10.0 ** exponents[field[9]]


def test_cell_is_off_after_a_sweep() -> None:
    device = instrument()
    ask(device, EIS)
    device.transmit(1.0)
    assert (device.is_running, device.cell_is_on) == (True, True)
    device.transmit(FOREVER_S)
    assert (device.is_running, device.cell_is_on) == (False, False)


def test_abort_in_a_sweep_switches_the_cell_off() -> None:
    device = instrument()
    ask(device, EIS)
    device.transmit(1.0)
    assert ask(device, "Z\n", 1.0) == "Z\n*\n"
    assert device.transmit(1.1).decode() == "\n"
    assert not device.cell_is_on
    assert ask(device, "Z\n", 1.2) == "Z!0006\n"


def test_abort_inside_a_loop_closes_the_measurement_first() -> None:
    device = instrument()
    ask(device, 'e\nvar p\nloop 1 == 1\nmeas_loop_ocp p 1 9\nendloop\nendloop\non_finished:\n'
        'send_string "safe"\n\n')  # fmt: skip
    assert device.transmit(1.5).decode() == "L\nM000B\n"
    assert ask(device, "Z\n", 1.5) == "Z\n*\n+\n"
    assert device.transmit(1.6).decode() == "Tsafe\n\n"


def test_vendor_recipe_to_synchronise_works_in_a_sweep_and_at_rest() -> None:
    device = instrument()
    ask(device, EIS)
    device.transmit(1.0)
    assert ask(device, "\nZ\n", 1.0) == "\nZ\n*\n"
    assert device.transmit(2.0).decode() == "\n"
    assert ask(device, "\nZ\n", 2.0) == "\nZ!0006\n"


def test_run_time_error_leaves_the_cell_on() -> None:
    device = instrument()
    script = EIS.replace("meas_loop_eis f r j 10m", "meas_loop_eis f r j 901m")
    assert run(device, script) == "e\n!0012: Line 11\n\n"
    assert (device.is_running, device.cell_is_on) == (False, True)


@pytest.mark.parametrize(
    ("replaced", "by", "error"),
    [
        ("20k 1 9", "200001 1 9", "!0011: Line 11"),
        ("9 0\n", "9 6001m\n", "!000F: Line 11"),
        ("cell_on", "cell_off", "!4027: Line 11"),
        ("set_pgstat_mode 3", "set_pgstat_mode 2", "!0023: Line 11"),
    ],
)
def test_sweep_that_cannot_be_done_is_refused(replaced: str, by: str, error: str) -> None:
    assert run(instrument(), EIS.replace(replaced, by)) == f"e\n{error}\n\n"


@pytest.mark.parametrize("command", ["e", "l", "r", "i", "v", "m", "CC", "CM", "G06", "S0801"])
def test_command_for_rest_is_refused_during_a_script(command: str) -> None:
    device = instrument()
    ask(device, "e\nwait 10\n\n")
    assert ask(device, command + "\n", 1.0) == f"{command[0]}!0006\n"
    assert device.is_running


def test_firmware_can_be_asked_during_a_script() -> None:
    device = instrument()
    ask(device, "e\nwait 10\n\n")
    assert ask(device, "t\n", 1.0).startswith("tes4_hr")


def test_halt_and_resume_are_echoed_and_delay_the_script() -> None:
    device = instrument()
    ask(device, 'e\nwait 10\nsend_string "x"\n\n')
    assert ask(device, "h\n", 5.0) == "h\n"
    assert device.transmit(100.0) == b""
    assert ask(device, "H\n", 105.0) == "H\n"
    assert device.transmit(109.9) == b""
    assert device.transmit(110.1) == b"Tx\n\n"


def test_y_ends_the_measurement_and_r_is_only_echoed() -> None:
    device = instrument()
    ask(device, 'e\nvar p\nmeas_loop_ocp p 1 100\nendloop\nsend_string "x"\n\n')
    device.transmit(1.5)
    assert ask(device, "R\n", 1.5) == "R\n"
    assert ask(device, "Y\n", 1.6) == "Y\n*\n"
    assert device.transmit(1.7) == b"Tx\n\n"


def output_at(instants_s: Sequence[float], *, seed: int = 1) -> bytes:
    device = instrument(seed=seed)
    device.receive(EIS.encode(), 0.0)
    return b"".join(device.transmit(instant_s) for instant_s in instants_s)


def test_one_long_step_gives_the_same_bytes_as_many_short_ones() -> None:
    at_once = output_at([100.0])
    assert at_once.endswith(b"*\n\n")
    assert output_at([i * 0.037 for i in range(2704)]) == at_once
    assert output_at([0.0, 0.1, 3.7, 3.7, 99.0, 100.0]) == at_once


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert output_at([100.0]) == output_at([100.0])
    assert output_at([100.0]) != output_at([100.0], seed=2)


def test_long_script_has_nothing_to_do_while_nothing_is_due() -> None:
    device = instrument()
    ask(device, "e\nwait 86400\n\n")
    assert device.transmit(1.0) == b""
    assert device.next_due_s() == pytest.approx(86400.0, abs=1e-3)
    assert device.transmit(86399.0) == b""


def test_idle_instrument_has_nothing_due() -> None:
    assert instrument().next_due_s() is None


def test_script_goes_on_without_a_client_and_what_it_sent_is_lost() -> None:
    device = instrument()
    ask(device, 'e\nwait 5\nsend_string "lost"\nwait 5\nsend_string "heard"\n\n')
    device.disconnect(1.0)
    device.connect(7.0)
    assert device.transmit(20.0) == b"Theard\n\n"


def test_power_cut_ends_the_script_and_switches_the_cell_off() -> None:
    device = instrument()
    ask(device, EIS)
    device.transmit(1.0)
    device.power_cycle(1.0)
    assert (device.is_running, device.cell_is_on, device.next_due_s()) == (False, False, None)
    assert ask(device, "i\n", 1.1) == "iES4HR20B0008\n"


def test_half_an_upload_is_forgotten_at_power_cut() -> None:
    device = instrument()
    ask(device, "e\nwait 1\n")
    device.power_cycle(1.0)
    assert ask(device, "i\n", 1.0) == "iES4HR20B0008\n"


def test_dropped_reply_is_missing_once() -> None:
    device = instrument()
    device.faults.drop_replies = 1
    assert ask(device, "i\ni\n") == "iES4HR20B0008\n"


def test_garbled_packet_keeps_its_line_end() -> None:
    device = instrument()
    device.faults.garble_replies = 2
    assert run(device, 'e\nsend_string "hello"\n\n') == "#\n#he#lo\n\n"


def test_delayed_reply_arrives_later() -> None:
    device = instrument()
    device.faults.delay_replies_s = 2.0
    assert ask(device, "i\n") == ""
    assert device.transmit(1.9) == b""
    assert device.transmit(2.0) == b"iES4HR20B0008\n"


def test_hung_instrument_says_nothing_but_its_cell_stays_on() -> None:
    device = instrument()
    ask(device, EIS)
    device.transmit(1.0)
    device.faults.refuse = True
    assert ask(device, "Z\n", 1.0) == ""
    assert device.transmit(2.0) == b""
    assert device.cell_is_on


def test_overload_is_flagged_in_every_packet() -> None:
    device = instrument()
    device.faults.overload = True
    packets = [line for line in run(device, EIS).splitlines() if line.startswith("P")]
    assert len(packets) == 9
    assert all(",12,215" in packet for packet in packets)
