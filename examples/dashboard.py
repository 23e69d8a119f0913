"""A long job reports through a Monitor, and any other terminal looks on.

    python examples/dashboard.py work                   in one terminal
    python examples/dashboard.py show                   in another one, as often as you like

The job throws darts to find pi, in rows that run in worker processes; each row says how far it is. The onlookers are
programs of their own: they find the Monitor by its name, sleep until something changes, and may come and go. Only the
job may write: its Monitor stands behind a Security.
"""

import argparse
import os
import time

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

import XME
from XME import Security
from XME.Monitor import Monitor

# So long nothing has come: the job may have been killed.
SILENCE_S = 5.0


def throw(mon, row, darts, pieces):
    """Throw darts, and say after each piece how many have hit."""
    dice = np.random.default_rng(row)
    hits = 0
    for piece in range(pieces):
        hits += int(((dice.random((darts // pieces, 2)) ** 2).sum(axis=1) < 1).sum())
        thrown = (piece + 1) * (darts // pieces)
        report = {"done": piece + 1, "of": pieces, "hits": hits, "darts": thrown, "pid": os.getpid()}
        mon.update({("row", row): report, "beat": time.time()}, Operator=Security.ADMIN)
    return hits


def work(options):
    """Do the job, and report."""
    mon = XME.xmem_object("dashboard", Monitor, security=Security.Security())
    # First, so that whoever finds it finds something in it.
    mon.update({"rows": options.rows, "beat": time.time()}, Operator=Security.ADMIN)
    mon.publish(options.name)
    print(f"published as {options.name!r}; python {__file__} show --name {options.name}", flush=True)
    with XME.XME(throw, pnum=options.pnum, do_with_log=False) as xme:
        hits = xme.fun(mon, XME.Array(range(options.rows)), darts=options.darts, pieces=options.pieces)
    pi = 4 * sum(hits) / (options.rows * (options.darts // options.pieces * options.pieces))
    mon.update({"result": pi, "beat": time.time()}, Operator=Security.ADMIN)
    print(f"pi is about {pi:.4f}")


def picture(messages):
    """Return the table of one moment."""
    table = Table("row", "process", "progress", "", "pi so far", title="darts", width=76)
    reports = {key[1]: value for key, value in messages.items() if isinstance(key, tuple)}
    for row in range(messages.get("rows", 0)):
        report = reports.get(row)
        if report is None:
            table.add_row(str(row), "", ProgressBar(total=1, completed=0, width=30), "", "")
            continue
        bar = ProgressBar(total=report["of"], completed=report["done"], width=30)
        share = f"{100 * report['done'] // report['of']} %"
        table.add_row(str(row), str(report["pid"]), bar, share, f"{4 * report['hits'] / report['darts']:.4f}")
    silence = time.time() - messages["beat"]
    if "result" in messages:
        last = f"pi is about {messages['result']:.4f}"
    elif silence > SILENCE_S:
        last = f"nothing has come for {silence:.0f} s: is the job still there?"
    else:
        last = "running"
    return Group(table, last)


def show(options):
    """Look on until there is a result."""
    mon = XME.attach(options.name)
    if not (isinstance(mon, Monitor) and {"rows", "beat"} <= mon.get().keys()):
        raise SystemExit(f"what is shared under the name {options.name!r} is no dashboard: {mon!r:.60}")
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            moment = mon.moment
            messages = mon.get()
            live.update(picture(messages), refresh=True)
            if "result" in messages:
                return
            mon.wait(since=moment, timeout=1.0)


def number(text):
    """Return how many; 1 or more."""
    if not text.isdecimal() or not int(text):
        msg = f"{text} is not a number of at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def main():
    parser = argparse.ArgumentParser(description="A job that reports, and who looks on.")
    parser.add_argument("what", choices=["work", "show"])
    parser.add_argument("--name", default="dashboard")
    parser.add_argument("--rows", type=number, default=8)
    parser.add_argument("--pieces", type=number, default=50, help="reports a row")
    parser.add_argument("--darts", type=number, default=20_000_000, help="a row, one a piece at least")
    parser.add_argument("--pnum", type=number, default=None, help="workers (default: one a core)")
    options = parser.parse_args()
    if options.darts < options.pieces:
        parser.error(f"--darts {options.darts} are not enough for --pieces {options.pieces}")
    try:
        (work if options.what == "work" else show)(options)
    except XME.XMEError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
