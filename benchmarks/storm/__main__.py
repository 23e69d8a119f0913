"""``python -m benchmarks.storm mutex|security [--kills N] [--seed N] [--contenders N] [--fault NAME] [--json FILE]``.

For ``security`` also ``--type``: one lock type; without it all that exclude, one after the other.

``python -m benchmarks.storm store [--minutes M] [--seed N] [--processes N] [--fault NAME] [--json FILE]``.

``python -m benchmarks.storm overwrite [--values N] [--children N] [--arrays N] [--kill-every S] [--fault NAME]
[--json FILE]``; a kind of which there are 0 is left out.

``python -m benchmarks.storm guard [--minutes M] [--seed N] [--fault NAME] [--json FILE]``.

The exit code is 0 if every promise held, 1 if one broke.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.storm import contender, guard, guards, mutex, overwrite, security, store, store_faults


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description="Kill, and look whether it holds.")
    storms = parser.add_subparsers(dest="storm", required=True)
    one = storms.add_parser("mutex", help="contenders for one RobustMutex are killed with SIGKILL")
    _add_options(one, 10_000, contender.FAULTS)
    other = storms.add_parser("security", help="contenders for one Security of each type are killed with SIGKILL")
    _add_options(other, 2_000, guards.FAULTS)
    other.add_argument("--type", choices=security.TYPES, help="one lock type (default: each that excludes)")
    third = storms.add_parser("store", help="who changes and reads lists, dicts and objects is killed with SIGKILL")
    third.add_argument("--minutes", type=float, default=1.0, help="how long (default 1)")
    third.add_argument("--seed", type=int, default=1, help="of the dice (default 1)")
    third.add_argument("--processes", type=int, default=4, help="at once (default 4)")
    third.add_argument("--fault", choices=sorted(store_faults.FAULTS), help="plant a fault: the storm must then fail")
    third.add_argument("--json", type=Path, metavar="FILE", help="write counts and environment here")
    fourth = storms.add_parser("guard", help="guard, callers, writers and readers of messages are killed with SIGKILL")
    fourth.add_argument("--minutes", type=float, default=1.0, help="how long (default 1)")
    fourth.add_argument("--seed", type=int, default=1, help="of the dice (default 1)")
    fourth.add_argument("--fault", choices=sorted(guard.FAULTS), help="plant a fault: the storm must then fail")
    fourth.add_argument("--json", type=Path, metavar="FILE", help="write counts and environment here")
    fifth = storms.add_parser("overwrite", help="a writer that overwrites the same places is killed with SIGKILL")
    fifth.add_argument("--values", type=int, default=1_000_000, help="in a nested dict (default 1,000,000)")
    fifth.add_argument("--children", type=int, default=20_000, help="nested dicts (default 20,000)")
    fifth.add_argument("--arrays", type=int, default=50_000, help="of 1 MB (default 50,000)")
    fifth.add_argument("--fault", choices=sorted(overwrite.FAULTS), help="plant a fault: the storm must then fail")
    fifth.add_argument("--kill-every", type=float, default=1.0, help="seconds, 0 for never (default 1)")
    fifth.add_argument("--seed", type=int, default=1, help="of the dice (default 1)")
    fifth.add_argument("--json", type=Path, metavar="FILE", help="write counts and environment here")
    return parser


def _add_options(parser: argparse.ArgumentParser, kills: int, faults: Iterable[str]) -> None:
    parser.add_argument("--kills", type=int, default=kills, help=f"how many (default {kills:,})")
    parser.add_argument("--seed", type=int, default=1, help="of the dice (default 1)")
    parser.add_argument("--contenders", type=int, default=4, help="processes at once, at least 3 (default 4)")
    parser.add_argument("--fault", choices=sorted(faults), help="plant a fault: the storm must then fail")
    parser.add_argument("--limit-ms", type=float, default=200.0, help="longest time to the next success (default 200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts, times and environment here")


def _tell(result: dict[str, Any]) -> None:
    if "type" in result:
        print(f"-- {result['type']}")
    print(f"{result['kills']} kills in {result['seconds']:.0f} s, seed {result['seed']}")
    print("killed in: " + ", ".join(f"{name} {count}" for name, count in result["killed_in"].items()))
    for name, times in result.get("summary_ms", {}).items():
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in times.items()))
    for line in result["violations"]:
        print("BROKEN:", line)


def _locks(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.contenders < 3:
        sys.exit("a storm needs at least 3 contenders: one holds, one recovers, one waits")
    how = options.kills, options.seed, options.contenders, options.fault, options.limit_ms
    if options.storm == "mutex":
        return [mutex.run(*how)]
    types = [options.type] if options.type else list(security.TYPES)
    return [security.run(kind, *how) for kind in types]


def _store(options: argparse.Namespace) -> list[dict[str, Any]]:
    result = store.run(options.minutes, options.seed, options.processes, options.fault)
    print(f"{result['done']} operations, acknowledged {result['acknowledged']}, {result['shared_memory']}")
    return [result]


def _guard(options: argparse.Namespace) -> list[dict[str, Any]]:
    result = guard.run(options.minutes, options.seed, options.fault)
    for kind, became in {"methods": "executed", "functions": "executed", "failed": "failed"}.items():
        acknowledged, found = result[kind]
        print(f"{kind}: {acknowledged:,} acknowledged, {found:,} {became}")
    print(f"{result['reported']} reported, {result['gave_up']} guards gave up")
    return [result]


def _overwrite(options: argparse.Namespace) -> list[dict[str, Any]]:
    counts = {"values": options.values, "children": options.children, "arrays": options.arrays}
    counts = {kind: count for kind, count in counts.items() if count}
    result = overwrite.run(counts, options.seed, options.kill_every, options.fault)
    for kind, found in result["shared_memory"].items():
        early, most, last = (f"{files} files of {size:,} bytes" for files, size in list(found.values())[1:])
        print(f"{found['overwrites']:,} {kind}: early {early}, at most {most}, at the end {last}")
    return [result]


def main() -> int:
    """Run the storm of the command line and return its exit code."""
    options = _parser().parse_args()
    results = {"store": _store, "guard": _guard, "overwrite": _overwrite}.get(options.storm, _locks)(options)
    for result in results:
        _tell(result)
    if options.json is not None:
        facts = {"types": results} if options.storm == "security" else results[0]
        document = {"storm": options.storm, "environment": describe(), **facts}
        options.json.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return 1 if any(result["violations"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
