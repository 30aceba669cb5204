import pytest

from labctl_drivers.methodscript_errors import MEANINGS, ScriptError, find_error

CODES_TO_KNOW = (
    *("0003", "0006", "0007", "0008", "000C", "000F", "0010", "0011", "0012", "0014", "001B"),
    *("001C", "001F", "0021", "0023", "0032", "0058", "005A", "0080", "4001", "4004", "4005"),
    *("4008", "400B", "400C", "400D", "400E", "4018", "401A", "401B", "4026", "4027", "4028"),
    *("4029", "402B", "4032", "4033", "4034", "4039", "4200", "4201", "4202", "4203", "4204"),
    *("4205", "4206", "4207", "420A", "420B", "0020", "0024", "0028", "003E", "005B", "0082"),
    *("008B", "008C", "400F", "4017", "4020", "4024", "4025", "4038", "4040", "4041", "420C"),
    *("420D", "420E", "420F", "4210"),
)


@pytest.mark.parametrize("code", CODES_TO_KNOW)
def test_the_codes_of_the_manual_have_words(code: str) -> None:
    assert MEANINGS[code]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("e!4001: Line 3, Col 7", ScriptError("4001", 3, 7)),
        ("!0032: Line 12", ScriptError("0032", 12)),
        ("Z!0006", ScriptError("0006")),
        ("r!000c", ScriptError("000C")),
    ],
)
def test_an_error_names_code_line_and_column(line: str, error: ScriptError) -> None:
    assert find_error(line) == error


@pytest.mark.parametrize("line", ["", "e", "M000D", "Pda8000800u", "Thello!", "e!40", "!0032 x"])
def test_other_lines_hold_no_error(line: str) -> None:
    assert find_error(line) is None


def test_an_unknown_code_still_has_words() -> None:
    assert "no words" in ScriptError("7ABC").meaning
