import random
from decimal import Decimal

import pytest

from labctl_drivers import methodscript_loops as loops
from labctl_drivers.methodscript_script import PgstatMode, Script, Var, integer, literal

EXPONENTS = dict(zip("afpnumkMGTPE", (-18, -15, -12, -9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True))


def value_of(text: str) -> Decimal:
    prefix = text[-1] if text[-1] in EXPONENTS else ""
    return Decimal(text.removesuffix(prefix)).scaleb(EXPONENTS.get(prefix, 0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01, "10m"),
        (0.0123, "12300u"),
        (0.0, "0"),
        (-0.0, "0"),
        (5.0, "5"),
        (-0.0005, "-500u"),
        (200e3, "200k"),
        (1e6, "1M"),
        (1500.0, "1500"),
        (0.1, "100m"),
        (100e-9, "100n"),
        (2.1, "2100m"),
        (2**31 - 1.0, "2147483647"),
    ],
)
def test_numbers_are_integers_with_a_prefix(value: float, text: str) -> None:
    assert literal(value) == text


def test_literals_hold_no_decimal_point_and_keep_nine_digits() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        value = rng.uniform(-1, 1) * 10.0 ** rng.uniform(-9, 15)
        text = literal(value)
        assert text.strip("-").rstrip("afpnumkMGTPE").isdigit()
        assert abs(int(text.rstrip("afpnumkMGTPE"))) < 2**31
        assert float(value_of(text)) == pytest.approx(value, rel=1e-6)


def test_what_32_bits_can_hold_is_written_exactly() -> None:
    rng = random.Random(2)
    for _ in range(2000):
        value = rng.randrange(-(2**31) + 1, 2**31) / 1e6
        assert float(value_of(literal(value))) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e40, 1e-30])
def test_what_no_literal_can_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        literal(value)


def test_integers_carry_their_suffix() -> None:
    assert integer(11) == "11i"
    with pytest.raises(ValueError):
        integer(2**31)


def test_every_script_ends_with_the_cell_off() -> None:
    assert Script().lines() == ("on_finished:", "cell_off")


def test_an_impedance_loop_has_the_vendors_order_of_arguments() -> None:
    script = Script()
    f, zr, zi = script.var("f"), script.var("zr"), script.var("zi")
    with loops.eis(
        script, f, zr, zi,
        amplitude_v_rms=0.01, start_hz=100e3, end_hz=100.0, n_points=11, bias_v=0.2,
    ):  # fmt: skip
        script.packet(f, zr, zi)
    assert script.lines() == (
        "var f",
        "var zr",
        "var zi",
        "meas_loop_eis f zr zi 10m 100k 100 11i 200m",
        " pck_start",
        " pck_add f",
        " pck_add zr",
        " pck_add zi",
        " pck_end",
        "endloop",
        "on_finished:",
        "cell_off",
    )


def test_every_measurement_loop_has_its_order_of_arguments() -> None:
    script = Script()
    p, c, f = script.var("p"), script.var("c"), script.var("f")
    acdc = loops.AcDc(*(script.var(name) for name in ("ea", "ed", "ia", "id")))
    with loops.lsv(script, p, c, begin_v=-0.5, end_v=0.5, step_v=0.01, rate_v_per_s=0.1):
        pass
    with loops.cv(
        script, p, c,
        begin_v=0.0, vertex_1_v=1.0, vertex_2_v=-1.0, step_v=0.01, rate_v_per_s=0.1, n_scans=3,
    ):  # fmt: skip
        pass
    with loops.ca(script, p, c, potential_v=0.05, interval_s=0.5, duration_s=60.0):
        pass
    with loops.cp(script, p, c, current_a=1e-5, interval_s=1.0, duration_s=3600.0):
        pass
    with loops.lsp(script, p, c, begin_a=0.0, end_a=1e-3, step_a=1e-5, rate_a_per_s=1e-4):
        pass
    with loops.ocp(script, p, interval_s=1.0, duration_s=10.0):
        pass
    with loops.geis(
        script, f, p, c,
        amplitude_a_rms=5e-3, start_hz=1e5, end_hz=100.0, n_points=11, bias_a=0.01, acdc=acdc,
    ):  # fmt: skip
        pass
    assert [line for line in script.lines() if line.startswith("meas_")] == [
        "meas_loop_lsv p c -500m 500m 10m 100m",
        "meas_loop_cv p c 0 1 -1 10m 100m nscans(3)",
        "meas_loop_ca p c 50m 500m 60",
        "meas_loop_cp p c 10u 1 3600",
        "meas_loop_lsp p c 0 1m 10u 100u",
        "meas_loop_ocp p 1 10",
        "meas_loop_geis f p c 5m 100k 100 11i 10m eis_acdc(ea ed ia id)",
    ]


def test_the_other_commands_are_written_as_the_manual_has_them() -> None:
    script = Script()
    x, y = script.var("x"), script.var("y")
    script.array("a", 100)
    script.store_var(x, 0.01, "ja")
    script.copy_var(x, y)
    script.add_var(x, 1.0)
    script.sub_var(x, y)
    script.mul_var(x, 2.0)
    script.div_var(x, 0.5)
    script.set_pgstat_mode(PgstatMode.GALVANOSTAT)
    script.set_range("db", 1e-3)
    script.set_i(1e-3)
    script.timer_start()
    script.set_int(0.1)
    with script.loop(x, "<=", 10.0):
        script.await_int()
        script.meas(0.1, y, "ab")
        with script.if_(y, ">=", 4.2):
            script.breakloop()
            script.elseif(y, "<", 2.0)
            script.abort()
            script.else_()
            script.wait(0.2)
    script.send_string("done")
    script.set_script_output(0)
    assert script.lines()[:-2] == (
        "var x", "var y", "array a 100i", "store_var x 10m ja", "copy_var x y", "add_var x 1",
        "sub_var x y", "mul_var x 2", "div_var x 500m", "set_pgstat_mode 6", "set_range db 1m",
        "set_i 1m", "timer_start", "set_int 100m", "loop x <= 10", " await_int",
        " meas 100m y ab", " if y >= 4200m", "  breakloop", "  elseif y < 2", "  abort", "  else",
        "  wait 200m", " endif", "endloop", 'send_string "done"', "set_script_output 0",
    )  # fmt: skip


def test_a_variable_must_be_declared_once() -> None:
    script = Script()
    script.var("x")
    with pytest.raises(ValueError, match="declared twice"):
        script.var("x")


def test_a_variable_of_another_script_is_refused() -> None:
    with pytest.raises(ValueError, match="not declared"):
        Script().timer_get(Var("t"))


@pytest.mark.parametrize("name", ["", "X", "1x", "x-y", "_x", "x y"])
def test_names_that_the_device_refuses_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="variable name"):
        Script().var(name)


def test_a_measurement_loop_cannot_stand_in_another() -> None:
    script = Script()
    p = script.var("p")
    with (
        loops.ocp(script, p, interval_s=1.0, duration_s=1.0),
        pytest.raises(ValueError, match="measurement loop"),
    ):
        loops.ocp(script, p, interval_s=1.0, duration_s=1.0).__enter__()


@pytest.mark.parametrize("command", ["set_e", "set_i"])
def test_a_setting_that_belongs_before_the_loop_is_refused_inside(command: str) -> None:
    script = Script()
    p = script.var("p")
    with (
        loops.ocp(script, p, interval_s=1.0, duration_s=1.0),
        pytest.raises(ValueError, match=command),
    ):
        getattr(script, command)(0.0)


@pytest.mark.parametrize("text", ['say "hi"', "two\nlines", "20 °C", "x" * 250])
def test_a_line_that_cannot_be_sent_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Script().send_string(text)


def test_a_line_of_256_characters_with_its_line_feed_is_the_longest() -> None:
    script = Script()
    frame = len('send_string ""')
    script.send_string("x" * (255 - frame))
    assert len(script.lines()[0]) == 255
    with pytest.raises(ValueError, match="256"):
        script.send_string("x" * (256 - frame))
