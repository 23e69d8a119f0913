"""``python -m benchmarks.fuzz messages [--count N] [--seed N] [--guided SECONDS] [--json FILE]``.

`--count` altered messages, half of them altered before they were sealed with the right key. `--guided` then lets
atheris, if it is installed, look for more for so many seconds. The exit code is 0 if nothing but BadMessage happened
and memory did not grow, 1 otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.fuzz import messages

# What caches, interned texts and the allocator may keep.
_GROWTH_BYTES = 64 << 20


def _guided(seconds: int, seed: int) -> dict[str, Any]:
    if importlib.util.find_spec("atheris") is None:
        return {"missing": "atheris is not installed: pip install atheris"}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        facts = Path(folder, "facts.json")
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        command = [sys.executable, "-m", "benchmarks.fuzz.guided", str(corpus), str(seconds), str(seed), str(facts)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
        found = json.loads(facts.read_text()) if facts.exists() else {}
        culprits = [path.read_bytes().hex() for path in corpus.glob("*-*") if path.name.startswith(("crash", "oom"))]
    return {**found, "exit_code": done.returncode, "culprits": culprits, "output": done.stderr[-2000:]}


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("what", choices=["messages"])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", type=int, metavar="SECONDS", default=0, help="let atheris look for more")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    document: dict[str, Any] = {"environment": describe()}
    found = document["messages"] = messages.run(
        options.count, options.seed, lambda line: print(line, file=sys.stderr, flush=True)
    )
    held = not found["failed"] and found["grown_bytes"] < _GROWTH_BYTES
    print(
        f"{found['count']:,} altered messages (seed {found['seed']}) in {found['seconds']:.0f} s: {found['answers']}, "
        f"{found['failed']} failures, slowest {1000 * found['slowest_s']:.1f} ms, "
        f"grown by {found['grown_bytes'] / 1e6:.1f} MB"
    )
    for failure in found["failures"][:3]:
        print(f"  {failure['error']}: {failure['message'][:200]}")
    if options.guided:
        guided = document["guided"] = _guided(options.guided, options.seed)
        held = held and not guided.get("exit_code", 0)
        print(f"guided: { {key: value for key, value in guided.items() if key != 'output'} }")
        if guided.get("exit_code"):
            print(guided["output"])
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
