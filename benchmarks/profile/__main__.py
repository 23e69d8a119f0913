"""``python -m benchmarks.profile [--only OPERATION ...] [--json FILE]``: what bounds what misses a target."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environment import describe, line
from benchmarks.gates import in_fresh_process
from benchmarks.profile.look import Pieces
from benchmarks.profile.operations import OPERATIONS
from benchmarks.table import number

# So many functions, and of those of C the ones that take at least this part of the time.
_SHOWN = 6
_WORTH = 0.02


def _lines(name: str, pieces: Pieces) -> Iterator[str]:
    instructions = sum(pieces.instructions.values())
    each = f", {number(1e3 * pieces.time_us / instructions)} ns each" if instructions else ""
    yield f"{name}: {OPERATIONS[name].__doc__}"
    yield f"    {number(pieces.time_us)} µs; {number(instructions)} instructions{each}:"
    for function, count in list(pieces.instructions.items())[:_SHOWN]:
        yield f"        {number(count):>8}  {function}"
    calls = sorted(pieces.calls.items(), key=lambda item: -item[1][1])
    if calls:
        count, spent = (sum(column) for column in zip(*pieces.calls.values(), strict=True))
        yield f"    {number(count)} calls of C, {number(spent)} µs:"
    for function, (count, spent) in calls[:_SHOWN]:
        if spent > _WORTH * pieces.time_us:
            yield f"        {number(spent):>8}  {function} x {number(count)}"


def main() -> None:
    """Take the chosen operations to pieces, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description="What bounds an operation.")
    parser.add_argument("--only", nargs="+", metavar="OPERATION", choices=list(OPERATIONS), default=list(OPERATIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    options = parser.parse_args()
    found = {}
    for name in options.only:
        pieces = in_fresh_process(OPERATIONS[name], limit_s=300.0)
        found[name] = dataclasses.asdict(pieces)
        print("\n".join(_lines(name, pieces)), flush=True)
    environment = describe()
    print(line(environment))
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": environment, "operations": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
