"""Objects of classes of the main program in processes that were started anew, where that program is another module."""

import pytest

from tests.helpers import run_python

PROGRAM = """
import dataclasses
import multiprocessing
import sys

import XME


class Base:
    made = 0

    def add(self, by):
        self.n += by
        self.log.append(by)
        return self


@dataclasses.dataclass
class Count(Base):
    n: int = 0
    log: list = dataclasses.field(default_factory=list)

    @property
    def double(self):
        return 2 * self.n


class More(Count):
    def add(self, by):
        self.last = [by]
        return super().add(by + 1)


class Slotted(Base):
    __slots__ = ("n", "log")

    def __init__(self):
        self.n, self.log = 0, []


def work(add, told, queue):
    # By the bound method, and by what a plain dict has.
    same, others = told["count"], told["others"]
    assert add(5) is same
    assert isinstance(same, Count) and isinstance(same, Base) and type(others[0].log) is list
    for other in others:
        other.add(1)
    with same.atomic():
        same.n += 10
        same.log = [*same.log, "in a transaction"]
    queue.put((same.double, repr(same), same == Count(15, [5, "in a transaction"])))
    # What is made here is of the same class, as the parent sees it.
    told["table"]["made here"] = XME.xmem_object("made here", More, 1)


def change(method, argument):
    return method(argument).n


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    count, more, slotted = (XME.xmem_object(kind.__name__, kind) for kind in (Count, More, Slotted))
    table = XME.xmem_dict()
    queue = context.Queue()
    told = {"count": count, "others": [more, slotted], "table": table}
    process = context.Process(target=work, args=(count.add, told, queue))
    process.start()
    print(*queue.get(timeout=30))
    process.join(30)
    print(process.exitcode, count.n, count.log, (more.n, more.last, more.log), (slotted.n, slotted.log))
    made = table["made here"]
    print(type(made).__name__, isinstance(made, More), made.add(1).n)
    with context.Pool(1) as pool:
        print(pool.starmap(change, [(more.add, 1), (slotted.add, 2)]))
"""
PRINTED = """\
30 Count(n=15, log=[5, 'in a transaction']) True
0 15 [5, 'in a transaction'] (2, [1], [2]) (1, [1])
More True 3
[4, 3]
"""


@pytest.mark.long
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_classes_of_the_main_program(method):
    done = run_python(PROGRAM, method)

    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTED, "")
