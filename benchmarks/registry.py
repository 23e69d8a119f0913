"""What a case is, what a rival is, and how a worker of the benchmarks answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")

TITLES: Mapping[str, str] = {
    "xme": "XME",
    "pool": "multiprocessing.Pool",
    "processpool": "ProcessPoolExecutor",
    "mpire": "mpire",
    "joblib": "joblib",
    "loky": "loky",
    "ray": "Ray",
    "dask": "Dask",
    "xme331": "XME 3.3.1",
    "write": "write(2) into tmpfs",
    "memcpy": "memcpy",
    "local": "the function alone, in this process",
    "posix_ipc": "posix_ipc.Semaphore (dies with its holder)",
    "mp_lock": "multiprocessing.Lock (dies with its holder)",
    "mp_rlock": "multiprocessing.RLock (dies with its holder)",
    "filelock": "filelock.FileLock",
    "fasteners": "fasteners.InterProcessLock",
    "manager_lock": "multiprocessing.Manager().Lock",
    "manager": "multiprocessing.Manager (its server running)",
    "manager_new": "multiprocessing.Manager and its server",
    "shareable_list": "multiprocessing.ShareableList (no lock)",
    "ultradict": "UltraDict (its lock by fork only)",
    "ultradict_lock": "UltraDict, shared_lock=True",
    "shared_memory_dict": "shared-memory-dict",
    "lmdb": "LMDB, a transaction each (no sync, writemap)",
    "lmdb_whole": "LMDB, one transaction for all (no sync, writemap)",
    "diskcache": "diskcache in tmpfs",
    "redis": "Redis on loopback",
    "pickle": "pickle alone (neither encrypted nor safe)",
    "xmlrpc": "xmlrpc",
    "mp_connection": "multiprocessing.connection (pickle)",
}

# The package that pip installs, where it is not the module's name: so that "not measured" can say what to do.
PACKAGES: Mapping[str, str] = {
    "dask": "dask[distributed]",
    "distributed": "dask[distributed]",
    "xme": "xme-shm",
    "shared_memory_dict": "shared-memory-dict",
    "redis": "redis[hiredis]",
}

# Looked at and left out, each with its reason; printed below every table.
OMITTED: Mapping[str, str] = {
    "pathos, multiprocess": "multiprocessing.Pool with another pickler: the figures are Pool's",
    "mpi4py": "needs an MPI installation; its executor can be given to XME as executor=",
    "concurrent.futures.ThreadPoolExecutor": "one interpreter lock: no use of a second core for Python code",
    "SharedArray": "arrays by name, as xmem_array; it neither runs functions nor holds keys",
    "LMDB and diskcache on a disk": "they are measured in tmpfs: what is asked here is what memory costs",
}

RUNNING: tuple[str, ...] = (
    "task_single",
    "task_guided",
    "one_row",
    "handover",
    "put_first",
    "put_again",
    "results",
    "start_barrier",
    "mutex_pair",
    "security_pair",
    "lock_contention",
    "deadlock_found",
    "import_time",
    "memory",
    "leak",
)
CONTAINERS: tuple[str, ...] = (
    "dict_get",
    "dict_get_first",
    "dict_set",
    "dict_new",
    "attach",
    "create_drop",
    "list_get",
    "list_append",
    "object_change",
    "object_read",
    "big_set_first",
    "big_set_again",
    "big_get",
    "contention",
    "nested",
    "key_bytes",
)
MESSAGES: tuple[str, ...] = ("message_update", "message_large", "message_small", "rpc")
GUARD: tuple[str, ...] = ("guard_call", "guard_get")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "running": RUNNING, "containers": CONTAINERS, "messages": MESSAGES, "guard": GUARD,
}  # fmt: skip
CASES = RUNNING + CONTAINERS + MESSAGES + GUARD


@dataclass(frozen=True)
class Scale:
    """How much work a run does: the full measure, or a quick look."""

    quick: bool = False

    def pick(self, full: T, quick: T) -> T:
        """Return the one of two sizes that belongs to this run."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Series:
    """Samples of one kind: ``label`` tells series of one case apart, ``facts`` say what a sample was."""

    samples: list[float]
    label: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class NotMeasuredError(Exception):
    """A rival cannot be measured here; the text is the reason."""


@dataclass(frozen=True)
class Case:
    """One question to all rivals.

    ``run(rival, scale)`` is called in a process of its own and returns series in ``unit``; ``reach`` maps the label of
    a series to the most that XME's median may be, and ``bound`` to the rival that it must not be slower than (with the
    factor that is allowed). ``limit_s`` ends a run that hangs.
    """

    name: str
    question: str
    unit: str
    rivals: tuple[str, ...]
    run: Callable[[str, Scale], list[Series]]
    reach: Mapping[str, float] = field(default_factory=dict)
    bound: tuple[str, float] | None = None
    limit_s: float = 120.0


def load_case(name: str) -> Case:
    """Return the case of this name; raises ValueError for an unknown one."""
    if name not in CASES:
        raise ValueError(f"there is no case {name!r}; there are: {', '.join(CASES)}")
    case: Case = import_module(f"benchmarks.cases.{name}").CASE
    return case


def need(module: str) -> Any:
    """Import a rival's module, or say that it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        package = PACKAGES.get(top.lower(), top)
        raise NotMeasuredError(f"not installed here ({error}); pip install {package!r}") from None
