"""Break everything behind the instrument and count what is lost: nothing may be.

python -m benchmarks.faults [--quick] [--json] [--fault NAME] [--seed N] [--write]
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.brokers import MissingProgramError
from benchmarks.faults.campaign import FAULTS, FULL_POINTS, QUICK_POINTS, Result, inflict
from benchmarks.faults.table import write_table

PAGE = Path(__file__).parents[2] / "docs" / "explanations" / "reliability.md"


def main() -> None:
    """Run the campaign, print, and exit with 1 if a point was lost."""
    options = _options()
    print(f"seed {options.seed}, {options.points} points per fault", file=sys.stderr)
    results = [result for name in options.fault or FAULTS if (result := _result(name, options))]
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    if options.write:
        write_table(PAGE, results)
    sys.exit(not all(result.verdict.is_good for result in results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, short waits")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only this one")
    parser.add_argument("--seed", type=int, help="where the random moments come from")
    parser.add_argument("--write", action="store_true", help=f"renew the table in {PAGE.name}")
    options = parser.parse_args()
    options.points = QUICK_POINTS if options.quick else FULL_POINTS
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    return options


def _result(name: str, options: argparse.Namespace) -> Result | None:
    """Return what a fault came to, told on the way; None where it cannot be inflicted here."""
    try:
        result = inflict(name, n_points=options.points, seed=options.seed, is_quick=options.quick)
    except MissingProgramError as error:
        print(f"{name:26} skipped: {error}", file=sys.stderr)
        return None
    print(f"{name:26} {_summary(result)}", file=sys.stderr)
    return result


def _summary(result: Result) -> str:
    verdict = result.verdict
    order = "in order" if verdict.is_in_order else "OUT OF ORDER"
    return (
        f"{verdict.n_sent:7} sent, {verdict.n_stored:7} stored, {verdict.n_lost} lost, "
        f"{verdict.n_duplicated} twice, {verdict.n_altered} altered, {order}; "
        f"{verdict.n_in_flight} in flight ({verdict.in_flight_ms:.1f} ms), "
        f"{verdict.n_refused} refused; {result.duration_s:.1f} s; {'; '.join(result.notes)}"
        + ("" if verdict.is_prompt else "; KEPT TOO LATE")
        + (f"; UNMET: {verdict.unmet}" if verdict.unmet else "")
    )


if __name__ == "__main__":
    main()
