"""The call buffer: calls that wait, one result an operator, failures that nobody has fetched.

What becomes public when, for call n of operator o (the ring's table has the words)::

    any function     STARTED; it runs; results[o] = result      or failures[n]; results[o] deleted; DONE
    a method of an   STARTED; it runs; results[o] = result; then the commit of what it has changed and of the
    xmem_object      number n, by one store; DONE               or failures[n]; results[o] deleted; DONE

So who finds n STARTED after a death knows: of a method, whether it was done (the object's number says so), and if not,
that it has changed nothing: it is run. Of anything else, nothing: failures[n] says GuardDied. Where failures[n] stands
already, it has failed: what is left is the result of a call before it, which nobody shall take for its own.
"""

from __future__ import annotations

import pickle
import struct
import time
import weakref
from typing import Any

from XME._containers.shared_dict import xmem_dict
from XME._core.handles import living
from XME._manager import calls
from XME._manager.calls import Method
from XME._manager.ring import (
    APPENDED,
    BODY_BYTES,
    DONE,
    PARCEL,
    STARTED,
    W_BROKEN,
    W_SETTLED,
    W_STARTED_AT,
    W_STARTED_WHEN,
    W_STARTS,
    Ring,
)
from XME._store import keys, restoring
from XME.errors import GuardDied, MutexError

_NUMBER = struct.Struct("<Q")
_MASK = (1 << 64) - 1
# So many guards in a row may die before one call is settled.
_FUTILE_STARTS = 8
_SOON_S = 10
_all: weakref.WeakSet[CallBuffer] = weakref.WeakSet()


class CallBuffer:
    """The call buffer as one process sees it.

    Attributes:
        ring: the calls that wait.
        results: for each operator's key, the result of his last call; nothing if that one failed.
        failures: for each call that failed, its operator, name and exception, until they are fetched.
    """

    def __init__(self, ring: Ring, results: xmem_dict, failures: xmem_dict, parcels: xmem_dict, tag: bytes) -> None:
        self.ring = ring
        self.results = results
        self.failures = failures
        self._parcels = parcels
        # Says in an object whose number its last one is.
        self._tag = tag
        self._keys: dict[Any, tuple[bytes, int]] = {}
        self._is_running = False
        _all.add(self)

    # -- callers ---------------------------------------------------------------------------------------------------

    def key_of(self, operator: Any) -> tuple[bytes, int]:
        """Return an operator's key and its hash; TypeError if it has none."""
        # Of other types, two that are equal may not be one: 1 and True.
        known = self._keys.get(operator) if type(operator) is str else None
        if known is not None:
            return known
        key = keys.canonical(operator)
        found = key, keys.stable_hash(key)
        if type(operator) is str:
            if len(self._keys) > 1000:
                self._keys.clear()
            self._keys[operator] = found
        return found

    def append(self, function: Any, operator: Any, kwargs: dict[str, Any]) -> int:
        """Append a call and return its number; see Ring.append."""
        token = calls.encode_function(function)
        key, hashed = self.key_of(operator)
        data = calls.encode_keywords(kwargs)
        body = token + key + data
        if len(body) <= BODY_BYTES:
            lengths = len(token) | len(key) << 16 | len(data) << 32
            return self.ring.append(hashed & _MASK, lengths, body, None)
        return self.ring.append(hashed & _MASK, PARCEL, b"", self._parcels, pickle.dumps((token, key, data), 5))

    def last_of(self, operator: Any) -> int:
        """Return the number of an operator's last call that is not done; 0 if there is none."""
        _, hashed = self.key_of(operator)
        ring = self.ring
        words = ring.words
        for number in reversed(ring.pending()):
            at = ring.at(number)
            if words[at + 2] == hashed & _MASK and words[at] >> 2 == number:
                return number
        return 0

    def result_of(self, operator: Any) -> bytes | None:
        """Return the result of an operator's last call as its pickle; None if there is none, or if that call failed.

        Who also wants the failures takes them after this: a result that is gone is one whose failure stands there.
        """
        found: bytes | None = self.results.get(self.key_of(operator)[0])
        return found

    def take_failures(self, operator: Any = None) -> list[tuple[int, str, Exception]]:
        """Take out what has failed, of one operator or (None) of all: (number, name, exception), in order."""
        if not self.failures:
            return []
        key = None if operator is None else self.key_of(operator)[0]
        # All or none: what is taken out and not returned, because of a Ctrl-C or of the next, nobody would hear of.
        with self.failures.atomic():
            found = []
            for number, data in sorted(self.failures.items()):
                owner, name, error = calls.decode_failure(data)
                if key is None or owner == key:
                    del self.failures[number]
                    found.append((number, name, error))
        return found

    def waiting(self) -> list[tuple[Any, Any, dict[str, Any]]]:
        """Return the calls that are not done: (function, operator, keywords)."""
        found = []
        for number in self.ring.pending():
            call = self._read(number)
            if call is not None:
                token, key, data = call
                function = calls.decode_function(token)
                if type(function) is Method:
                    function = getattr(function.numbered.core.handle(), function.function.__name__)
                found.append((function, restoring.restore(key), pickle.loads(data)))
        return found

    def operators(self) -> dict[Any, Any]:
        """Return the kept result of each operator."""
        return {restoring.restore(key): pickle.loads(data) for key, data in self.results.items()}

    def _read(self, number: int) -> tuple[bytes, bytes, bytes] | None:
        """Return a call's function, operator and keywords; None if it is done."""
        ring = self.ring
        at = ring.at(number)
        lengths = ring.words[at + 3]
        if lengths & PARCEL:
            parcel = self._parcels.get(number)
            call = None if parcel is None else pickle.loads(parcel)
        else:
            first = 8 * at + 32
            second = first + (lengths & 0xFFFF)
            third = second + (lengths >> 16 & 0xFFFF)
            data = ring._data
            call = bytes(data[first:second]), bytes(data[second:third]), bytes(data[third : third + (lengths >> 32)])
        # Another call may have its slot meanwhile.
        return call if ring.words[at] >> 2 == number and not ring.is_done(number) else None

    # -- who runs them ---------------------------------------------------------------------------------------------

    def run(self, limit: int) -> list[tuple[int, Any]]:
        """Run up to `limit` calls that wait, in order, and return (number, result) of those that succeeded.

        Raises:
            MutexError: this thread is in the middle of a call of the buffer.
            KeyboardInterrupt: a call was interrupted; it counts as failed.
        """
        ring = self.ring
        if ring.running.held:
            msg = "a call that the buffer runs cannot run the next one: let the guard go on"
            raise MutexError(msg)
        done: list[tuple[int, Any]] = []
        words = ring.words
        with ring.running:
            number = ring._settled()
            for _ in range(limit):
                number += 1
                at = ring.slots_at + number % ring.slots * 32
                word = words[at]
                if word >> 2 != number:
                    break
                if word & 3 == APPENDED:
                    words[at] = number << 2 | STARTED
                    self._run_one(number, done)
                else:
                    self._settle(number, done)
                self._finish(number, at)
        return done

    def _finish(self, number: int, at: int) -> None:
        ring = self.ring
        words = ring.words
        has_parcel = words[at + 3] & PARCEL
        words[at] = number << 2 | DONE
        waiter = words[at + 1]
        words[W_SETTLED] = number
        if waiter:
            ring.post(waiter)
        if has_parcel:
            self._parcels.pop(number, None)

    def _run_one(self, number: int, done: list[tuple[int, Any]]) -> None:
        call = self._read(number)
        assert call is not None  # it is STARTED, by this thread
        token, key, data = call

        def keep(result: Any) -> None:
            encoded = calls.encode_result(result)
            # A look is cheaper than a change.
            if self.results.get(key) != encoded:
                self.results[key] = encoded

        try:
            function = calls.decode_function(token)
            kwargs = pickle.loads(data)
            if type(function) is Method:
                result = function.numbered.call(function.function, kwargs, self._tag + _NUMBER.pack(number), keep)
            else:
                result = function(**kwargs)
                keep(result)
            done.append((number, result))
        except BaseException as error:
            # A Ctrl-C may strike behind the commit.
            if not self._was_done(token, number):
                self._fail(number, key, calls.name_of(token), error)
            if isinstance(error, KeyboardInterrupt):
                # Settled first: it is not to be taken for a dead one's.
                self._finish(number, self.ring.at(number))
                raise

    def _was_done(self, token: bytes, number: int) -> bool:
        if token[:1] != calls.METHOD:
            return False
        try:
            last = calls.decode_function(token).numbered.last()
        except Exception:  # the object may be gone, and this is called for the error that says so
            return False
        return bool(last == self._tag + _NUMBER.pack(number))

    def _fail(self, number: int, key: bytes, name: str, error: BaseException) -> None:
        if number not in self.failures:
            self.failures[number] = calls.encode_failure(key, name, error)
        self._drop_result(key)

    def _drop_result(self, key: bytes) -> None:
        # A look is cheaper than a change.
        if key in self.results:
            self.results.pop(key, None)

    def _settle(self, number: int, done: list[tuple[int, Any]]) -> None:
        """Settle a call that a dead one, or one that was interrupted, has started."""
        call = self._read(number)
        assert call is not None  # it is STARTED, and nobody else may end it
        token, key, _ = call
        if number in self.failures:
            self._drop_result(key)
            return
        try:
            function = calls.decode_function(token)
            if type(function) is Method:
                last = function.numbered.last()
                if not last or last[: len(self._tag)] == self._tag:
                    if last != self._tag + _NUMBER.pack(number):
                        self._run_one(number, done)
                    return
        except Exception as error:  # the object may be gone
            self._fail(number, key, calls.name_of(token), error)
            return
        name = calls.name_of(token)
        self._fail(number, key, name, GuardDied.of(number, name, _text_of(key)))

    # -- guards ----------------------------------------------------------------------------------------------------

    def begin_guard(self) -> None:
        """Count a guard that begins; RuntimeError if too many died before they had settled a call."""
        ring = self.ring
        words = ring.words
        with ring.running:
            settled = ring._settled()
            now = int(time.monotonic())
            # Those that were killed now and then while there was nothing to do are no sign of anything.
            is_soon = now - words[W_STARTED_WHEN] < _SOON_S
            starts = words[W_STARTS] + 1 if words[W_STARTED_AT] == settled and is_soon else 1
            words[W_STARTED_AT], words[W_STARTS], words[W_STARTED_WHEN] = settled, starts, now
            self.clear_parcels()
            if starts > _FUTILE_STARTS:
                words[W_STARTS] = 0
                words[W_BROKEN] = 1
                msg = f"{starts - 1} guards in a row died before they had run one call: look at the guard's script"
                raise RuntimeError(msg)
            # Its predecessor may have given up.
            words[W_BROKEN] = 0

    def end_guard(self) -> None:
        """Count no more: it has ended in order."""
        self.ring.words[W_STARTS] = 0

    def clear_parcels(self) -> None:
        """Let go of parcels whose callers died before their calls were appended."""
        for number in list(self._parcels):
            if self.ring.is_done(number):
                self._parcels.pop(number, None)

    def on_fork(self) -> None:
        """Become the child's."""
        self.ring.forget()


def _text_of(key: bytes) -> str:
    """Return how messages call an operator; what it is made of may be unknown here."""
    try:
        return str(restoring.restore(key))
    except Exception:  # importing its class may raise anything
        return repr(key)


def after_fork_in_child() -> None:
    """Let every buffer become the child's."""
    for buffer in living(_all):
        buffer.on_fork()

