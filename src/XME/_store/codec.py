"""Values become bytes and buffers: pickle 5 with its large buffers out of band, cloudpickle for what pickle refuses."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from XME.errors import UnshareableArgument

# Buffers below this many bytes are cheaper to copy than to keep apart.
LARGE_BYTES = 1 << 16

# What these hold is immutable and needs no care, so the plain C pickler may have them.
PLAIN_TYPES = frozenset({int, float, bool, str, bytes, complex, type(None)})

Reducer = Callable[[Any], Any]


def is_plain(values: tuple[Any, ...]) -> bool:
    """True if all values are of types that the plain pickler takes as they are."""
    return all(type(value) in PLAIN_TYPES for value in values)


@cache
def _encoder_class() -> type[Any]:
    # cloudpickle takes a while to import, and many workers never need it.
    import cloudpickle  # noqa: PLC0415

    class Encoder(cloudpickle.Pickler):  # type: ignore[misc] # its base is untyped
        """A pickler whose reducers for certain types are given by the caller."""

        def __init__(self, file: Any, reducers: dict[type, Reducer], buffer_callback: Any) -> None:
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)
            self._reducers = reducers

        def reducer_override(self, obj: Any) -> Any:
            reducer = self._reducers.get(type(obj))
            if reducer is not None:
                return reducer(obj)
            if isinstance(obj, io.IOBase) and obj not in (sys.stdout, sys.stderr, sys.stdin):
                raise _OpenFile(obj)
            return super().reducer_override(obj)

    return Encoder


class _OpenFile(pickle.PicklingError):
    """An open file was met; cloudpickle would silently send a copy of what it holds."""


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


def encode_result(value: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a result; returns the bytes and its large buffers, which are not copied yet."""
    large: list[memoryview] = []

    def keep_apart(raw: memoryview) -> bool:
        if raw.nbytes >= LARGE_BYTES:
            large.append(raw)
            return True
        return False

    try:
        data = pickle.dumps(value, 5, buffer_callback=lambda buffer: not keep_apart(buffer.raw()))
    except (pickle.PicklingError, TypeError, AttributeError):
        large.clear()
        data = encode(value, {}, keep_apart)
    return data, large


def explain(argument: str, value: Any, error: BaseException) -> UnshareableArgument:
    """Return the error that names which part of an argument cannot travel, what it is, and what to do."""
    path, culprit = _find_culprit(argument, value, 0)
    what, advice = _diagnose(culprit, error)
    return UnshareableArgument.of(path, what, advice)


def travels(value: Any) -> bool:
    """True if a value pickles."""
    try:
        encode(value, {}, lambda _raw: True)
    except Exception:  # noqa: BLE001 - any failure of any __reduce__ means just that
        return False
    return True


def _find_culprit(path: str, value: Any, depth: int) -> tuple[str, Any]:
    if depth < 8:  # noqa: PLR2004 - deeper paths help nobody
        for name, part in _parts(path, value):
            if not travels(part):
                return _find_culprit(name, part, depth + 1)
    return path, value


def _parts(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{path}[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"{path}[{k}]", part) for k, part in enumerate(value)]
    function = getattr(value, "__func__", value)
    code = getattr(function, "__code__", None)
    if code is not None:
        return _parts_of_function(path, function, code) + _self_of(path, value)
    state = getattr(value, "__dict__", None)
    return [(f"{path}.{name}", part) for name, part in state.items()] if isinstance(state, dict) else []


def _self_of(path: str, value: Any) -> list[tuple[str, Any]]:
    owner = getattr(value, "__self__", None)
    return [] if owner is None else [(f"{path}.__self__", owner)]


def _parts_of_function(path: str, function: Any, code: Any) -> list[tuple[str, Any]]:
    cells = zip(code.co_freevars, function.__closure__ or (), strict=False)
    parts = [(f"the closure variable {name!r} of {path}", cell.cell_contents) for name, cell in cells]
    named = (name for name in code.co_names if name in function.__globals__)
    return parts + [(f"the global {name!r} used by {path}", function.__globals__[name]) for name in named]


def _diagnose(culprit: Any, error: BaseException) -> tuple[str, str]:
    kind = type(culprit)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(culprit, io.IOBase):
        shown = getattr(culprit, "name", "")
        return f"an open file ({shown!r})", "pass its path, and open it in the function"
    if name in ("_thread.lock", "_thread.RLock"):
        return f"a threading lock ({name})", "threads of another process cannot share it: use multiprocessing.Lock()"
    if name.startswith("multiprocessing.managers.") and name.endswith("Manager"):
        return "a multiprocessing manager", "pass the proxies that it made (manager.list(), ...), not the manager"
    if name == "builtins.generator":
        return "a generator", "pass list(...) of it"
    return f"a {name}, which does not pickle ({type(error).__name__}: {error})", "pass plain data, or what to make it from"
