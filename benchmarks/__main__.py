"""``python -m benchmarks [--quick] [--only CASE|GROUP ...] [--rivals RIVAL ...] [--json FILE] [--list]``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.isolation import measure_apart
from benchmarks.registry import CASES, GROUPS, TITLES, Case, load_case
from benchmarks.table import render


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="XME beside its rivals.")
    parser.add_argument("--quick", action="store_true", help="a short look: fewer and smaller samples, one round")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="CASE",
        choices=(*GROUPS, *CASES),
        default=list(GROUPS),
        help="cases or groups of them",
    )
    parser.add_argument("--rivals", nargs="+", metavar="RIVAL", choices=list(TITLES), help="only these rivals")
    parser.add_argument("--rounds", type=int, default=2, help="how often each rival is started for a case (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw samples here")
    parser.add_argument("--list", action="store_true", help="name cases and rivals, run nothing")
    return parser


def _print_list() -> None:
    for name in CASES:
        case = load_case(name)
        print(f"{name}: {case.question} [{case.unit}]\n    {', '.join(case.rivals)}")


def _records(case: Case, rival: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    common = {"case": case.name, "question": case.question, "rival": rival, "unit": case.unit, "bound": case.bound}
    return [{**common, "reach": case.reach.get(series["label"]), **series} for series in answer["series"]]


def _merge(records: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> None:
    """Put the samples of a later round behind those of the earlier ones."""
    for record in fresh:
        keys = (record["case"], record["rival"], record["label"])
        known = next((old for old in records if (old["case"], old["rival"], old["label"]) == keys), None)
        if known is None:
            records.append(record)
        else:
            known["samples"] += record["samples"]


def run_case(document: dict[str, Any], case: Case, rivals: list[str], *, quick: bool, rounds: int) -> None:
    """Measure all rivals of a case, round by round: what disturbs the machine for a while disturbs all of them."""
    gone: set[str] = set()
    for turn in range(1 if quick else rounds):
        for rival in rivals:
            if rival in gone:
                continue
            print(f"  {case.name}: {TITLES[rival]} ({turn + 1})", file=sys.stderr, flush=True)
            answer = measure_apart(case, rival, quick=quick)
            if "missing" in answer:
                gone.add(rival)
                entry = {
                    "case": case.name,
                    "rival": rival,
                    "reason": answer["missing"],
                    "stderr": answer.get("stderr", ""),
                }
                document["missing"].append(entry)
            else:
                _merge(document["records"], _records(case, rival, answer))


def main() -> int:
    """Run what the command line asks for; exit code 1 when XME itself could not be measured."""
    options = _parser().parse_args()
    if options.list:
        _print_list()
        return 0
    document: dict[str, Any] = {"environment": describe(), "quick": options.quick, "records": [], "missing": []}
    for name in dict.fromkeys(name for chosen in options.only for name in GROUPS.get(chosen, (chosen,))):
        case = load_case(name)
        rivals = [rival for rival in case.rivals if options.rivals is None or rival in options.rivals]
        run_case(document, case, rivals, quick=options.quick, rounds=options.rounds)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(render(document))
    return int(any(entry["rival"] == "xme" for entry in document["missing"]))


if __name__ == "__main__":
    sys.exit(main())
