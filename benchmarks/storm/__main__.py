"""``python -m benchmarks.storm mutex [--kills N] [--seed N] [--contenders N] [--fault NAME] [--json FILE]``.

The exit code is 0 if every promise held, 1 if one broke.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.storm import contender, mutex


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description="Kill, and look whether it holds.")
    storms = parser.add_subparsers(dest="storm", required=True)
    one = storms.add_parser("mutex", help="contenders for one RobustMutex are killed with SIGKILL")
    one.add_argument("--kills", type=int, default=10_000, help="how many (default 10,000)")
    one.add_argument("--seed", type=int, default=1, help="of the dice (default 1)")
    one.add_argument("--contenders", type=int, default=4, help="processes at once, at least 3 (default 4)")
    one.add_argument("--fault", choices=sorted(contender.FAULTS), help="plant a fault: the storm must then fail")
    one.add_argument("--limit-ms", type=float, default=200.0, help="longest time to the next success (default 200)")
    one.add_argument("--json", type=Path, metavar="FILE", help="write counts, times and environment here")
    return parser


def _tell(result: dict[str, Any]) -> None:
    print(f"{result['kills']} kills in {result['seconds']:.0f} s, seed {result['seed']}")
    print("killed in: " + ", ".join(f"{name} {count}" for name, count in result["killed_in"].items()))
    for name, times in result["summary_ms"].items():
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in times.items()))
    for line in result["violations"]:
        print("BROKEN:", line)


def main() -> int:
    """Run the storm of the command line and return its exit code."""
    options = _parser().parse_args()
    if options.contenders < 3:
        sys.exit("a storm needs at least 3 contenders: one holds, one recovers, one waits")
    result = mutex.run(options.kills, options.seed, options.contenders, options.fault, options.limit_ms)
    _tell(result)
    if options.json is not None:
        document = {"storm": options.storm, "environment": describe(), **result}
        options.json.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
