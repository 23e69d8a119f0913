"""The rivals that run functions, behind one small interface, each used as its own documentation says.

A crew is made warm. ``each`` sends one task a message, ``bulk`` uses the rival's own way for many tiny tasks, ``one``
runs a single task, and ``rows`` hands one array to ``count`` rows.
"""

# ruff: noqa: D102  # what each method does is said once, by the protocol
from __future__ import annotations

import os
from collections.abc import Callable
from itertools import repeat
from typing import Any, Protocol

from benchmarks.clock import cores
from benchmarks.registry import need
from benchmarks.work import increment

Task = Callable[..., Any]


class Crew(Protocol):
    """What a case may ask of a rival; ``pace`` scales the number of tasks of a run (1.0: the full number)."""

    pace: float

    def each(self, function: Task, count: int) -> Any:
        """Run ``function`` over ``range(count)``, one task a message."""

    def bulk(self, function: Task, count: int) -> Any:
        """Run ``function`` over ``range(count)``, grouped as the rival groups by default."""

    def one(self, function: Task, value: Any) -> Any:
        """Run one task and wait for it."""

    def rows(self, function: Task, array: Any, count: int) -> Any:
        """Run ``function(array, row)`` for ``count`` rows and return the results."""

    def close(self) -> None:
        """End the workers."""


class XmeCrew:
    """XME: one Executor, and an XME object for each function."""

    pace = 1.0

    def __init__(self) -> None:
        self._xme = need("XME")
        self.executor = self._xme.Executor.Executor(max_workers=cores())
        self._objects: dict[Task, Any] = {}

    def _table(self, function: Task) -> Any:
        if function not in self._objects:
            self._objects[function] = self._xme.XME(function, executor=self.executor)
        return self._objects[function]

    def each(self, function: Task, count: int) -> Any:
        return list(self.executor.map(function, range(count), chunksize=1))

    def bulk(self, function: Task, count: int) -> Any:
        return self._table(function).fun(self._xme.Array(range(count)))

    def one(self, function: Task, value: Any) -> Any:
        return self._table(function).fun(value)

    def rows(self, function: Task, array: Any, count: int) -> Any:
        return self._table(function).fun(array, self._xme.Array(range(count)))

    def close(self) -> None:
        for made in self._objects.values():
            made.close()
        self.executor.shutdown()


class PoolCrew:
    """multiprocessing.Pool of the platform's default start method."""

    pace = 0.5

    def __init__(self) -> None:
        import multiprocessing

        self._pool = multiprocessing.Pool(cores())

    def each(self, function: Task, count: int) -> Any:
        return self._pool.map(function, range(count), chunksize=1)

    def bulk(self, function: Task, count: int) -> Any:
        return self._pool.map(function, range(count))

    def one(self, function: Task, value: Any) -> Any:
        return self._pool.apply(function, (value,))

    def rows(self, function: Task, array: Any, count: int) -> Any:
        return self._pool.starmap(function, [(array, row) for row in range(count)], chunksize=1)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class FuturesCrew:
    """concurrent.futures' own pool, and loky's, which has the same interface."""

    pace = 0.2

    def __init__(self, library: str) -> None:
        if library == "loky":
            self._executor = need("loky").get_reusable_executor(max_workers=cores(), timeout=600)
        else:
            self._executor = need("concurrent.futures").ProcessPoolExecutor(cores())

    def each(self, function: Task, count: int) -> Any:
        return list(self._executor.map(function, range(count), chunksize=1))

    # Their default is one task a message; the documentation says to give a large chunksize to long iterables, and
    # this is the one that Pool.map would choose.
    def bulk(self, function: Task, count: int) -> Any:
        return list(self._executor.map(function, range(count), chunksize=max(1, count // (4 * cores()))))

    def one(self, function: Task, value: Any) -> Any:
        return self._executor.submit(function, value).result()

    def rows(self, function: Task, array: Any, count: int) -> Any:
        return list(self._executor.map(function, repeat(array, count), range(count)))

    def close(self) -> None:
        self._executor.shutdown()


class MpireCrew:
    """mpire.WorkerPool with workers that are kept alive."""

    pace = 0.2

    def __init__(self) -> None:
        self._pool = need("mpire").WorkerPool(n_jobs=cores(), keep_alive=True)

    def each(self, function: Task, count: int) -> Any:
        return self._pool.map(function, range(count), chunk_size=1)

    def bulk(self, function: Task, count: int) -> Any:
        return self._pool.map(function, range(count))

    def one(self, function: Task, value: Any) -> Any:
        return self._pool.apply(function, (value,))

    def rows(self, function: Task, array: Any, count: int) -> Any:
        pairs = [(array, row) for row in range(count)]
        return self._pool.map(function, pairs, chunk_size=1, concatenate_numpy_output=False)

    def close(self) -> None:
        self._pool.stop_and_join()


class JoblibCrew:
    """joblib with its default workers (loky); by itself it sends arrays above 1 MB through memory-mapped files."""

    pace = 0.1

    def __init__(self) -> None:
        self._joblib = need("joblib")
        # Entered, as its manual says for many calls: else every call would set its workers up anew.
        self._single = self._joblib.Parallel(n_jobs=cores(), batch_size=1).__enter__()
        self._auto = self._joblib.Parallel(n_jobs=cores()).__enter__()

    def each(self, function: Task, count: int) -> Any:
        return self._single(self._joblib.delayed(function)(value) for value in range(count))

    def bulk(self, function: Task, count: int) -> Any:
        return self._auto(self._joblib.delayed(function)(value) for value in range(count))

    def one(self, function: Task, value: Any) -> Any:
        return self._single([self._joblib.delayed(function)(value)])

    def rows(self, function: Task, array: Any, count: int) -> Any:
        return self._single(self._joblib.delayed(function)(array, row) for row in range(count))

    def close(self) -> None:
        self._auto.__exit__(None, None, None)
        self._single.__exit__(None, None, None)
        need("joblib.externals.loky").get_reusable_executor().shutdown()


class RayCrew:
    """Ray on this machine: tasks for ``each``, its own Pool for ``bulk``, its object store for arrays."""

    pace = 0.1

    def __init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = need("ray")
        self._ray.init(num_cpus=cores(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._pool: Any = None
        self._remote: dict[Task, Any] = {}

    def _task(self, function: Task) -> Any:
        if function not in self._remote:
            self._remote[function] = self._ray.remote(function)
        return self._remote[function]

    def each(self, function: Task, count: int) -> Any:
        task = self._task(function)
        return self._ray.get([task.remote(value) for value in range(count)])

    def bulk(self, function: Task, count: int) -> Any:
        if self._pool is None:
            self._pool = need("ray.util.multiprocessing").Pool(cores())
        return self._pool.map(function, range(count))

    def one(self, function: Task, value: Any) -> Any:
        return self._ray.get(self._task(function).remote(value))

    def rows(self, function: Task, array: Any, count: int) -> Any:
        task, reference = self._task(function), self._ray.put(array)
        return self._ray.get([task.remote(reference, row) for row in range(count)])

    def close(self) -> None:
        self._ray.shutdown()


class DaskCrew:
    """Dask's local cluster of processes with one thread each: futures for ``each``, a bag for ``bulk``."""

    pace = 0.05

    def __init__(self) -> None:
        distributed = need("distributed")
        self._cluster = distributed.LocalCluster(
            n_workers=cores(), threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        )
        self._client = distributed.Client(self._cluster)

    def each(self, function: Task, count: int) -> Any:
        return self._client.gather(self._client.map(function, range(count), pure=False))

    def bulk(self, function: Task, count: int) -> Any:
        bag = need("dask.bag").from_sequence(range(count), npartitions=4 * cores())
        return bag.map(function).compute(scheduler=self._client)

    def one(self, function: Task, value: Any) -> Any:
        return self._client.submit(function, value, pure=False).result()

    def rows(self, function: Task, array: Any, count: int) -> Any:
        shared = self._client.scatter(array, hash=False)
        return self._client.gather([self._client.submit(function, shared, row, pure=False) for row in range(count)])

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


class OldXmeCrew:
    """The manual's own XME 3.3.1: it starts a pool for every call; only the object itself can be kept.

    Each call is followed by its ``clean()``, because else every call leaves a manager process behind.
    """

    pace = 0.01

    def __init__(self) -> None:
        self._xme = need("XME")
        self._objects: dict[Task, Any] = {}

    def _table(self, function: Task) -> Any:
        if function not in self._objects:
            self._objects[function] = self._xme.XME(function, pnum=cores(), do_with_log=False)
        return self._objects[function]

    def _fun(self, function: Task, *args: Any) -> Any:
        table = self._table(function)
        table.clean()
        return table.fun(*args)

    def bulk(self, function: Task, count: int) -> Any:
        return self._fun(function, self._xme.XME.Array(list(range(count))))

    each = bulk

    def one(self, function: Task, value: Any) -> Any:
        return self._fun(function, value)

    def rows(self, function: Task, array: Any, count: int) -> Any:
        return self._fun(function, array, self._xme.XME.Array(list(range(count))))

    def close(self) -> None:
        """Nothing but the managers stays between its calls, and they go with the objects."""
        self._objects.clear()


_CREWS: dict[str, Callable[[], Crew]] = {
    "xme": XmeCrew,
    "pool": PoolCrew,
    "processpool": lambda: FuturesCrew("concurrent.futures"),
    "loky": lambda: FuturesCrew("loky"),
    "mpire": MpireCrew,
    "joblib": JoblibCrew,
    "ray": RayCrew,
    "dask": DaskCrew,
    "xme331": OldXmeCrew,
}

ALL_CREWS = tuple(_CREWS)


def start_crew(rival: str) -> Crew:
    """Start a rival's workers and run a few tasks, so that all of them have run something."""
    crew = _CREWS[rival]()
    crew.each(increment, 4 * cores())
    crew.one(increment, 1)
    return crew
