import pytest

from labctl_simulators.methodscript_errors import ScriptError
from labctl_simulators.methodscript_parser import MAX_SCOPE_DEPTH, parse_script
from labctl_simulators.methodscript_syntax import Choice, Command, Literal, Measurement, Repeat

EIS = "meas_loop_eis f r j 10m 200k 20 5 0"
VARIABLES = ["var f", "var r", "var j"]


def refusal(*lines: str) -> str:
    with pytest.raises(ScriptError) as caught:
        parse_script(lines)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["fail"], "!4001: Line 1, Col 1"),
        (["  fail"], "!4001: Line 1, Col 3"),
        (["# note", "wait 1", "bogus 3"], "!4001: Line 3, Col 1"),
        (["12 34"], "!4001: Line 1, Col 1"),
        (["fail!"], "!4004: Line 1, Col 5"),
        (["wait 1.5"], "!4004: Line 1, Col 7"),
        (["wait 1e-3"], "!4004: Line 1, Col 7"),
        (["wait 5q"], "!4004: Line 1, Col 7"),
        (["wait"], "!4004: Line 1, Col 5"),
        (["wait 5mm"], "!4039: Line 1, Col 6"),
        (["wait 0xZZ"], "!4039: Line 1, Col 6"),
        (["wait 2147483648"], "!4039: Line 1, Col 6"),
        (["wait 0x1Fm"], "!4014: Line 1, Col 6"),
        (["wait 1 2"], "!420A: Line 1, Col 8"),
        (["cell_on ocp(x)"], "!4008: Line 1, Col 9"),
        (["wait x"], "!420B: Line 1, Col 6"),
        (["pck_add 5"], "!420D: Line 1, Col 9"),
        (["var x", "var x"], "!4026: Line 2, Col 5"),
        (["var x", "array x 3i"], "!4026: Line 2, Col 7"),
        (["var 1x"], "!402B: Line 1, Col 5"),
        (["var X"], "!402B: Line 1, Col 5"),
        (["array x 3i", "wait x"], "!420E: Line 2, Col 6"),
        (["var x", "wait x[0i]"], "!420C: Line 2, Col 6"),
        (["var x", "store_var x 1 zz"], "!4209: Line 2, Col 15"),
        (["loop 1 < 2"], "!4018: Line 2, Col 1"),
        (["if 1 < 2", "wait 1"], "!4018: Line 3, Col 1"),
        (["endloop"], "!400E: Line 1, Col 1"),
        (["endif"], "!400E: Line 1, Col 1"),
        (["else"], "!400E: Line 1, Col 1"),
        (["if 1 < 2", "endloop"], "!400E: Line 2, Col 1"),
        (["loop 1 < 2", "endif"], "!400E: Line 2, Col 1"),
        (["if 1 < 2", "else", "else", "endif"], "!400C: Line 3, Col 1"),
        (["if 1 < 2", "else", "elseif 1 < 2", "endif"], "!400C: Line 3, Col 1"),
        (["breakloop"], "!400C: Line 1, Col 1"),
        (["if 1 < 2", "breakloop", "endif"], "!400C: Line 2, Col 1"),
        (["loop 1 < 2", "on_finished:", "endloop"], "!400C: Line 2, Col 1"),
        (["on_finished:", "on_finished:"], "!400C: Line 2, Col 1"),
        (["loop 1 & 2", "endloop"], "!4004: Line 1, Col 8"),
        (["send_string hello"], "!4004: Line 1, Col 13"),
        (["var x", 'send_string f"{x"'], "!4210: Line 2, Col 13"),
        (['send_string f"{x}"'], "!420B: Line 1, Col 13"),
    ],
)
def test_mistake_is_reported_with_line_and_column(lines: list[str], expected: str) -> None:
    assert refusal(*lines) == expected


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("set_e 1", "!4032"),
        ("cell_on", "!401A"),
        ("set_pgstat_mode 3", "!401A"),
        ("meas 1 f ab", "!401A"),
        ("meas_loop_ocp f 1 2", "!400B"),
        (EIS, "!400B"),
    ],
)
def test_some_commands_may_not_stand_in_a_measurement_loop(line: str, code: str) -> None:
    assert refusal(*VARIABLES, EIS, line, "endloop") == f"{code}: Line 5, Col 1"


def test_measurement_loop_in_a_loop_in_a_measurement_loop_is_nested_too() -> None:
    script = [*VARIABLES, EIS, "loop 1 < 2", EIS, "endloop", "endloop", "endloop"]
    assert refusal(*script) == "!400B: Line 6, Col 1"


@pytest.mark.parametrize(
    "line",
    [
        "meas_loop_lsv f r 0 1 10m 100m",
        "meas_loop_cv f r 0 1 -1 10m 100m",
        "meas_loop_cv f r 0 1 -1 10m 100m nscans(3)",
        "meas_loop_ca f r 0 100m 10",
        "meas_loop_cp f r 1m 100m 10",
        "meas_loop_lsp f r 0 1m 1u 1u",
        "meas_loop_ocp f 100m 10",
        "meas_loop_geis f r j 1m 200k 20 5 0",
        EIS + " eis_acdc(f r j f) time(f)",
    ],
)
def test_every_measurement_loop_is_known_with_its_arguments(line: str) -> None:
    measurement = parse_script([*VARIABLES, line, "endloop"]).body[-1]
    assert isinstance(measurement, Measurement)
    shorter = line.split(" nscans")[0].split(" eis_acdc")[0].rsplit(" ", 1)[0]
    assert refusal(*VARIABLES, shorter, "endloop").startswith("!4004: Line 4")
    assert refusal(*VARIABLES, shorter + " 1 2", "endloop").startswith("!420A: Line 4")


def test_option_of_another_command_is_refused() -> None:
    assert refusal(*VARIABLES, EIS + " nscans(2)", "endloop").startswith("!4008: Line 4")


def test_option_with_a_missing_output_is_refused() -> None:
    assert refusal(*VARIABLES, EIS + " eis_acdc(f r j)", "endloop").startswith("!4004: Line 4")


def test_scopes_nest_only_so_deep() -> None:
    deep = ["loop 1 < 2"] * MAX_SCOPE_DEPTH
    assert parse_script(deep + ["endloop"] * MAX_SCOPE_DEPTH).body
    assert refusal(*deep, "loop 1 < 2") == f"!400D: Line {MAX_SCOPE_DEPTH + 1}, Col 1"


@pytest.mark.parametrize(
    ("literal", "number"),
    [("100m", 0.1), ("-500u", -0.0005), ("200k", 200e3), ("5", 5.0), ("1E", 1e18), ("3a", 3e-18)],
)
def test_literals_carry_si_prefixes(literal: str, number: float) -> None:
    command = parse_script([f"wait {literal}"]).body[0]
    assert command == Command(1, "wait", (Literal(number),))


@pytest.mark.parametrize(
    ("literal", "number"), [("11i", 11), ("-4i", -4), ("0x1F", 31), ("0x1Fi", 31), ("0b101", 5)]
)
def test_integer_literals_are_integers(literal: str, number: int) -> None:
    command = parse_script([f"wait {literal}"]).body[0]
    assert isinstance(command, Command)
    (argument,) = command.arguments
    assert isinstance(argument, Literal)
    assert isinstance(argument.number, int)
    assert argument.number == number


def test_blanks_and_comments_change_nothing() -> None:
    plain = parse_script(["wait 1", "cell_off"])
    assert parse_script(["\t wait   1 # a while", "cell_off#now"]) == plain


def test_hash_in_a_string_begins_no_comment() -> None:
    assert parse_script(['send_string "# 1"']) != parse_script(['send_string "# 2"'])


def test_scopes_hold_what_stands_between_their_marks() -> None:
    text = "loop 1 < 2;if 1 < 2;wait 1;elseif 2 < 3;wait 2;else;wait 3;endif;endloop;wait 4"
    script = parse_script([*text.split(";"), "on_finished:", "cell_off"])
    repeat, after = script.body
    assert isinstance(repeat, Repeat)
    (choice,) = repeat.body
    assert isinstance(choice, Choice)
    lines = [[each.line for each in branch.body if isinstance(each, Command)]
             for branch in choice.branches]  # fmt: skip
    assert lines == [[3], [5], [7]]
    assert isinstance(after, Command)
    assert script.on_finished == [Command(12, "cell_off")]
