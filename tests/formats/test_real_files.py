"""Files that real instruments wrote."""

import numpy as np
import pytest

from labctl.errors import FileFormatError
from labctl.formats.spectrum import read_spectra, read_spectrum

PELLET = "lpscl_pellet/PEIS_LPSCl_IonBlocking_-25C"


@pytest.mark.parametrize(
    ("name", "source_format", "n_points", "first_hz", "first_ohm"),
    [
        (f"{PELLET}.txt", "EC-Lab ASCII", 79, 7000018.5, 359.24146 - 290.92038j),
        (f"{PELLET}_RelaxIS.txt", "RelaxIS", 79, 0.100021809, 1799427.625 - 8093785.5j),
        ("vendor_spectra/exampleDataBioLogic.mpt", "EC-Lab ASCII", 43, 1000.3201, 65.4709 - 0.39j),
        ("vendor_spectra/exampleDataGamry.DTA", "Gamry DTA", 72, 200015.6, 825.8584 - 1367.239j),
        ("vendor_spectra/exampleDataZPlot.z", "ZView", 21, 3e5, 147.77 - 11.335j),
        ("vendor_spectra/exampleDataZPlot_noComments.z", "ZView", 31, 3e5, 642.62 - 85.821j),
        ("vendor_spectra/exampleDataAutolab.txt", "ZView", 41, 1e4, 0.0137859 + 0.0071919j),
        ("vendor_spectra/exampleData.csv", "CSV", 66, 3.1623e-3, 0.0494999 - 0.0204387j),
        ("vendor_spectra/exampleDataCHInstruments.txt", "CSV", 73, 9.961e4, 98.91 - 2.748j),
        ("vendor_spectra/exampleDataParstat.txt", "CSV", 31, 1e4, -0.0004982 + 0.0175143j),
        ("vendor_spectra/exampleDataPowersuite.txt", "CSV", 30, 0.1, 423929.46 - 49014.063j),
    ],
)
def test_a_vendors_file_is_read(reference_data, name, source_format, n_points, first_hz, first_ohm):
    spectrum = read_spectrum(reference_data / name)

    assert spectrum.source_format == source_format
    assert spectrum.frequency_hz.size == n_points
    assert spectrum.frequency_hz[0] == pytest.approx(first_hz, rel=1e-6)
    assert spectrum.z_ohm[0] == pytest.approx(first_ohm, rel=1e-3)


def test_two_encodings_of_one_measurement_agree(reference_data):
    ec_lab = read_spectrum(reference_data / f"{PELLET}.txt")
    relaxis = read_spectrum(reference_data / f"{PELLET}_RelaxIS.txt")

    assert ec_lab.frequency_hz == pytest.approx(relaxis.frequency_hz[::-1], rel=1e-6)
    assert ec_lab.z_ohm == pytest.approx(relaxis.z_ohm[::-1], rel=1e-6)


def test_modulus_and_phase_serve_where_the_parts_are_missing(reference_data):
    sweeps = read_spectra(reference_data / "solid_state_cell" / "Sample2_PEIS_AtRest.csv")

    assert [sweep.frequency_hz.size for sweep in sweeps] == [89] * 10
    expected = 50.752583 * np.exp(-1j * np.deg2rad(20.75998))
    assert sweeps[0].z_ohm[0] == pytest.approx(expected, rel=0.1)
    assert all((sweep.z_imag_ohm < 0).mean() > 0.9 for sweep in sweeps)


def test_the_first_of_several_sweeps_comes_with_a_warning(reference_data):
    spectrum = read_spectrum(reference_data / "solid_state_cell" / "Sample2_PEIS_AtRest.csv")

    assert any("first of 10 sweeps" in said for said in spectrum.warnings)


def test_an_aborted_measurement_is_read_with_a_warning(reference_data):
    spectrum = read_spectrum(reference_data / "vendor_spectra" / "exampleDataGamryABORT.DTA")

    assert spectrum.frequency_hz.size == 72
    assert spectrum.warnings == ("the measurement was aborted: 72 of 98 planned points",)


def test_a_file_without_frequencies_is_refused(reference_data):
    with pytest.raises(FileFormatError, match="line 61: expected columns freq/Hz"):
        read_spectrum(reference_data / "vendor_spectra" / "exampleDataBioLogic_MissingFreq.mpt")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{PELLET}.mpr", "a binary file; export it as text"),
        ("vendor_spectra/exampleDataVersaStudio.par", "readable are EC-Lab"),
        ("README.md", "readable are EC-Lab"),
    ],
)
def test_what_cannot_be_read_says_what_can(reference_data, name, reason):
    with pytest.raises(FileFormatError, match=reason):
        read_spectrum(reference_data / name)


@pytest.mark.parametrize("name", [f"{PELLET}.txt", f"{PELLET}_RelaxIS.txt"])
@pytest.mark.parametrize("kept", np.linspace(0.02, 0.98, 13))
def test_a_file_cut_anywhere_is_refused_or_right_as_far_as_it_goes(
    reference_data, tmp_path, name, kept
):
    content = (reference_data / name).read_bytes()
    cut = tmp_path / "cut.txt"
    cut.write_bytes(content[: int(kept * len(content))])

    whole = read_spectrum(reference_data / name)
    try:
        spectrum = read_spectrum(cut)
    except FileFormatError:
        return
    # a cut between two lines leaves nothing to see: what is there must be right
    n = spectrum.frequency_hz.size
    assert 0 < n < whole.frequency_hz.size
    assert spectrum.z_ohm[:-1] == pytest.approx(whole.z_ohm[: n - 1])
