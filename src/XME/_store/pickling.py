"""Pickles of what containers hold: the plain C pickler wherever it does, cloudpickle for the rest.

Arrays go out of band, whatever their class, strides and dtype are, so that they come back as read-only as their buffer
is. Functions of ``__main__`` travel by value. So do its classes, but a process that has the same class in its own
``__main__`` uses that: there isinstance, ``==`` of dataclasses and class attributes are as their author expects.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from copyreg import dispatch_table
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from XME._store import arrays, codec
from XME.errors import XMEError

_KeepApart = Callable[[memoryview], bool]
_Result = TypeVar("_Result")

_MAINS = ("__main__", "__mp_main__")
# So many types are remembered; then it begins again, so that classes made on the fly can go.
_REMEMBERED = 1000
_usual_way = methodcaller("__reduce_ex__", 5)


# What is collecting in this context; a call's own, so that it ends with the call, whatever ends that.
_children: ContextVar[list[Any] | None] = ContextVar("children", default=None)


def collected(children: list[Any], function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function; `children` gets every shared container that it pickles."""
    # Not set and set back by hand: a Ctrl-C between would leave the thread collecting for ever.
    return copy_context().run(_collecting, children, function, arguments)


def _collecting(children: list[Any], function: Callable[..., _Result], arguments: tuple[Any, ...]) -> _Result:
    _children.set(children)
    return function(*arguments)


def met(container: Any) -> None:
    """Say that a shared container is being pickled; every container's ``__reduce_ex__`` does."""
    children = _children.get()
    if children is not None:
        children.append(container)


def is_collecting() -> bool:
    """True if what is pickled now goes into a shared container: plain arrays then come back read-only."""
    return _children.get() is not None


def get(module: str, name: str) -> Any:
    """Return what a module has under a dotted name, importing it; ImportError or AttributeError if there is none."""
    return attrgetter(name)(sys.modules.get(module) or importlib.import_module(module))


def found(module: str, name: str) -> Any:
    """Return what a loaded module has under a dotted name, or None."""
    try:
        return attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None


def dumps(value: Any, keep_apart: _KeepApart) -> bytes:
    """Pickle a value.

    Args:
        value: anything.
        keep_apart: gets each buffer, in order; the bytes refer to those for which it says True.

    Raises:
        pickle.PicklingError, TypeError, AttributeError, ...: the value does not pickle.
    """
    if len(dispatch_table) != _table.registered:
        _table.clear()
        _table.registered = len(dispatch_table)
    file = io.BytesIO()
    _Pickler(file, 5, buffer_callback=lambda buffer: not keep_apart(buffer.raw())).dump(value)
    data = file.getvalue()
    if b"__main__" in data or b"__mp_main__" in data:
        msg = "it names something of __main__"
        raise pickle.PicklingError(msg)
    return data


def dumps_anyway(value: Any, keep_apart: _KeepApart) -> bytes:
    """Pickle a value that `dumps` has refused, slowly and with all that cloudpickle can do."""
    return codec.encode(value, reducers(), keep_apart)


def dumps_whole(value: Any) -> bytes:
    """Pickle a value with all its buffers."""
    try:
        return dumps(value, _keep_nothing)
    except XMEError:
        raise
    except Exception:
        return dumps_anyway(value, _keep_nothing)


def _keep_nothing(_raw: memoryview) -> bool:
    return False


def reducers() -> dict[type, codec.Reducer]:
    """Return how cloudpickle is to pickle arrays and classes."""
    numpy = arrays.loaded_numpy()
    ours: dict[type, codec.Reducer] = {type: _main_class}
    if numpy is not None:
        ours[numpy.ndarray] = arrays.read_only
    return ours


def reduce_array(array: Any) -> Any:
    """Reduce an array so that it comes back read-only."""
    reduced = arrays.read_only(array)
    return array.__reduce_ex__(5) if reduced is NotImplemented else reduced


class _Table(dict[type, Callable[[Any], Any]]):
    """For the C pickler: how the objects of a type are reduced."""

    # How many types copyreg had ways for when this was begun.
    registered = 0

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        numpy = arrays.loaded_numpy()
        if issubclass(kind, type):
            # A class goes by its name, as the C pickler does it for whom this table does not know.
            raise KeyError(kind)
        way = dispatch_table.get(kind)
        if way is None:
            way = reduce_array if numpy is not None and issubclass(kind, numpy.ndarray) else _usual_way
        if len(self) >= _REMEMBERED:
            self.clear()
        self[kind] = way
        return way


_table = _Table()


class _Pickler(pickle.Pickler):
    dispatch_table = _table


_by_value: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()


def _main_class(kind: Any) -> Any:
    if kind.__module__ not in _MAINS or found("__main__", kind.__qualname__) is not kind:
        return NotImplemented
    spelled = _by_value.get(kind)
    if spelled is None:
        # Once a class and process: it takes longer than all the rest.
        spelled = _by_value[kind] = codec.encode(kind)
    return _class_of_main, (kind.__qualname__, spelled)


def _class_of_main(name: str, spelled: bytes) -> Any:
    here = found("__main__", name)
    return here if isinstance(here, type) else pickle.loads(spelled)


_PLAIN = partial(codec.PLAIN_TYPES.issuperset)


def is_plain(value: Any) -> bool:
    """True if a value is a list, tuple, set or dict of plain ones, which pickle.dumps takes without any care."""
    kind = type(value)
    if kind is dict:
        return _PLAIN(map(type, value)) and _PLAIN(map(type, value.values()))
    return kind in _FLAT and _PLAIN(map(type, value))


_FLAT = frozenset({list, tuple, set, frozenset})
