"""Two locks in both orders, and processes that are killed on the way: the money is all there at the end.

    python examples/bank_transfer.py [--seconds 3]

Clerks (processes) move money between two accounts. Each account has a lock; a clerk takes the payer's first, then the
receiver's, so that two clerks sometimes wait for each other for ever (the first two do so at once: that is arranged).
With locks of the standard library that is the end. Here one of the two gets a Deadlock, which names the circle, gives
its lock back and tries again. Every now and then a clerk is killed with SIGKILL, wherever it is: its locks go to the
next one, who is told who died. What it has not finished is not there, because both accounts change in one commit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import time
from typing import Any

import XME
from XME import Security

ACCOUNTS = ("ann", "bob")
START = 1_000
CLERKS = 3
# The places of a clerk's counters.
MOVED, DEADLOCKS, INHERITED = range(3)


def work(bank: Any, locks: dict[str, Any], counts: Any, seed: int, meeting: Any) -> None:
    """Move money until killed; who is given a meeting has the first account there, and another clerk the second."""
    dice = random.Random(seed)
    me = f"clerk {seed}"
    while True:
        payer, receiver = dice.sample(ACCOUNTS, 2) if meeting is None else (ACCOUNTS[seed], ACCOUNTS[1 - seed])
        try:
            with locks[payer].holding(me) as first:
                if meeting is not None:
                    meeting.wait()
                # Somebody checks the payer's signature.
                time.sleep(0.001)
                with locks[receiver].holding(me) as second:
                    amount = min(dice.randint(1, 20), bank[payer])
                    bank.update({payer: bank[payer] - amount, receiver: bank[receiver] + amount})
                    counts[MOVED] += 1
                    counts[INHERITED] += sum(held.owner_died is not None for held in (first, second))
        except XME.Deadlock as error:
            counts[DEADLOCKS] += 1
            if meeting is not None:
                print(error, flush=True)
            time.sleep(dice.uniform(0, 0.005))
        meeting = None


def main() -> None:
    """Let clerks work, kill some, and count the money."""
    parser = argparse.ArgumentParser(description="Two locks in both orders, and kills.")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long (default 3)")
    parser.add_argument("--start-method", default=None, choices=multiprocessing.get_all_start_methods())
    options = parser.parse_args()
    context = multiprocessing.get_context(options.start_method)

    bank = XME.xmem_dict(dict.fromkeys(ACCOUNTS, START))
    locks = {name: Security.Security(Security.MUTEX) for name in ACCOUNTS}
    counts = XME.xmem_array((1000, 3), dtype="i8")

    def start(seed: int, meeting: Any = None) -> Any:
        clerk = context.Process(target=work, args=(bank, locks, counts[seed], seed, meeting), daemon=True)
        clerk.start()
        return clerk

    dice = random.Random(1)
    meeting = context.Barrier(2)
    clerks = [start(seed, meeting) for seed in range(2)]
    # Nobody else may have an account until they have met, and under spawn a process takes a while to come up.
    while not (counts[:, DEADLOCKS].any() and counts[:, MOVED].any()):
        time.sleep(0.01)
    clerks += [start(seed) for seed in range(2, CLERKS)]
    kills = 0
    end = time.monotonic() + options.seconds
    while time.monotonic() < end and kills < 900:
        time.sleep(dice.uniform(0.05, 0.2))
        place = dice.randrange(CLERKS)
        clerks[place].kill()
        clerks[place].join()
        clerks[place] = start(CLERKS + kills)
        kills += 1
    for clerk in clerks:
        clerk.kill()
        clerk.join()

    total = sum(bank.values())
    moved, deadlocks, inherited = counts.sum(axis=0)
    print(f"transfers  {moved}")
    print(f"deadlocks  {deadlocks} reported, and tried again")
    print(f"kills      {kills + CLERKS}, and {inherited} times the next holder heard who had died")
    print(f"money      {total} of {len(ACCOUNTS) * START}")


if __name__ == "__main__":
    main()
