"""What goes wrong with sealed messages."""

from __future__ import annotations

from XME.errors._root import XMEError


class BadMessage(XMEError, ValueError):
    """Sealed bytes are no message that may be taken, and nothing was changed. Field: ``reason``."""

    reason: str

    @classmethod
    def of(cls, reason: str, advice: str = "take it for lost, and have it sent again") -> BadMessage:
        """Make the error from what is wrong with the bytes."""
        return cls(f"this message is refused, and nothing was changed: {reason}; {advice}", reason=reason)


class BadKey(XMEError, ValueError):
    """There is no usable key for messages. Fields: ``source`` (where it was looked for), ``reason``."""

    source: str
    reason: str

    @classmethod
    def of(cls, source: str, reason: str, advice: str) -> BadKey:
        """Make the error from where the key was looked for, what is wrong there, and what to do."""
        return cls(f"no key for messages: {source} {reason}; {advice}", source=source, reason=reason)


class UnsealableValue(XMEError, TypeError):
    """A value cannot be in a sealed message. Fields: ``where`` (the path to it), ``reason``."""

    where: str
    reason: str

    @classmethod
    def of(cls, where: str, what: str, advice: str) -> UnsealableValue:
        """Make the error from the path of the value, what it is, and what to do instead."""
        return cls(f"{where} cannot be in a sealed message: it is {what}; {advice}", where=where, reason=what)
