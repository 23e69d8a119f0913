"""Exceptions as data, for rpc_server.py and rpc_client.py: a message has no classes in it, and nothing of it is run.

An exception of Python's own is rebuilt from its arguments, if these can be in a message; any other comes back as a
RemoteFailure with its class's name and its text.
"""

import builtins
import contextlib

from rpc_message import LARGEST

from XME.errors import XMEError
from XME.Monitor import marshal

# What takes more than a part of a message stays where it is.
_LARGEST_PART = LARGEST // 16
_LONGEST_TEXT = 10_000


class RemoteFailure(RuntimeError):
    """Stands for an exception that cannot be rebuilt here. Fields: ``kind``, the name of its class, and ``text``."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.text = kind, text


def packed(error):
    """Return an exception as a dict that can be in a message."""
    kind = type(error)
    try:
        text = str(error)[:_LONGEST_TEXT]
    except Exception:
        text = "its __str__ fails"
    found = {"kind": kind.__name__, "text": text}
    # A SystemExit ends no client, and a class of somebody's own is not known there.
    if not isinstance(error, Exception) or kind is not getattr(builtins, kind.__name__, None):
        return found
    _, arguments, *state = error.__reduce__()
    if isinstance(error, ExceptionGroup):
        found["members"] = [packed(member) for member in error.exceptions]
        arguments = (error.message,)
    parts = {"arguments": arguments, "state": state[0] if state else None}
    return found | {name: value for name, value in parts.items() if _travels(value)}


def _travels(value):
    try:
        marshal({"value": value}, key=bytes(32), max_size=_LARGEST_PART)
    except (XMEError, RecursionError):
        return False
    return True


def unpacked(data):
    """Return the exception."""
    kind = getattr(builtins, data["kind"], None)
    # It may refuse its arguments, and then its text is all that there is.
    with contextlib.suppress(Exception):
        if issubclass(kind, Exception):
            arguments = data["arguments"]
            if "members" in data:
                arguments = (*arguments, [unpacked(member) for member in data["members"]])
            error = kind(*arguments)
            error.__setstate__(data.get("state"))
            return error
    return RemoteFailure(data["kind"], data["text"])
