"""A domain that holds no more processes: workers that have a place run all rows; where nobody has one, it is said."""

import pytest

from tests.helpers import run_python

HEAD = """
import functools
import sys
import threading

from XME._pool import crew
from XME.errors import CrewFailed, DomainFull
from XME.Executor import Executor

def square(number):
    return number * number

def leave_a_thread(number):
    threading.Thread(target=threading.Event().wait).start()
    return number

Pool = functools.partial(Executor, start_method=sys.argv[1])

def full(work):
    try:
        work()
    except (DomainFull, CrewFailed) as error:
        assert "already has 2 living processes" in str(error) and "XME_CAPACITY" in str(error), error
        return type(error)
    raise AssertionError
"""

MORE_WORKERS_THAN_PLACES = """
if __name__ == "__main__":
    with Pool(6) as pool:
        for _ in range(3):
            assert list(pool.map(square, range(100), chunksize=1)) == [n * n for n in range(100)]
        assert len(pool.statistics().working_s) == 3
    print("done")
"""

OTHERS_ARE_FASTER = """
if __name__ == "__main__":
    # As if all places had been free a moment ago.
    crew.Crew._room = lambda _self: 100
    with Pool(6) as pool:
        assert list(pool.map(square, range(100), chunksize=1)) == [n * n for n in range(100)]
    print("done")
"""

NO_PLACE = """
if __name__ == "__main__":
    with Pool(1) as first, Pool(1) as second:
        assert list(first.map(square, [3])) == [9]
        assert full(lambda: list(second.map(square, [3]))) is DomainFull
        assert full(lambda: second.submit(square, 3).result(40)) is DomainFull
        room, crew.Crew._room = crew.Crew._room, lambda _self: 100
        assert full(lambda: list(second.map(square, [3]))) is CrewFailed
        crew.Crew._room = room
        assert list(first.map(square, [4])) == [16]
        first.shutdown()
        assert list(second.map(square, [3])) == [9]
    print("done")
"""

SUCCESSORS_IN_THE_SAME_PLACE = """
if __name__ == "__main__":
    with Pool(1, max_tasks_per_child=1) as pool:
        assert list(pool.map(square, range(4), chunksize=1)) == [0, 1, 4, 9]
        # Whose threads keep him in his place makes room for the next after a while.
        crew._END_S = 0.1
        assert list(pool.map(leave_a_thread, range(3), chunksize=1)) == [0, 1, 2]
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("program", "capacity"),
    [(MORE_WORKERS_THAN_PLACES, 4), (OTHERS_ARE_FASTER, 4), (NO_PLACE, 2), (SUCCESSORS_IN_THE_SAME_PLACE, 2)],
    ids=["more workers than places", "others are faster", "no place", "successors"],
)
def test_a_full_domain(program, capacity, method):
    done = run_python(HEAD + program, method, env={"XME_CAPACITY": str(capacity)})

    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
