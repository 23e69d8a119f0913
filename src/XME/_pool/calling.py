"""The calling convention: what a caller gave, bound to a function's signature once a call, before anything starts.

Every rule is applied here and nowhere else:

1. ``calnum=n`` is the number of rows, unless the function itself has a parameter of that name.
2. ``kwargs={...}`` for a parameter ``**kwargs`` is merged into the keywords.
3. ``print``, ``logobj`` and ``XMEManager`` are given to functions that name them, unless the caller gave his own.
4. What is missing, unknown or given twice is Python's own TypeError, raised by Python, under the function's name.
5. Of a function with ``*args`` and keyword-only parameters, the values that were given or injected come by name and
   are appended to ``args`` in the order of the signature; defaults never are. ``calling="python"`` turns that off.
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from XME.ArrayOperator import Array, Entry, Injected, count_rows, name_of
from XME.errors import CallingWarning

# The names that XME gives to functions; the manual once spells the manager in another way.
INJECTABLE: Final[dict[str, Injected]] = {
    "print": Injected.PRINT,
    "logobj": Injected.LOGOBJ,
    "XMEManager": Injected.MANAGER,
    "XMEManger": Injected.MANAGER,
}

_UNSET: Final = object()
_STARS: Final[dict[Any, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_PACKAGE: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_warned: weakref.WeakSet[Any] = weakref.WeakSet()

_Parameters = list[inspect.Parameter]


def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], calling: str = "xme") -> Entry:
    """Bind one call; a :class:`Binder` does it faster for the next calls of the same function.

    >>> bind(lambda a, print=print: a, (Array(range(3)),), {})  # doctest: +ELLIPSIS
    Entry(function=<...>, args=(<Array over a range of 3>,), kwargs={'print': <Injected.PRINT: 'print'>}, rows=3)
    """
    return Binder(function, calling).bind(args, kwargs)


def _parameters(function: Callable[..., Any]) -> _Parameters | None:
    """Give the parameters, or None for what has no signature (some functions written in C)."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None


def _source(parameters: _Parameters) -> str:
    parts: list[str] = []
    kinds = [parameter.kind for parameter in parameters]
    for i, parameter in enumerate(parameters):
        star_came = {parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY} & set(kinds[:i])
        if parameter.kind is parameter.KEYWORD_ONLY and not star_came:
            parts.append("*")
        default = "" if parameter.default is parameter.empty else "=_unset"
        parts.append(_STARS.get(parameter.kind, "") + parameter.name + default)
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.POSITIONAL_ONLY not in kinds[i + 1 :]:
            parts.append("/")
    return f"def stub({', '.join(parts)}): return locals()"


def _stub(parameters: _Parameters, name: str) -> Callable[..., dict[str, Any]] | None:
    """Make a function of the same signature that gives back what each parameter got.

    Calling it is the fastest way to bind, and its errors are Python's own words in every version of Python.
    """
    namespace: dict[str, Any] = {"_unset": _UNSET}
    try:
        # Only names of parameters get in here, and inspect.Parameter takes nothing but identifiers for a name.
        exec(_source(parameters), namespace)  # noqa: S102 - of our own text
    except SyntaxError:
        return None
    stub: Any = namespace["stub"]
    stub.__name__ = stub.__qualname__ = name
    return stub  # type: ignore[no-any-return] # it was made by exec


class _Wanted(NamedTuple):
    """A parameter that XME fills: its name, its place among the positional ones, and what it gets."""

    name: str
    place: int | None
    positional_only: bool
    marker: Injected


class Binder:
    """A function's signature, looked at once; ``bind`` then costs a few microseconds a call.

    :param calling: "xme" for the manual's convention, "python" to leave ``*args`` as the caller wrote them.

    >>> binder = Binder(lambda *args, a1=None: None, "python")
    >>> binder.bind((0, Array("ab")), {"a1": 1}).call(1)
    ((0, 'b'), {'a1': 1})
    """

    def __init__(self, function: Callable[..., Any], calling: str = "xme") -> None:
        self.function = function
        self.name = name_of(function)
        parameters = _parameters(function)
        self._call = None if parameters is None else _stub(parameters, self.name)
        self._sort(parameters or [])
        # A function written in C has no code that would take appended values off again.
        in_python = not inspect.isbuiltin(function)
        self._appends = bool(calling == "xme" and self._star and self._by_name and in_python)

    def _sort(self, parameters: _Parameters) -> None:
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = [parameter for parameter in parameters if parameter.kind not in variable]
        self._positional = [parameter for parameter in named if parameter.kind is not parameter.KEYWORD_ONLY]
        self._by_name = [parameter.name for parameter in named if parameter.kind is parameter.KEYWORD_ONLY]
        self._star = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._double_star = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._calnum_is_ours = all(parameter.name != "calnum" for parameter in named)
        places = {parameter.name: place for place, parameter in enumerate(self._positional)}
        self._wanted = [
            _Wanted(p.name, places.get(p.name), p.kind is p.POSITIONAL_ONLY, INJECTABLE[p.name])
            for p in named
            if p.name in INJECTABLE
        ]

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Entry:
        """Bind one call.

        :raises TypeError: in Python's words, if arguments are missing, unknown or given twice.
        :raises ValueError: if the Arrays or ``calnum`` contradict each other.
        """
        keywords = dict(kwargs)
        calnum = _checked_calnum(keywords.pop("calnum", None)) if self._calnum_is_ours else None
        if self._double_star is not None and self._double_star in keywords:
            self._merge(self._double_star, keywords)
        if self._call is not None:
            args = self._bind_signature(self._call, args, keywords)
        return Entry(self.function, args, keywords, count_rows(args, keywords, calnum))

    def _bind_signature(
        self, call: Callable[..., dict[str, Any]], args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[Any, ...]:
        if not self._appends:
            if self._wanted:
                args = self._inject(args, keywords)
            call(*args, **keywords)
            return args
        given = set(keywords)
        args = self._inject(args, keywords)
        return self._append(args, keywords, call(*args, **keywords), given)

    def _merge(self, name: str, keywords: dict[str, Any]) -> None:
        value = keywords[name]
        if isinstance(value, Array) and len(value) and isinstance(value.row(0), Mapping):
            message = f"{self.name}() cannot split {name}=: give each keyword an Array of its own instead"
            raise TypeError(message)
        if not isinstance(value, Mapping):
            return
        del keywords[name]
        for key, item in value.items():
            if not isinstance(key, str):
                message = f"{self.name}() keywords must be strings, and {name}= has the key {key!r}"
                raise TypeError(message)
            if key in keywords:
                message = f"{self.name}() got multiple values for keyword argument '{key}'"
                raise TypeError(message)
            keywords[key] = item

    def _inject(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        for name, place, positional_only, marker in self._wanted:
            if (place is not None and place < len(args)) or (name in keywords and not positional_only):
                continue
            if place is not None and positional_only:
                args = self._inject_at(place, marker, args)
            else:
                keywords[name] = marker
        return args

    def _inject_at(self, place: int, marker: Injected, args: tuple[Any, ...]) -> tuple[Any, ...]:
        between = [parameter.default for parameter in self._positional[len(args) : place]]
        # A required parameter in between is missing, and the call of the stub says so.
        return args if inspect.Parameter.empty in between else (*args, *between, marker)

    def _append(
        self, args: tuple[Any, ...], keywords: dict[str, Any], bound: dict[str, Any], given: set[str]
    ) -> tuple[Any, ...]:
        values = {name: bound[name] for name in self._by_name if bound[name] is not _UNSET}
        if not values:
            return args
        if own := given & values.keys():
            self._warn(sorted(own, key=self._by_name.index))
        # What stands before *args must come by position, else the appended values would land there.
        first = [p.default if bound[p.name] is _UNSET else bound[p.name] for p in self._positional]
        for parameter in self._positional:
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                keywords.pop(parameter.name, None)
        return (*first, *bound[str(self._star)], *values.values())

    def _warn(self, names: list[str]) -> None:
        try:
            if self.function in _warned:
                return
            _warned.add(self.function)
        except TypeError:
            pass
        message = (
            f"{self.name}() has *{self._star} and keyword-only parameters, so {', '.join(names)} came by name and "
            f'was also appended to {self._star}, as the manual has it; XME.XME(..., calling="python") turns that off'
        )
        warnings.warn(message, CallingWarning, stacklevel=_depth_of_caller())


def _checked_calnum(calnum: Any) -> int | None:
    if calnum is None:
        return None
    if isinstance(calnum, bool) or not hasattr(calnum, "__index__"):
        message = f"calnum is a number of rows, not {calnum!r}"
        raise TypeError(message)
    count = operator.index(calnum)
    if count < 0:
        message = f"calnum is a number of rows, 0 or more, not {count}"
        raise ValueError(message)
    return count


def _depth_of_caller() -> int:
    """Give the stacklevel (seen from the caller of this) of the first frame that is not XME's own."""
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE):
        frame, depth = frame.f_back, depth + 1
    return depth
