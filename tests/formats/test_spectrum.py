"""What each kind of file says, and what is made of files that are not whole."""

import random

import numpy as np
import pytest

from labctl.errors import FileFormatError
from labctl.formats.spectrum import read_spectra, read_spectrum

EC_LAB_HEAD = (
    "EC-Lab ASCII FILE\r\nNb header lines : 5\r\n\r\nDevice : SP-300\r\n"
    "freq/Hz\tRe(Z)/Ohm\t-Im(Z)/Ohm\tcycle number\t\r\n"
)
EC_LAB_ROWS = (
    "1.0E+005\t1.0000000E+001\t2.0000000E+000\t1.000E+000\r\n"
    "1.0E+004\t1.1000000E+001\t3.0000000E+000\t1.000E+000\r\n"
)
GAMRY = (
    "EXPLAIN\nTAG\tEISPOT\nFREQINIT\tQUANT\t1.0E+005\tInitial\nFREQFINAL\tQUANT\t1.0E+004\tFinal\n"
    "PTSPERDEC\tQUANT\t3.0E+000\tPoints\nZCURVE\tTABLE\n"
    "\tPt\tTime\tFreq\tZreal\tZimag\n\t#\ts\tHz\tohm\tohm\n"
    "\t0\t1\t100000\t10\t-2\n\t1\t2\t46000\t11\t-3\n\t2\t3\t21000\t12\t-4\n\t3\t4\t10000\t13\t-5\n"
)
ZVIEW = (
    '"ZPlotW Data File: Version 3.2c"\n"Frequency"\n2\n'
    "\"  Freq(Hz)    Ampl     Bias   Time(Sec)   Z'(a)    Z''(b)    GD   Err   Range\"\n"
    "1E5, 0.01, 0, 1, 10, -2, 0, 0, 3\n1E4, 0.01, 0, 2, 11, -3, 0, 0, 3\n"
)


@pytest.fixture
def file(tmp_path):
    """Write a text into a file and return its path."""

    def write(text, name="spectrum.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
        return path

    return write


@pytest.mark.parametrize("text", [EC_LAB_HEAD + EC_LAB_ROWS, ZVIEW])
def test_the_imaginary_part_is_negative_when_capacitive(file, text):
    spectrum = read_spectrum(file(text))

    assert spectrum.frequency_hz == pytest.approx([1e5, 1e4])
    assert spectrum.z_ohm == pytest.approx([10 - 2j, 11 - 3j])


def test_a_gamry_table_is_read_with_its_metadata(file):
    spectrum = read_spectrum(file(GAMRY))

    assert spectrum.z_ohm == pytest.approx([10 - 2j, 11 - 3j, 12 - 4j, 13 - 5j])
    assert spectrum.metadata["TAG"] == "EISPOT"
    assert spectrum.metadata["FREQINIT"] == "1.0E+005"


def test_a_decimal_comma_is_a_decimal_point(file):
    comma = read_spectrum(file((EC_LAB_HEAD + EC_LAB_ROWS).replace(".", ",")))

    assert comma.z_ohm == pytest.approx([10 - 2j, 11 - 3j])


def test_line_ends_do_not_matter(file):
    text = EC_LAB_HEAD + EC_LAB_ROWS

    unix = read_spectrum(file(text.replace("\r\n", "\n"), "unix"))
    old_mac = read_spectrum(file(text.replace("\r\n", "\r"), "mac"))

    assert unix.z_ohm == pytest.approx(old_mac.z_ohm)


def test_cycles_are_sweeps(file):
    second = EC_LAB_ROWS.replace("\t1.000E", "\t2.000E").replace("1.0000000E+001", "5.0000000E+001")

    sweeps = read_spectra(file(EC_LAB_HEAD + EC_LAB_ROWS + second))

    assert [sweep.z_real_ohm[0] for sweep in sweeps] == [10, 50]


@pytest.mark.parametrize(
    ("header", "sign"),
    [
        ("frequency_hz,z_real_ohm,z_imag_ohm", 1),
        ("freq/Hz,Re(Z)/Ohm,-Im(Z)/Ohm", -1),
        ("Frequency (Hz),Z' (Ohm),-Z'' (Ohm)", -1),
        ("Freq/Hz, Z'/ohm, Z\"/ohm", 1),
        ("f,Re,Im", 1),
    ],
)
def test_the_header_says_the_sign(file, header, sign):
    spectrum = read_spectrum(file(f"{header}\n1e5,10,-2\n1e4,11,-3\n"))

    assert spectrum.z_ohm == pytest.approx([10 - 2j * sign, 11 - 3j * sign])


def test_a_header_that_makes_the_cell_inductive_draws_a_remark(file):
    spectrum = read_spectrum(file("f,Re,Im\n1e5,10,2\n1e4,11,3\n"))

    assert spectrum.z_imag_ohm == pytest.approx([2, 3])
    assert any("inductive" in said for said in spectrum.warnings)


@pytest.mark.parametrize(("written", "how"), [(3, "as -Im Z"), (-3, "as Im Z")])
def test_without_a_header_the_data_say_the_sign_and_the_warning_says_so(file, written, how):
    spectrum = read_spectrum(file(f"1e5,10,0.1\n1e4,11,{written}\n1e3,11,{2 * written}\n"))

    assert spectrum.z_imag_ohm[-1] == -6
    assert any("no header" in said for said in spectrum.warnings)
    assert any(how in said for said in spectrum.warnings)


@pytest.mark.parametrize(
    ("header", "hz", "ohm"),
    [("f/kHz,Re/Ohm,Im/Ohm", 1e3, 1), ("f/Hz,Re/kOhm,Im/kOhm", 1, 1e3), ("f/MHz,Re,Im", 1e6, 1)],
)
def test_prefixes_of_units_count(file, header, hz, ohm):
    spectrum = read_spectrum(file(f"{header}\n100,10,-2\n10,11,-3\n"))

    assert spectrum.frequency_hz[0] == pytest.approx(100 * hz)
    assert spectrum.z_ohm[0] == pytest.approx((10 - 2j) * ohm)


def test_an_impedance_times_area_is_refused(file):
    with pytest.raises(FileFormatError, match=r"line 1: column .*expected a unit of ohm"):
        read_spectrum(file("f/Hz,Re(Z)/Ohm.cm2,Im(Z)/Ohm.cm2\n1,2,-3\n"))


def test_rows_of_direct_current_are_left_out_and_said_so(file):
    spectrum = read_spectrum(file("f,Re,Im\n0,0,0\n1e5,10,-2\n1e4,11,-3\n"))

    assert spectrum.frequency_hz.size == 2
    assert spectrum.warnings == ("1 rows without a frequency were left out",)


def test_semicolons_separate_where_commas_are_decimal(file):
    spectrum = read_spectrum(file("f/Hz;Re(Z)/Ohm;-Im(Z)/Ohm\n1000,5;10,25;2,5\n100,5;11,0;3,0\n"))

    assert spectrum.frequency_hz[0] == 1000.5
    assert spectrum.z_ohm[0] == pytest.approx(10.25 - 2.5j)


@pytest.mark.parametrize(
    "text",
    [
        "f,Re,Im\n200000,4542,44,7633,00\n100000,4543,45,7634,00\n",
        "200000,4542,44,7633,00\n100000,4543,45,7634\n",
        "200000,4542,44,7633,00\n100000,4543,45,7634,00\n",
    ],
)
def test_decimal_commas_between_commas_are_refused(file, text):
    with pytest.raises(FileFormatError, match=r"spectrum\.txt.*(decimal sign|cut short)"):
        read_spectrum(file(text))


def test_separators_at_the_end_of_a_line_are_no_columns(file):
    spectrum = read_spectrum(file("f,Re,Im\n1e5,10,-2,,\n1e4,11,-3,\n"))

    assert spectrum.z_ohm == pytest.approx([10 - 2j, 11 - 3j])


@pytest.mark.parametrize("unit", ["Ohm.cm2", "Ohm cm2", "Ohm*cm^2"])
def test_any_unit_with_an_area_is_refused_by_its_column(file, unit):
    with pytest.raises(FileFormatError, match=r"column 'Re\(Z\)/.*expected a unit of ohm"):
        read_spectrum(file(f"f/Hz,Re(Z)/{unit},Im(Z)/{unit}\n1,2,-3\n"))


def test_negative_frequencies_are_named_as_the_reason(file):
    with pytest.raises(FileFormatError, match="none of 2 rows has a frequency above 0 Hz"):
        read_spectrum(file("f,Re,Im\n-1e5,10,-2\n-1e4,11,-3\n"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (EC_LAB_HEAD[:45], "cut short: expected 5 header lines"),
        (EC_LAB_HEAD, "cut short: expected points"),
        (EC_LAB_HEAD + EC_LAB_ROWS + "1.0E+003\t1.2", "line 8: .*cut short: expected 4 columns"),
        (EC_LAB_HEAD + EC_LAB_ROWS[:-5], "line 7: .*cut short: expected a number like"),
        (EC_LAB_HEAD + EC_LAB_ROWS.replace("1.1000000E+001", "1.1E"), "line 7: expected a number"),
        (GAMRY[: GAMRY.index("\t2\t3")], "cut short: expected 4 points, found 2"),
        (GAMRY[: GAMRY.index("\tPt")], "cut short: expected the rows"),
        (GAMRY[: GAMRY.index("ZCURVE")], "expected a table ZCURVE"),
        (GAMRY[:-5], "line 12: the file is cut short: expected 5 columns, found 4"),
        (ZVIEW[:-14], "line 6: the file is cut short"),
        (ZVIEW[: ZVIEW.index("1E5")], "cut short: expected points"),
        (ZVIEW[: ZVIEW.index('"  Freq')], "expected a row of column names"),
        ("f,Re,Im\n1e5,10,-2\n1e4,11", "line 3: the file is cut short: expected 3 columns"),
        ("f,Re,Im\n1e5,10,-2\n1e4,11,x", "line 3: expected a number, found 'x'"),
        ("f,Re,Im\n", "cut short: expected points"),
        ("RelaxIS 3.0 Spectrum export\nDate\n", "cut short: expected 4 header lines"),
        ("", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR", "a binary file"),
        (b"\xff\xfea\x00b", "not a text file"),
        ("Dear colleague,\nplease find the data attached.\n", "readable are EC-Lab"),
    ],
)
def test_a_file_that_is_not_whole_says_where_and_what_was_expected(file, text, reason):
    with pytest.raises(FileFormatError, match=rf"spectrum\.txt.*{reason}"):
        read_spectrum(file(text))


def test_a_last_number_without_a_line_end_draws_a_remark(file):
    cut, whole = (
        read_spectrum(file(f"f,Re,Im\n1e5,10,-2\n1e4,11,-3.2{end}")) for end in ("", "\n")
    )

    assert cut.warnings == ("the last line has no end: its last number may be cut short",)
    assert whole.warnings == ()


def test_a_stopped_zview_sweep_is_read_with_a_warning(file):
    spectrum = read_spectrum(file(ZVIEW.replace('"Frequency"\n2', '"Frequency"\n9')))

    assert spectrum.warnings == ("2 of 9 planned points: stopped early, or the file is cut",)


def test_an_aborted_gamry_measurement_is_no_cut_file(file):
    text = GAMRY[: GAMRY.index("\t2\t3")] + "EXPERIMENTABORTED\tTOGGLE\tT\tExperiment Aborted\n"

    spectrum = read_spectrum(file(text))

    assert spectrum.warnings == ("the measurement was aborted: 2 of 4 planned points",)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(FileFormatError, match="no such file"):
        read_spectrum(tmp_path / name)


@pytest.mark.parametrize("text", [EC_LAB_HEAD + EC_LAB_ROWS, GAMRY, ZVIEW, "f,Re,Im\n1,2,-3\n"])
def test_no_damage_raises_anything_but_a_file_format_error(file, text):
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(text.encode())
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            spectrum = read_spectrum(file(bytes(content[: rng.randint(1, len(content))])))
        except FileFormatError:
            refused += 1
        else:
            assert np.all(spectrum.frequency_hz > 0)
    assert refused > 100


def test_steps_are_sweeps_and_repeated_points_are_left_out(file):
    rows = ["step,frequency_hz,z_real_ohm,z_imag_ohm,is_repeat"]
    for step in (1, 3):
        rows += [f"{step}.0,{f},{10 * step},-1.0,0.0" for f in (1000.0, 100.0, 10.0)]
        rows += [f"{step}.0,1000.0,{10 * step},-1.0,1.0"]

    spectra = read_spectra(file("\n".join(rows) + "\n", "run_eis.csv"))

    assert [list(each.frequency_hz) for each in spectra] == [[1000.0, 100.0, 10.0]] * 2
    assert [each.z_real_ohm[0] for each in spectra] == [10.0, 30.0]
    assert "2 points that repeat a frequency were left out" in spectra[0].warnings
