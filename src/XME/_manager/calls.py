"""Calls as bytes: what is called, with which keywords, and what came of it.

A method of a shared object travels as the object's name and the method's (``x`` and a pickle of the two), everything
else as a pickle (``p``), functions of ``__main__`` and lambdas by value.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
import types
from collections.abc import Mapping
from typing import Any

from XME._containers.object_class import CORE, core_of, find
from XME._containers.object_core import Core
from XME._containers.object_numbered import Numbered
from XME._containers.shared_object import xmem_object
from XME._store import codec
from XME.errors import RemoteError, UnshareableArgument, WorkerTraceback

METHOD, OTHER = b"x", b"p"
# The bytes of methods by object and name, so that each is pickled once.
_tokens: dict[tuple[str, int, str], bytes] = {}
# What was made of them here.
_methods: dict[bytes, Method] = {}
_KEPT = 4096
_NONE = pickle.dumps(None, 5)


class Method:
    """A method of a shared object, ready to be called with numbers."""

    __slots__ = ("function", "name", "numbered")

    def __init__(self, handle: Any, name: str) -> None:
        core = handle._xmem_core
        self.numbered = Numbered(core)
        self.function = find(core._shape.cls, name)
        self.name = f"{core._shape.cls.__qualname__}.{name}"


def encode_function(function: Any) -> bytes:
    """Return what is called as bytes.

    Raises:
        TypeError: it cannot be called.
        UnshareableArgument: it does not pickle.
    """
    if type(function) is types.MethodType:
        core = _core(function.__self__)
        if core is not None:
            key = core.domain.id, core.serial, function.__name__
            token = _tokens.get(key)
            if token is None:
                token = _token(core, function)
                if len(_tokens) >= _KEPT:
                    _tokens.clear()
                _tokens[key] = token
            return token
    if not callable(function):
        msg = f"append() takes a function and its keywords, not {function!r}"
        raise TypeError(msg)
    return OTHER + _encode("the function", function)


def _core(owner: Any) -> Core | None:
    kind = type(owner)
    if issubclass(kind, xmem_object):
        return owner._xmem_core  # type: ignore[no-any-return] # a handle's
    return core_of(owner) if CORE in kind.__dict__ else None


def _token(core: Core, function: Any) -> bytes:
    name = function.__name__
    if not isinstance(find(core._shape.cls, name), types.FunctionType):
        return OTHER + _encode("the function", function)
    return METHOD + pickle.dumps((core.handle(), name), 5)


def decode_function(token: bytes) -> Any:
    """Return what is called: a Method, or a callable."""
    if token[:1] != METHOD:
        return pickle.loads(token[1:])
    method = _methods.get(token)
    if method is None:
        if len(_methods) >= _KEPT:
            _methods.clear()
        method = _methods[token] = Method(*pickle.loads(token[1:]))
    return method


def forget() -> None:
    """Let go of all objects whose methods were called here."""
    _methods.clear()
    _tokens.clear()


def name_of(token: bytes) -> str:
    """Return how messages call what is called."""
    try:
        function = decode_function(token)
    except Exception as error:  # unpickling a function may raise anything
        return f"a function that cannot be made here ({type(error).__name__}: {error})"
    if type(function) is Method:
        return function.name
    return str(getattr(function, "__qualname__", None) or repr(function))


def encode_keywords(kwargs: Mapping[str, Any]) -> bytes:
    """Return the keywords as bytes.

    Raises:
        UnshareableArgument: one of them does not pickle.
    """
    if all(map(codec.is_simple, kwargs.values())):
        return pickle.dumps(kwargs, 5)
    return _encode("the keywords", kwargs)


def encode_result(value: Any) -> bytes:
    """Return a result as bytes; TypeError if it does not pickle."""
    if value is None:
        return _NONE
    return pickle.dumps(value, 5) if codec.is_simple(value) else _encode("the result", value)


def _encode(what: str, value: Any) -> bytes:
    try:
        return codec.encode(value)
    except UnshareableArgument:
        raise
    except Exception as error:
        raise codec.explain(what, value, error) from error


# -- failures ----------------------------------------------------------------------------------------------------------


def encode_failure(key: bytes, name: str, error: BaseException) -> bytes:
    """Return a failed call's operator, name and exception as bytes."""
    text = "".join(traceback.format_exception(error)).rstrip()
    stand_in = _stand_in(error)
    pickled = b""
    try:
        plain = error.with_traceback(None)
        plain.__context__ = None
        if isinstance(plain, Exception):
            pickled = codec.encode(plain)
            # Does it survive the journey?
            pickle.loads(pickled)
    except Exception:  # many exceptions do not pickle, or not back
        pickled = b""
    return pickle.dumps((key, name, pickled, stand_in, text), 5)


def _stand_in(error: BaseException) -> RemoteError:
    try:
        said = str(error)
    except Exception:  # a __str__ may raise anything
        said = "its __str__ fails"
    return RemoteError.of(type(error).__qualname__, said)


def decode_failure(data: bytes) -> tuple[bytes, str, Exception]:
    """Return a failed call's operator, name, and exception with its traceback as the cause."""
    key, name, pickled, error, text = pickle.loads(data)
    if pickled:
        # Its class may be nowhere in this program; and this may be somebody else's failure, who is only passed by.
        with contextlib.suppress(Exception):
            own = pickle.loads(pickled)
            error = own if isinstance(own, Exception) else error
    error.__cause__ = WorkerTraceback(f"\n{text}")
    return key, name, error
