"""Two services and their guard, the manual's server model; Ctrl-C stops them cleanly.

    python examples/counter_service.py                  serves until Ctrl-C
    python examples/counter_service.py --orders 1000    ends by itself after so many orders

One service sells, one returns goods; both change one shop, and neither takes a lock: they append calls, which the
guard runs in order, each exactly once. `kill -9` of the guard loses nothing of that: the next one goes on.
"""

import argparse
import os
import random
import signal
import time

import XME


class Shop:
    """What the services share."""

    def __init__(self, stock):
        self.stock = dict.fromkeys(stock, 0)
        self.sold = self.returned = 0

    def sell(self, what):
        """Count one that went."""
        self.stock[what] -= 1
        self.sold += 1

    def take_back(self, what):
        """Count one that came back."""
        self.stock[what] += 1
        self.returned += 1

    def totals(self):
        """Give how many were sold and returned, and what there is now."""
        return self.sold, self.returned, sum(self.stock.values())


GOODS = ("apples", "pears", "plums")


class Service:
    """Works until it is told to stop, or until it has done `orders` orders."""

    def __init__(self, name, method, stopped):
        self.name, self.method, self.stopped = name, method, stopped

    def Main(self, orders, XMEManager=None, print=print):
        """Append orders, and now and then wait until they have been done."""
        shop = XMEManager.get_table("shop")
        order, done = getattr(shop, self.method), 0
        dice = random.Random(self.name)
        with XME.HeartJump(self.name, XMEManager):
            while not self.stopped[0] and (not orders or done < orders):
                XMEManager.append(order, self.name, what=dice.choice(GOODS))
                done += 1
                if done % 100 == 0:
                    # Every call of ours has run now, or this raises what went wrong.
                    XMEManager.get(self.name)
                    if done == 100:
                        print(f"{self.name}: the first {done} orders are done")
                    time.sleep(0 if orders else 0.01)
            XMEManager.get(self.name)
        print(f"{self.name}: {done} orders")
        return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=0, help="end after so many orders a service (default: Ctrl-C)")
    options = parser.parse_args()

    shop = XME.xmem_object("shop", Shop, GOODS)
    stopped = XME.xmem_array([0])
    services = [Service("seller", "sell", stopped), Service("returns", "take_back", stopped)]
    guard = XME.XMEGuard(VerboseTime=0, script="import os; print(f'the guard is pid {os.getpid()}')")

    def stop(*_):
        # The services see it, finish what they are doing and end; then the guard ends, and then gfuns returns.
        stopped[0] = 1
        # One is enough: another would end this program while it says how much was sold, or as its last act.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    signal.signal(signal.SIGINT, stop)
    with XME.Executor.Executor(max_workers=2) as executor:
        functions = [*[service.Main for service in services], guard.Guard]
        xme = XME.XME(*functions, executor=executor, xmemtable={"shop": shop})
        print(f"serving, pid {os.getpid()}; Ctrl-C ends it", flush=True)
        _, counts = xme.gfuns(farg_array=[[options.orders]] * 2)

    (sold,), (returned,) = counts
    print(f"sold {sold}, returned {returned}, the shop says {shop.totals()}")
    assert shop.totals() == (sold, returned, returned - sold)


if __name__ == "__main__":
    main()
