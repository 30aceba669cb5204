"""The whole study of docs/examples/paper.toml, simulated: what came out beside the paper's values.

    python -m benchmarks.study [--data FOLDER] [--write] [--json]

Carries the campaign out in virtual time into FOLDER, a temporary one if left out, and prints a row
for each measurement; with --write also into docs/explanations/study.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from labctl import campaign
from labctl.campaign_file import CampaignRequest
from labctl.quantities import with_uncertainty
from labctl.store.reading import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labctl.store.reading import StoredRun

_ROOT = Path(__file__).parents[1]
_CAMPAIGN = _ROOT / "docs" / "examples" / "paper.toml"
_PAGE = _ROOT / "docs" / "explanations" / "study.md"
_BEGIN, _END = "<!-- benchmarks.study -->", "<!-- end -->"
_S_PER_DAY = 86400.0


@dataclass(frozen=True)
class Row:
    """One measurement: what it gave here and what the paper says."""

    entry: str
    sample: str
    here: str
    paper: str
    simulated_days: float
    n_points: int


def _data(run: StoredRun, stream: str) -> list[Any]:
    return [event["data"] for event in run.events(stream)]


def _arrhenius(run: StoredRun) -> str:
    line = _data(run, "arrhenius")[0]["primary"]
    sigma = with_uncertainty(line["sigma_25_s_per_cm"], line["u_sigma_25_s_per_cm"])
    return f"sigma(25 °C) {sigma} S/cm, Ea {with_uncertainty(line['ea_ev'], line['u_ea_ev'])} eV"


def _composition(run: StoredRun) -> str:
    found = _data(run, "composition")[0]
    return f"{with_uncertainty(found['sigma_s_per_cm'], found['u_sigma_s_per_cm'])} S/cm"


def _electronic(run: StoredRun) -> str:
    found = _data(run, "electronic_conductivity")[0]
    if found["is_bound"]:
        return f"sigma_e below {found['sigma_upper_bound_s_per_cm']:.2g} S/cm"
    return f"sigma_e {with_uncertainty(found['sigma_s_per_cm'], found['u_sigma_s_per_cm'])} S/cm"


def _sweeps(run: StoredRun) -> str:
    onsets = [each for each in _data(run, "onset") if each["criterion"] in ("1 uA/cm2", "5 uA/cm2")]
    said = [
        f"scan {each['scan']}, {each['criterion']}: {_volt(each['potential_vs_li_v'])}"
        for each in onsets
    ]
    ratios = [f"charge of scan 2 / scan 1: {each['ratio']:.3f}" for each in _ratios(run)]
    return "; ".join([*said, *ratios])


def _ratios(run: StoredRun) -> list[Any]:
    return _data(run, "charge_ratio") if "charge_ratio" in run.event_streams() else []


def _volt(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f} V"


def _stability(run: StoredRun) -> str:
    changes = [each["rms_relative_change"] for each in _data(run, "stability")]
    return f"{len(changes)} spectra, largest rms change {max(changes):.2%}"


def _gitt(run: StoredRun) -> str:
    pulses = [each["diffusion"] for each in _data(run, "gitt") if each["diffusion"]]
    known = [each["d_cm2_per_s"] for each in pulses if each["d_cm2_per_s"]]
    efficiency = _data(run, "gitt_summary")[-1]["coulombic_efficiency"]
    said = f"{len(known)} of {len(_data(run, 'gitt'))} pulses give a D"
    if known:
        said += f", median {sorted(known)[len(known) // 2]:.2g} cm²/s"
    told = "not told" if efficiency is None else f"{efficiency:.1%}"
    return f"{said}; CE {told}"


def _processes(run: StoredRun) -> str:
    spectra = _data(run, "drt")
    middle = min(spectra, key=lambda each: abs(each["state_of_charge"] - 0.5))
    seen = ", ".join(f"{peak['tau_s']:.1g} s" for peak in middle["peaks"])
    return f"{len(spectra)} spectra; at half charge {seen}; faster ones are part of R0"


def _cycles(run: StoredRun) -> str:
    cycles = _data(run, "cycle")
    efficiencies = sorted(cycle["coulombic_efficiency"] for cycle in cycles[1:])
    best = max(cycle["discharge_capacity_mah_per_g"] for cycle in cycles)
    return (
        f"{len(cycles)} cycles, up to {best:.0f} mA h/g, median CE "
        f"{efficiencies[len(efficiencies) // 2]:.2%}, retention {cycles[-1]['retention']:.1%}"
    )


_RESULTS: dict[str, tuple[Callable[[StoredRun], str], str]] = {
    "eis-against-temperature": (
        _arrhenius,
        "AlOCl-nanoLiCl 1.02 mS/cm, 0.38 eV; LiCl 1e-8 S/cm, 0.78 eV",
    ),
    "composition-series": (_composition, "best at Li/Al = 1.5"),
    "dc-polarization": (_electronic, "sigma_e about 1.2e-9 S/cm"),
    "lsv-anodic": (_sweeps, "small peak near 4.5 V in scan 1, none in scan 2"),
    "lsv-cathodic": (_sweeps, "weak below 1.4 V, strong below 0.5 V"),
    "chemical-stability": (_stability, "spectra almost identical over 18 h"),
    "gitt": (_gitt, "coulombic efficiency, overpotential, side reactions at high voltage"),
    "gitt-without-chloride": (_gitt, "likewise"),
    "in-situ-eis": (_processes, "tau1 1e-7 s, tau2 1e-4 s, tau3 0.1-1 s, tau4 1-10 s"),
    "comparison-cell": (_cycles, "much lower capacity, CE below 80 %"),
    "long-term": (_cycles, "more than 210 mA h/g, 75 % retention, average CE 99.8 %"),
    "long-term-lco": (_cycles, "LCO to 4.47 V"),
    "long-term-ni83": (_cycles, "Ni83 to 4.8 V"),
}


def rows(report: campaign.CampaignReport) -> list[Row]:
    """Return a row for each run of a campaign that was carried out."""
    store = open_store(report.store)
    found: list[Row] = []
    for told in report.runs:
        run = store.run(told.run_id)
        entry = run.start["campaign"]["entry"]
        result, paper = _RESULTS[entry]
        days = (run.summary.duration_s or 0.0) / _S_PER_DAY
        here = result(run) if run.summary.outcome == "completed" else f"{run.summary.outcome}"
        found.append(Row(entry, run.summary.sample, here, paper, days, run.summary.n_points))
    return found


def text_of(found: Sequence[Row], wall_s: float) -> str:
    """Return the table, and how long it all took."""
    lines = ["| measurement | sample | here | in the paper |", "|---|---|---|---|"]
    lines += [f"| {row.entry} | {row.sample} | {row.here} | {row.paper} |" for row in found]
    days, points = sum(row.simulated_days for row in found), sum(row.n_points for row in found)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = (
        f"{days:.0f} simulated days of measurement, {points:,} points, {wall_s:.0f} s on the clock"
    )
    return "\n".join([*lines, "", f"{total}, at most {peak_mb:.0f} MB of memory."])


def write_page(text: str) -> None:
    """Put the table into its page."""
    page = _PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}", encoding="utf-8")


def main() -> None:
    """Carry the study out and print what it gave."""
    parser = argparse.ArgumentParser(description="The whole study, simulated.")
    parser.add_argument("--data", type=Path, help="where its data go")
    parser.add_argument("--write", action="store_true", help="renew docs/explanations/study.md")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or Path(temporary)
        began_s = perf_counter()
        request = CampaignRequest(file=_CAMPAIGN, data=data, is_simulated=True)
        report = campaign.run(request, lambda _: lambda _: None)
        wall_s = perf_counter() - began_s
        found = rows(report)
    text = text_of(found, wall_s)
    print(json.dumps([asdict(row) for row in found], indent=2) if arguments.json else text)
    if arguments.write:
        write_page(text)


if __name__ == "__main__":
    main()
