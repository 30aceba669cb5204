"""The simulated Lake Shore 336: dialogues from its manual, and a stage that obeys them."""

import random
from pathlib import Path

import pytest

from labctl_simulators.lakeshore_336 import LakeShore336
from labctl_simulators.world import World

ALOCL = (
    Path(__file__).parents[2] / "simulators" / "labctl_simulators" / "demo" / "alocl" / "world.toml"
)
BASE_K = 278.15


class Bench:
    """A connected controller, its stage, and a clock that the test moves."""

    def __init__(self) -> None:
        world = World.from_toml(ALOCL)
        self.controller = LakeShore336(world, "stage")
        self.stage = world.stage("stage")
        self.now_s = 0.0
        self.controller.connect(0.0)

    def send(self, message: str) -> None:
        """Send a message that has no answer, and let the instrument work on it."""
        self.controller.receive(message.encode() + b"\n", self.now_s)
        assert self.controller.next_due_s() is None
        self.now_s += 0.05

    def ask(self, message: str) -> str:
        """Return the answer to a message, without its terminator."""
        self.controller.receive(message.encode() + b"\n", self.now_s)
        due_s = self.controller.next_due_s()
        assert due_s is not None
        self.now_s = due_s
        reply = self.controller.transmit(due_s)
        assert reply.endswith(b"\r\n")
        return reply.removesuffix(b"\r\n").decode()

    def kelvin(self) -> float:
        return float(self.ask("KRDG? A"))

    def settle_at(self, temperature_k: float) -> None:
        self.send(f"SETP 1,{temperature_k};RANGE 1,3")
        self.now_s += 7200.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_listens_where_the_real_one_does() -> None:
    assert LakeShore336.port == 7777


def test_identity_shows_maker_model_serial_number_and_firmware(bench: Bench) -> None:
    assert bench.ask("*IDN?") == "LSCI,MODEL336,LSA24DE/#######,2.9"


# (message, answer) of a fresh instrument; the first are what the maker's own client sends.
@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("SETP 1,310.5;*ESR?", "000"),
        ("RAMP 1,1,5.0;*ESR?", "000"),
        ("RANGE 1,2;*ESR?", "000"),
        ("HTRST? 1;*ESR?", "0;000"),
        ("PID 1,50,20,0;*ESR?", "000"),
        ("SETP? 1", "+000.000"),
        ("SETP 1,310.5;SETP? 1", "+310.500"),
        ("SETP1,310.5;SETP?1", "+310.500"),
        ("RAMP? 1", "0,+000.000"),
        ("RAMP 1,1,5;RAMP? 1", "1,+005.000"),
        ("RAMPST? 1", "0"),
        ("RANGE? 1", "0"),
        ("RANGE 1,3;RANGE? 1", "3"),
        ("RANGE 3,1;RANGE? 3", "1"),
        ("HTR? 1", "+000.0"),
        ("AOUT? 3", "+000.0"),
        ("MOUT? 1", "+000.00"),
        ("MOUT 1,12.5;MOUT? 1", "+012.50"),
        ("PID? 1", "+0050.0,+0020.0,+0000.0"),
        ("PID 1,80.5,10,100;PID? 1", "+0080.5,+0010.0,+0100.0"),
        ("OUTMODE? 1", "1,1,0"),
        ("OUTMODE 1,0,2,1;OUTMODE? 1", "0,2,1"),
        ("INTYPE? A", "2,1,3,1,1"),
        ("INTYPE? B", "0,0,0,0,1"),
        ("INNAME? A", "Input A        "),
        ("TLIMIT? A", "+0000"),
        ("TLIMIT A,450;TLIMIT? A", "+0450"),
        ("TUNEST?", "0,0,0,00"),
        ("RDGST? A", "000"),
        ("RDGST? B", "001"),
        ("KRDG? B", "+000.000"),
        ("*OPC?", "1"),
        ("*ESR?", "000"),
        ("setp 1,310.5;setp? 1", "+310.500"),
    ],
)
def test_dialogue(bench: Bench, message: str, answer: str) -> None:
    assert bench.ask(message) == answer


def test_the_messages_of_the_makers_client_chain_a_reading_and_the_event_status(
    bench: Bench,
) -> None:
    reading, status = bench.ask("KRDG? A;*ESR?").split(";")
    assert reading.startswith("+278.")
    assert len(reading) == len("+295.123")
    assert status == "000"


def test_input_zero_reads_all_four(bench: Bench) -> None:
    first, *others = bench.ask("KRDG? 0").split(",")
    assert float(first) == pytest.approx(BASE_K + 0.05, abs=0.02)
    assert others == ["+000.000"] * 3


def test_space_before_the_argument_is_optional(bench: Bench) -> None:
    assert bench.ask("KRDG?A").startswith("+278.")


def test_celsius_and_ohm_belong_to_the_same_reading(bench: Bench) -> None:
    kelvin, celsius, ohm = (float(text) for text in bench.ask("KRDG? A;CRDG? A;SRDG? A").split(";"))
    assert celsius == pytest.approx(kelvin - 273.15, abs=0.0011)
    assert ohm == pytest.approx(100.0 + 0.3908 * celsius, abs=0.01)


def test_a_bare_line_feed_is_tolerated(bench: Bench) -> None:
    bench.send("")
    assert bench.ask("*ESR?") == "000"


def test_commands_have_no_reply(bench: Bench) -> None:
    for command in ("SETP 1,300", "RAMP 1,1,2", "RANGE 1,1", "PID 1,50,20,0", "*CLS"):
        bench.send(command)


def test_each_message_takes_fifty_milliseconds(bench: Bench) -> None:
    bench.controller.receive(b"*OPC?\n*OPC?\n", 1.0)
    assert bench.controller.transmit(1.04) == b""
    assert bench.controller.transmit(1.05) == b"1\r\n"
    assert bench.controller.next_due_s() == pytest.approx(1.10)
    assert bench.controller.transmit(1.11) == b"1\r\n"


@pytest.mark.parametrize("message", ["FOO?", "FOO 1", "KRDG A", "*IDN", "SETQ? 1", "1234", "?"])
def test_an_unknown_message_gives_no_data_and_sets_the_command_error_bit(
    bench: Bench, message: str
) -> None:
    bench.send(message)
    assert bench.ask("*ESR?") == "032"


@pytest.mark.parametrize(
    "message",
    [
        "KRDG? E",
        "KRDG?",
        "RDGST? 0",
        "SETP? 5",
        "SETP 5,300",
        "SETP 1",
        "SETP 1,warm",
        "SETP 1,nan",
        "SETP 1,-1",
        "RAMP 1,1,0.05",
        "RAMP 1,1,101",
        "RAMP 1,2,5",
        "RANGE 1,4",
        "RANGE 3,2",
        "RANGE 1,1.5",
        "HTR? 3",
        "AOUT? 1",
        "MOUT 1,101",
        "PID 1,50,20",
        "PID 1,50,20,201",
        "OUTMODE 1,6,1,0",
        "TLIMIT E,300",
        "TLIMIT A",
    ],
)
def test_arguments_that_make_no_sense_set_the_execution_error_bit(
    bench: Bench, message: str
) -> None:
    bench.send(message)
    assert bench.ask("*ESR?") == "016"


def test_a_refused_command_changes_nothing(bench: Bench) -> None:
    bench.send("SETP 1,300;PID 1,10,20,201;RANGE 1,4;RAMP 1,1,101")
    state = bench.ask("SETP? 1;PID? 1;RANGE? 1;RAMP? 1")
    assert state == "+300.000;+0050.0,+0020.0,+0000.0;0;0,+000.000"


def test_reading_the_event_status_clears_it(bench: Bench) -> None:
    assert bench.ask("FOO?;SETP 1,-1;*ESR?") == "048"
    assert bench.ask("*ESR?") == "000"


def test_cls_clears_the_event_status(bench: Bench) -> None:
    bench.send("FOO?")
    bench.send("*CLS")
    assert bench.ask("*ESR?") == "000"


def test_the_heater_stays_off_until_a_range_is_set(bench: Bench) -> None:
    bench.send("SETP 1,310")
    bench.now_s = 600.0
    assert bench.kelvin() == pytest.approx(BASE_K + 0.05, abs=0.02)
    bench.send("RANGE 1,3")
    bench.now_s = 700.0
    assert bench.ask("HTR? 1") == "+100.0"
    assert bench.kelvin() > BASE_K + 2.0


@pytest.mark.parametrize(("heater_range", "power_w"), [(1, 0.5), (2, 5.0), (3, 50.0)])
def test_each_range_has_a_tenth_of_the_power_of_the_next(
    bench: Bench, heater_range: int, power_w: float
) -> None:
    bench.send(f"SETP 1,400;RANGE 1,{heater_range}")
    assert bench.stage.heater_power_w(100.0) == pytest.approx(power_w)


def test_off_mode_and_inputs_without_a_sensor_give_no_power(bench: Bench) -> None:
    for mode in ("OUTMODE 1,0,1,0", "OUTMODE 1,1,0,0", "OUTMODE 1,1,2,0"):
        bench.send(f"SETP 1,400;RANGE 1,3;{mode}")
        bench.now_s += 10.0
        assert bench.stage.heater_power_w(bench.now_s) == 0.0


def test_a_ten_kelvin_step_overshoots_a_little_and_settles_within_a_quarter_of_an_hour(
    bench: Bench,
) -> None:
    for target_k in (298.15, 308.15, 318.15, 328.15, 338.15, 348.15):
        bench.send(f"SETP 1,{target_k};RANGE 1,3")
        start_s = bench.now_s
        readings = [
            bench.stage.sensor_reading_k(start_s + 5.0 * step) - target_k for step in range(400)
        ]
        assert 0.2 < max(readings) < 1.0
        assert all(abs(off_k) < 0.1 for off_k in readings[180:])  # from 15 min on
        bench.now_s = start_s + 2000.0


def test_the_sample_arrives_minutes_after_its_stage(bench: Bench) -> None:
    bench.settle_at(298.15)
    bench.send("SETP 1,308.15")
    state = bench.stage.state(bench.now_s + 400.0)
    assert abs(state.block_k - 308.1) < 0.3
    assert state.sample_k < 307.0
    assert bench.stage.state(bench.now_s + 2400.0).sample_k == pytest.approx(308.1, abs=0.05)


def test_two_hundred_degrees_are_within_reach(bench: Bench) -> None:
    bench.settle_at(473.15)
    bench.now_s += 7200.0
    assert bench.kelvin() == pytest.approx(473.15, abs=0.1)


def test_cooling_is_passive(bench: Bench) -> None:
    bench.settle_at(348.15)
    bench.send("SETP 1,298.15")
    start_s = bench.now_s
    bench.now_s = start_s + 3600.0
    # one time constant C / G after the heater closed: 70 K above the base have become 70 / e
    assert bench.kelvin() == pytest.approx(BASE_K + 70.0 / 2.71828, abs=0.5)
    assert bench.ask("HTR? 1") == "+000.0"
    bench.now_s = start_s + 3.0 * 3600.0
    assert bench.kelvin() == pytest.approx(298.15, abs=0.05)


def test_a_setpoint_below_the_base_is_never_reached(bench: Bench) -> None:
    bench.settle_at(270.0)
    assert bench.kelvin() == pytest.approx(BASE_K + 0.05, abs=0.02)
    assert bench.ask("HTR? 1") == "+000.0"


def test_a_ramp_starts_at_the_present_setpoint_and_the_stage_follows_it(bench: Bench) -> None:
    bench.settle_at(298.15)
    bench.send("RAMP 1,1,2.0")
    bench.send("SETP 1,308.15")
    start_s = bench.now_s
    bench.now_s = start_s + 150.0
    assert bench.ask("RAMPST? 1") == "1"
    assert float(bench.ask("SETP? 1")) == pytest.approx(303.15, abs=0.02)
    assert bench.kelvin() == pytest.approx(303.15, abs=1.0)
    bench.now_s = start_s + 301.0
    assert bench.ask("RAMPST? 1;SETP? 1") == "0;+308.150"


def test_a_temperature_limit_turns_every_heater_off_until_a_range_is_set_again(
    bench: Bench,
) -> None:
    bench.send("TLIMIT A,300")
    bench.send("SETP 1,320;RANGE 1,3;RANGE 2,1")
    hottest_k = 0.0
    for _ in range(400):
        bench.now_s += 5.0
        hottest_k = max(hottest_k, bench.stage.state(bench.now_s).block_k)
    assert bench.ask("RANGE? 1;RANGE? 2;HTR? 1") == "0;0;+000.0"
    assert 300.0 < hottest_k < 302.0
    bench.send("RANGE 1,3")
    assert bench.ask("RANGE? 1") == "3"


def test_a_limit_of_zero_is_no_limit(bench: Bench) -> None:
    bench.send("TLIMIT A,0")
    bench.settle_at(320.0)
    assert bench.ask("RANGE? 1") == "3"


def test_an_overloaded_sensor_is_reported_and_shuts_the_loop(bench: Bench) -> None:
    bench.settle_at(320.0)
    assert bench.stage.heater_power_w(bench.now_s) > 5.0
    bench.controller.set_faults(bench.now_s, overload=True)
    bench.now_s += 2.0
    assert bench.ask("RDGST? A;KRDG? A;CRDG? A") == "160;+000.000;+000.000"
    assert bench.stage.heater_power_w(bench.now_s) == 0.0


def test_a_sensor_that_is_overloaded_now_was_not_before(bench: Bench) -> None:
    asked = Bench()
    for each in (bench, asked):
        each.send("SETP 1,400;RANGE 1,3")
        each.now_s = 1000.0
    bench.controller.set_faults(1000.0, overload=True)
    assert bench.stage.state(1000.0) == asked.stage.state(1000.0)
    assert bench.stage.state(1000.0).block_k > 320.0
    assert bench.stage.heater_power_w(1001.0) == 0.0


def test_an_overload_set_by_hand_does_not_change_the_past_either(bench: Bench) -> None:
    asked = Bench()
    for each in (bench, asked):
        each.send("SETP 1,400;RANGE 1,3")
        each.now_s = 1000.0
    asked.stage.advance(1000.0)
    bench.controller.faults.overload = True
    assert bench.ask("RDGST? A") == "160"
    assert bench.stage.state(1000.0) == asked.stage.state(1000.0)
    assert bench.stage.heater_power_w(1002.0) == 0.0


def test_the_manual_output_drives_the_heater_in_open_loop_only(bench: Bench) -> None:
    bench.send("MOUT 1,20;RANGE 1,3")
    assert bench.stage.heater_power_w(10.0) == 0.0
    bench.now_s = 20.0
    bench.send("OUTMODE 1,3,1,0")
    assert bench.stage.heater_power_w(30.0) == pytest.approx(10.0)
    bench.now_s = 31.0
    assert bench.ask("HTR? 1") == "+020.0"


def test_the_heater_range_can_be_seen_from_outside(bench: Bench) -> None:
    assert bench.controller.heater_range == 0
    bench.send("RANGE 1,3")
    assert bench.controller.heater_range == 3


def test_an_output_without_a_load_is_reported_open_once_it_is_on(bench: Bench) -> None:
    assert bench.ask("HTRST? 2") == "0"
    bench.send("RANGE 2,1")
    assert bench.ask("HTRST? 2;HTRST? 1") == "1;0"


def test_a_power_cycle_turns_the_heaters_off_and_keeps_the_settings(bench: Bench) -> None:
    bench.send("TLIMIT A,400;PID 1,60,20,0")
    bench.settle_at(320.0)
    bench.controller.power_cycle(bench.now_s)
    assert bench.ask("*ESR?") == "128"
    kept = bench.ask("RANGE? 1;SETP? 1;TLIMIT? A;PID? 1")
    assert kept == "0;+320.000;+0400;+0060.0,+0020.0,+0000.0"
    assert bench.stage.heater_power_w(bench.now_s + 2.0) == 0.0


def test_an_output_set_to_come_back_does_so_after_a_power_cycle(bench: Bench) -> None:
    bench.send("OUTMODE 1,1,1,1;SETP 1,320;RANGE 1,2")
    bench.controller.power_cycle(bench.now_s)
    assert bench.ask("RANGE? 1") == "2"


def test_a_dropped_reply_leaves_the_next_one_whole(bench: Bench) -> None:
    bench.controller.faults.drop_replies = 1
    bench.send("KRDG? A")
    assert bench.ask("*OPC?") == "1"


def test_a_new_client_gets_no_reply_meant_for_the_last_one(bench: Bench) -> None:
    bench.controller.receive(b"*IDN?\n*OP", 1.0)
    bench.controller.disconnect(1.01)
    bench.controller.connect(1.02)
    bench.now_s = 1.02
    assert bench.ask("*OPC?") == "1"


def test_the_stage_stays_controlled_while_nobody_is_connected(bench: Bench) -> None:
    bench.send("SETP 1,310;RANGE 1,3")
    bench.controller.disconnect(bench.now_s)
    assert bench.stage.sensor_reading_k(7200.0) == pytest.approx(310.0, abs=0.05)


def test_a_day_of_questions_changes_nothing_to_the_last_bit() -> None:
    asked, left_alone = Bench(), Bench()
    chance = random.Random(3)
    for now_s, command in ((3.3, "SETP 1,330;RANGE 1,3"), (4000.7, "RAMP 1,1,2;SETP 1,300")):
        for at_s in sorted(chance.uniform(asked.now_s, now_s) for _ in range(200)):
            asked.controller.receive(b"KRDG? 0;HTR? 1\n", at_s)
            asked.stage.state(at_s)
        for bench in (asked, left_alone):
            bench.controller.receive(command.encode() + b"\n", now_s)
            bench.now_s = now_s
    assert asked.stage.state(86400.25) == left_alone.stage.state(86400.25)
