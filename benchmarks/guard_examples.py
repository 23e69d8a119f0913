"""``python -m benchmarks.guard_examples [--times N] [--json FILE]``: the manual's 2.3.1 and 2.3.2, again and again.

Each run is a program of its own, and the runs go through the start methods and the ways to have workers in turn: the
object's own, an ``Executor(max_workers=8)``, ``pnum=1``. A run is right if it counts 1000 and ends by itself. How long
it went on after its functions' last append is shown too: what was appended before is run in that time.

The exit code is 0 if every run was right.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.environment import describe, line

METHODS = ("fork", "spawn", "forkserver")
MODES = ("own", "executor", "one")
# A guard that does not end by itself is ended after so long.
LIMIT_S = 60.0
_TELL_EVERY = 10

_V = """
import sys, time
import XME

class V:
  value=0
  def add(self,value): self.value+=value
  def get(self): return self.value
"""

_GUARD = _V + """
def fun(*args,XMEManager=None,print=print):
  #dispatch
  XMEManager=args[-2]
  print=args[-1]
  args=args[:-2]

  op=XMEManager.AllocOperator()#allocate a id
  v=XMEManager.get_table("v")
  for i in range(100):
    XMEManager.append(v.add,op,value=1)
  XMEManager.append(
    XMEManager.get_table("__XMEM__")["Table::update"],
    value=XME.xmem_dict({"__GUARD__":{"Status":False}})
  ) #stop XMEGuard
"""

_HEART = _V + """
def fun(*args,XMEManager=None,print=print):
  #dispatch
  XMEManager=args[-2]
  print=args[-1]
  args=args[:-2]
  op=XMEManager.AllocOperator()#allocate a id
  xmehj=XME.HeartJump(op,XMEManager) #defind a heartjump object
  xmehj.start() #start the heart jump
  v=XMEManager.get_table("v")
  for i in range(100):
    XMEManager.append(v.add,op,value=1)
  xmehj.stop() #stop the heart jump, mark this subprocess is end
"""

# The manual's function, and when it has ended; what is the manual's own runs as it stands there.
_MAIN = """
def beside(*args, XMEManager=None, print=print):
  fun(*args, XMEManager, print)
  return time.monotonic()

if __name__=="__main__":
  options = dict(start_method=sys.argv[1])
  if sys.argv[2] == "one":
    options = dict(start_method=sys.argv[1], pnum=1)
  if sys.argv[2] == "executor":
    options = dict(executor=XME.Executor.Executor(max_workers=8, start_method=sys.argv[1]))
  xmeguard=XME.XMEGuard()
  v=XME.xmem_object("Class_V",V)
  xme=XME.XME(beside,xmeguard.Guard,xmemtable={"v":v},**options)
  for _ in range(int(sys.argv[3])):
    ends = xme.gfun(xme.Array(range(10)))[1]
    print(xme.xmem.get_table("v").get(), time.monotonic() - max(ends))
"""
EXAMPLES = {"2.3.1": _GUARD + _MAIN, "2.3.2": _HEART + _MAIN}


def results(output: str) -> list[tuple[int, float]]:
    """Return what a run's gfuns counted, and how long they went on; on a slow machine the guard talks in between."""
    lines = [text.split() for text in output.splitlines() if "XMEGuard: " not in text]
    return [(int(count), float(seconds)) for count, seconds in lines]


def _run(folder: str, example: str, method: str, mode: str) -> tuple[float, str]:
    """Run an example once; returns how long it went on after its functions, and what is wrong."""
    script = Path(folder, f"example_{example.replace('.', '_')}.py")
    script.write_text(EXAMPLES[example], encoding="utf-8")
    command = [sys.executable, str(script), method, mode, "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return LIMIT_S, f"did not end by itself in {LIMIT_S:g} s"
        finally:
            # Its workers are in its session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode or errors:
        return 0.0, f"exit code {process.returncode}: {errors.strip()[-500:]}"
    counts = results(output)
    if [count for count, _ in counts] != [1000]:
        return 0.0, f"printed {output!r}, which does not begin with 1000"
    return counts[0][1], ""


def run(times: int) -> dict[str, Any]:
    """Run each example so often, and return what came of it."""
    began = time.monotonic()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="guard-examples-") as folder:
        for example in EXAMPLES:
            ways = itertools.islice(itertools.cycle(itertools.product(METHODS, MODES)), times)
            runs = []
            for number, way in enumerate(ways, 1):
                runs.append((way, *_run(folder, example, *way)))
                if number % _TELL_EVERY == 0:
                    print(f"{example}: {number} of {times} runs are done", file=sys.stderr, flush=True)
            lasted = [seconds for _, seconds, wrong in runs if not wrong]
            found[example] = {
                "runs": times, "right": len(lasted), "longest_after_the_last_append_s": max(lasted, default=0.0),
                "wrong": [f"{method}, {mode}: {wrong}" for (method, mode), _, wrong in runs if wrong],
            }  # fmt: skip
    return {"seconds": time.monotonic() - began, "examples": found}


def _lines(result: dict[str, Any]) -> Iterator[str]:
    for name, found in result["examples"].items():
        longest = 1e3 * found["longest_after_the_last_append_s"]
        yield f"{name}: {found['right']} of {found['runs']} right; at most {longest:.0f} ms after the last append"
        yield from (f"    {wrong}" for wrong in found["wrong"])


def main() -> None:
    """Run the examples as often as is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard_examples", description="The manual's guard examples, again and again."
    )
    parser.add_argument("--times", type=int, default=9, help="runs of each of the two (default 9: every way once)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts, times and environment here")
    options = parser.parse_args()
    if options.times < 1:
        parser.error(f"--times is how often each example runs, 1 or more, not {options.times}")
    result = run(options.times)
    environment = describe()
    print("\n".join([*_lines(result), line(environment)]))
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": environment, **result}, indent=1) + "\n")
    sys.exit(any(found["wrong"] for found in result["examples"].values()))


if __name__ == "__main__":
    main()
