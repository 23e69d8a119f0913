"""The room of one run: where its files are, and a name that nobody else has."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Room:
    """What ``make_lock`` may ask for: a folder and a name of this run's own, and who is asking.

    ``make_lock`` gets it if it wants an argument: one without a default, or one that is called `room`. All workers of a
    run get the same folder and name; the next run gets new ones. ``worker`` is -1 when the lock is made for all, in the
    program that runs the test.

    >>> Room("/tmp/x", "xt1", 0, 0).path("a.lock")
    '/tmp/x/a.lock'
    """

    folder: str
    name: str
    worker: int
    life: int

    def path(self, name: str) -> str:
        """Return the path of a file in the run's folder."""
        return os.path.join(self.folder, name)


def make_in(make_lock: Callable[..., Any], room: Room) -> Any:
    """Call ``make_lock``, with the room if it wants an argument."""
    try:
        parameters = inspect.signature(make_lock).parameters.values()
    except (TypeError, ValueError):
        return make_lock()
    return make_lock(room) if any(map(_is_the_room, parameters)) else make_lock()


def _is_the_room(parameter: inspect.Parameter) -> bool:
    # What has a default is an option of the lock's own, and ``*args`` is what classes have that take nothing.
    if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        return False
    return parameter.default is parameter.empty or parameter.name == "room"


def address_of(function: Callable[..., Any]) -> str | None:
    """Return ``module:name`` of a function that can be imported, else None."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or module == "__main__" or "<" in name or not name:
        return None
    address = f"{module}:{name}"
    try:
        # What is bound to an object, as multiprocessing.Lock is, has the name of something else.
        return address if find(address) == function else None
    except ValueError:
        return None


def find(address: str) -> Callable[..., Any]:
    """Import what ``module:name`` says.

    Raises:
        ValueError: it says nothing that can be imported and called.
    """
    module, _, name = address.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        msg = f"{address!r} cannot be imported ({error}): it must be MODULE:FUNCTION"
        raise ValueError(msg) from error
    except (Exception, SystemExit) as error:
        # What a module does when it is imported is its own; a script may even end there, with the code of a pass.
        msg = f"{address!r} cannot be imported: {module} raised {error!r}"
        raise ValueError(msg) from error
    if not callable(found):
        msg = f"{address!r} is no function"
        raise ValueError(msg)  # noqa: TRY004 - the text is wrong, whatever it names
    checked: Callable[..., Any] = found
    return checked
