"""Values become bytes and buffers: pickle 5 with its large buffers out of band, cloudpickle for what pickle refuses."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from XME._store import arrays
from XME.errors import UnshareableArgument

# Buffers below this many bytes are cheaper to copy than to keep apart.
LARGE_BYTES = 1 << 16

# What these hold is immutable and needs no care, so the plain C pickler may have them.
PLAIN_TYPES = frozenset({int, float, bool, str, bytes, complex, type(None)})

Reducer = Callable[[Any], Any]

# What is behind a descriptor. Files in memory (BytesIO) and classes of one's own with a __reduce__ are values.
_FILES = (io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)


def is_plain(values: tuple[Any, ...]) -> bool:
    """True if all values are of types that the plain pickler takes as they are."""
    return all(type(value) in PLAIN_TYPES for value in values)


def is_immutable(values: list[Any]) -> bool:
    """True if all values are plain or tuples of plain ones; two of them may well share something."""
    return all(type(value) in PLAIN_TYPES or (type(value) is tuple and is_plain(value)) for value in values)


@functools.cache
def _encoder_class() -> type[Any]:
    # cloudpickle takes a while to import, and many workers never need it.
    import cloudpickle

    class Encoder(cloudpickle.Pickler):  # type: ignore[misc] # its base is untyped
        """A pickler whose reducers for certain types and what is derived from them are given by the caller."""

        def __init__(self, file: Any, reducers: dict[type, Reducer], buffer_callback: Any) -> None:
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)
            self._reducers: dict[type, Reducer | None] = dict(reducers)

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind not in self._reducers:
                self._reducers[kind] = next(filter(None, map(self._reducers.get, kind.__mro__)), None)
            reducer = self._reducers[kind]
            if reducer is not None and (reduced := reducer(obj)) is not NotImplemented:
                return reduced
            if isinstance(obj, _FILES) and not any(obj is known for known in (sys.stdout, sys.stderr, sys.stdin)):
                raise _OpenFile(obj)
            return super().reducer_override(obj)

    return Encoder


class Refused(pickle.PicklingError):
    """Something was met that must not travel. Fields: ``culprit``, ``what`` it is, ``advice`` what to do instead."""

    def __init__(self, culprit: Any, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.culprit = culprit
        self.what = what
        self.advice = advice


class _OpenFile(Refused):
    """An open file was met; cloudpickle would silently send a copy of what it holds."""

    def __init__(self, file: Any) -> None:
        shown = getattr(file, "name", "")
        super().__init__(file, f"an open file ({shown!r})", "pass its path, and open it in the function")


def encode(
    value: Any, reducers: dict[type, Reducer] | None = None, keep_apart: Callable[[memoryview], bool] | None = None
) -> bytes:
    """Pickle a value, functions and classes of ``__main__`` by value.

    Args:
        value: anything.
        reducers: for exact types, functions that give what ``__reduce_ex__`` would, or NotImplemented.
        keep_apart: is offered each contiguous buffer; True means that it takes care of it, and the bytes refer to it
            by its place among those that were kept apart.

    Raises:
        pickle.PicklingError, TypeError, AttributeError, ...: the value does not pickle (see explain).
    """

    def callback(buffer: pickle.PickleBuffer) -> bool:
        # pickle wants True for "in band".
        return not (keep_apart is not None and keep_apart(buffer.raw()))

    file = io.BytesIO()
    _encoder_class()(file, reducers or {}, callback).dump(value)
    return file.getvalue()


def encode_each(values: Iterable[Any], reducers: dict[type, Reducer]) -> Iterator[tuple[bytes, list[memoryview]]]:
    """Pickle values one by one, so that no two of them share anything afterwards; yields (bytes, all buffers)."""
    raws: list[memoryview] = []
    file = io.BytesIO()
    encoder = _encoder_class()(file, reducers, lambda buffer: raws.append(buffer.raw()))
    for value in values:
        encoder.dump(value)
        yield file.getvalue(), raws.copy()
        raws.clear()
        encoder.clear_memo()
        file.seek(0)
        file.truncate()


def is_simple(value: Any) -> bool:
    """True if the plain pickler takes a value as it is: a plain one, or a tuple or list of such."""
    kind = type(value)
    return kind in PLAIN_TYPES or ((kind is tuple or kind is list) and PLAIN_TYPES.issuperset(map(type, value)))


def encode_result(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a result; returns the bytes and its large buffers, which are not copied yet."""
    large: list[memoryview] = []
    must_be_writable = False

    def callback(buffer: pickle.PickleBuffer) -> bool:
        nonlocal must_be_writable
        raw = buffer.raw()
        must_be_writable |= raw.readonly
        return not keep_apart(raw)

    def keep_apart(raw: memoryview) -> bool:
        if raw.nbytes >= LARGE_BYTES:
            large.append(raw)
            return True
        return False

    numpy = arrays.loaded_numpy()
    if numpy is None or not arrays.is_awkward(value, numpy):
        try:
            data = pickle.dumps(value, 5, buffer_callback=callback)
            if not must_be_writable:
                return data, large
        except (pickle.PicklingError, TypeError, AttributeError):
            pass
        large.clear()
    # What a row returns is the caller's own: also a view of a common argument, which is read-only here.
    reducers: dict[type, Reducer] = {} if numpy is None else {numpy.ndarray: arrays.writable}
    return encode(value, reducers, keep_apart), large


def explain(
    argument: str, value: Any, error: BaseException, reducers: dict[type, Reducer] | None = None
) -> UnshareableArgument:
    """Return the error that names which part of an argument cannot travel, what it is, and what to do."""
    return UnshareableArgument.of(*explained(argument, value, error, reducers or {}))


def explained(
    argument: str, value: Any, error: BaseException, reducers: dict[type, Reducer]
) -> tuple[str, str, str]:
    """Return the path of the part that cannot travel, what it is, and what to do."""
    path, culprit, reason = _find_culprit(argument, value, error, reducers, 0)
    return path, *_diagnose(culprit, reason)


def travels(value: Any, reducers: dict[type, Reducer] | None = None) -> bool:
    """True if a value pickles."""
    return _why_not(value, reducers or {}) is None


def _why_not(value: Any, reducers: dict[type, Reducer]) -> BaseException | None:
    try:
        encode(value, reducers, lambda _raw: True)
    except Exception as error:  # any failure of any __reduce__ means just that
        return error
    return None


def _find_culprit(
    path: str, value: Any, error: BaseException, reducers: dict[type, Reducer], depth: int
) -> tuple[str, Any, BaseException]:
    # Deeper paths help nobody, and what is inside a manager or a file is not what its user knows it by.
    if depth < 8 and _known_kind(value) is None and getattr(error, "culprit", None) is not value:
        for name, part in _parts(path, value):
            reason = _why_not(part, reducers)
            if reason is not None:
                return _find_culprit(name, part, reason, reducers, depth + 1)
    return path, value, error


def _parts(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{path}[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"{path}[{k}]", part) for k, part in enumerate(value)]
    if isinstance(value, functools.partial):
        return [(f"{path}.func", value.func), (f"{path}.args", value.args), (f"{path}.keywords", value.keywords)]
    function = getattr(value, "__func__", value)
    code = getattr(function, "__code__", None)
    if code is not None:
        return _parts_of_function(path, function, code) + _self_of(path, value)
    kind: Any = type(value)
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        # What refuses by itself says why better than its parts do.
        return []
    state = getattr(value, "__dict__", None)
    return [(f"{path}.{name}", part) for name, part in state.items()] if isinstance(state, dict) else []


def _self_of(path: str, value: Any) -> list[tuple[str, Any]]:
    owner = getattr(value, "__self__", None)
    return [] if owner is None else [(f"{path}.__self__", owner)]


def _parts_of_function(path: str, function: Any, code: Any) -> list[tuple[str, Any]]:
    parts = [(f"the default {k} of {path}", default) for k, default in enumerate(function.__defaults__ or ())]
    parts += [(f"the default of {name!r} of {path}", value) for name, value in (function.__kwdefaults__ or {}).items()]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        # A cell of something that is defined further down is empty.
        with contextlib.suppress(ValueError):
            parts.append((f"the closure variable {name!r} of {path}", cell.cell_contents))
    named = [name for name in _names_in(code) if name in function.__globals__]
    return parts + [(f"the global {name!r} used by {path}", function.__globals__[name]) for name in named]


def _names_in(code: Any) -> list[str]:
    """Return the names that a function uses, those of the functions inside it too."""
    inside = [name for const in code.co_consts if hasattr(const, "co_names") for name in _names_in(const)]
    return list(dict.fromkeys([*code.co_names, *inside]))


def _known_kind(value: Any) -> tuple[str, str] | None:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in ("_thread.lock", "_thread.RLock") or (name.startswith("threading.") and name in _THREADING):
        return f"a threading lock ({name})", "threads of another process cannot share it: use one of multiprocessing"
    if any(base.__module__ == "multiprocessing.managers" and base.__name__ == "BaseManager" for base in kind.__mro__):
        return "a multiprocessing manager", "pass the proxies that it made (manager.list(), ...), not the manager"
    if kind.__module__ in _INHERITED:
        what = f"a multiprocessing {kind.__qualname__}, which a process must be given when it starts"
        return what, "pass it as an argument, not inside of something that pickles itself"
    if name == "builtins.generator":
        return "a generator", "pass list(...) of it"
    if name == "socket.socket":
        return "a socket", "pass the address, and connect in the function"
    return None


_THREADING = frozenset(
    f"threading.{name}" for name in ("Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "_RLock")
)


_INHERITED = frozenset(f"multiprocessing.{name}" for name in ("synchronize", "queues", "connection", "sharedctypes"))


def _diagnose(culprit: Any, error: BaseException) -> tuple[str, str]:
    known = _known_kind(culprit)
    if known is not None and getattr(error, "culprit", None) is not culprit:
        return known
    if isinstance(error, Refused):
        return error.what, error.advice
    kind = type(culprit)
    name = f"{kind.__module__}.{kind.__qualname__}"
    reason = f"which does not pickle ({type(error).__name__}: {error})"
    return f"a {name}, {reason}", "pass plain data, or what to make it from"
