"""python -m XME locktest: the harness from the command line."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from XME.testing._report import Report

_EXAMPLES = """
examples:
  python -m XME locktest mylocks:make_lock --spec mutex --on-crash recovers
  python -m XME locktest mylocks:make_lock --spec mutex --on-crash recovers --crash-sweep
  python -m XME locktest mylocks:make_lock --spec read_write --explore 500 --html report.html
  python -m XME locktest threading:RLock --spec reentrant:4 --between threads
  python -m XME locktest multiprocessing:Lock --spec mutex --handed-over
  python -m XME locktest replay xmelock1:eNo...
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `python -m XME`."""
    parser = commands.add_parser(
        "locktest", help="test any lock that has acquire and release", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("make_lock", metavar="MODULE:FUNCTION", help="what makes the lock; or: replay TOKEN")
    parser.add_argument("token", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--spec", default="mutex", help="mutex, reentrant:DEPTH, read_write or permits:N")
    parser.add_argument("--on-crash", default="unspecified",
                        choices=("recovers", "notifies", "stays_locked", "unspecified"))  # fmt: skip
    parser.add_argument("--owner-only", action="store_true", help="a stranger's release raises")
    parser.add_argument("--not-reentrant", action="store_true", help="its owner is refused when he takes it again")
    parser.add_argument("--max-wait-s", type=float)
    parser.add_argument("--max-bypass", type=int)
    parser.add_argument("--recover-s", type=float, default=1.0)
    parser.add_argument("--stuck-s", type=float, default=1.0)
    parser.add_argument("--between", choices=("processes", "threads"), default="processes")
    parser.add_argument("--start-method", choices=("spawn", "fork", "forkserver"), default="spawn")
    parser.add_argument("--handed-over", action="store_true", help="make it once, and hand it to the workers")
    parser.add_argument("--gates", action="append", default=[], metavar="MODULE", help="its lines are gates too")
    parser.add_argument("--cleanup", metavar="MODULE:FUNCTION", help="called with the room after each run")
    parser.add_argument("--verify", metavar="MODULE:FUNCTION", help="called with the lock in every section")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill", type=float, help="kills, as a share of all rounds")
    parser.add_argument("--stop-continue", type=float, default=0.0, help="stops, as a share of all rounds")
    parser.add_argument("--deadline-s", type=float, default=30.0)
    parser.add_argument("--all-failures", action="store_true", help="go on after a violation")
    parser.add_argument("--crash-sweep", action="store_true", help="kill at every line of acquire, hold and release")
    parser.add_argument("--max-gates", type=int, default=1000, help="after so many kills a scene of a sweep is left")
    parser.add_argument("--explore", type=int, metavar="RUNS", help="choose who goes on at every line")
    parser.add_argument("--strategy", choices=("hypothesis", "pct", "random", "exhaustive"))
    parser.add_argument("--html", metavar="FILE", help="write the timeline as a page")
    parser.add_argument("--save", metavar="FILE", help="write everything as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Test, print the report, and return the exit code: 0 passed, 1 not, 2 the call was wrong."""
    # As `python -m` does for what it runs: the lock's module is looked for where the user stands.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    from XME.errors import LockTestFailed

    try:
        for path in filter(None, (options.html, options.save)):
            _require_writable(path)
        report = _report(options)
    except (ValueError, ModuleNotFoundError, LockTestFailed) as error:
        print(f"locktest: {error}", file=sys.stderr)
        return 2
    except Exception:
        # What the lock's own functions raise in this program. Python would end with 1, and that says: a violation.
        traceback.print_exc()
        return 2
    print(report)
    if options.html:
        with open(options.html, "w", encoding="utf-8") as file:
            file.write(report.html())
    if options.save:
        report.save(options.save)
    return 0 if report.ok else 1


def _require_writable(path: str) -> None:
    """Refuse a file that cannot be written before the run, which may take minutes, and not after it (ValueError)."""
    folder = os.path.dirname(path) or "."
    if os.path.exists(path):
        can = not os.path.isdir(path) and os.access(path, os.W_OK)
    else:
        can = os.path.isdir(folder) and os.access(folder, os.W_OK)
    if not can:
        msg = f"{path!r} cannot be written: it is no file, or is not yours, or its folder does not exist"
        raise ValueError(msg)


def _report(options: argparse.Namespace) -> Report:
    from XME.testing import Strategy, check_lock, crash_sweep, explore_lock, replay
    from XME.testing._room import find

    if options.make_lock == "replay":
        if not options.token:
            raise ValueError("replay wants a token: python -m XME locktest replay xmelock1:...")
        return replay(options.token)
    if options.token:
        msg = f"what is {options.token!r}? only `replay` takes a second argument"
        raise ValueError(msg)
    # So that `multiprocessing:Lock` makes a lock that can be handed to these workers.
    multiprocessing.set_start_method(options.start_method, force=True)
    make_lock, spec = find(options.make_lock), _spec(options)
    shared: dict[str, Any] = {"start_method": options.start_method, "handed_over": options.handed_over}
    shared |= {name: find(getattr(options, name)) for name in ("cleanup", "verify") if getattr(options, name)}
    shared["gates"] = tuple(options.gates)
    if options.crash_sweep:
        return crash_sweep(make_lock, spec, max_gates=options.max_gates, all_failures=options.all_failures, **shared)
    if options.explore is not None:
        strategy = Strategy(name=options.strategy, seed=options.seed) if options.strategy else None
        more = {"workers": options.workers, "rounds": options.rounds or 1, "strategy": strategy}
        return explore_lock(make_lock, spec, runs=options.explore, budget_s=10 * options.deadline_s, **more, **shared)
    return check_lock(make_lock, spec, **_free(options), **shared)


def _free(options: argparse.Namespace) -> dict[str, Any]:
    from XME.testing import Faults

    faults = Faults(kill=options.kill, stop_continue=options.stop_continue)
    found = {"seed": options.seed, "faults": faults, "deadline_s": options.deadline_s}
    found |= {name: getattr(options, name) for name in ("workers", "rounds") if getattr(options, name) is not None}
    return {**found, "all_failures": options.all_failures}


def _spec(options: argparse.Namespace) -> Any:
    from XME.testing import LockSpec

    promises = {"owner_only": True} if options.owner_only else {}
    if options.not_reentrant:
        promises["reentrant"] = False
    return LockSpec.named(
        options.spec, on_crash=options.on_crash, max_wait_s=options.max_wait_s, max_bypass=options.max_bypass,
        recover_s=options.recover_s, stuck_s=options.stuck_s, between=options.between, **promises,
    )  # fmt: skip
