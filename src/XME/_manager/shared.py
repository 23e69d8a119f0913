"""The shared parts of an XMEManager: value table, call buffer, lock and messages, made once and found by name."""

from __future__ import annotations

import os
import pickle
import threading
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

from XME._containers.shared_dict import xmem_dict
from XME._core import names, program, segment, shared_mutex
from XME._core.domain import Domain
from XME._core.semaphore import Semaphore
from XME._manager import buffer as buffers
from XME._manager import ring as rings
from XME._manager import unfetched
from XME._manager.buffer import CallBuffer
from XME._manager.builtin import Builtin, tree_of
from XME._manager.ring import W_BESIDE, Ring
from XME.Monitor import Monitor
from XME.Security import Security

STATUS, GUARD, XMEM = SYSTEM_KEYS = ("__STATUS__", "__GUARD__", "__XMEM__")


class Shared:
    """What all XMEManagers of one XME object have in common.

    Attributes:
        table: the value table; `status` and `guard` are two of its entries.
        buffer: the call buffer.
        security, monitor: the lock and the messages.
        tag: what the operators that it allocates begin with.
        lock, gfuns: the gfuns of this process whose functions run beside its guard, changed with the lock held.
    """

    def __init__(self, domain: Domain, ring: Ring, parts: dict[str, Any]) -> None:
        self.table: xmem_dict = parts["table"]
        self.status: xmem_dict = parts["status"]
        self.guard: xmem_dict = parts["guard"]
        self.security: Security = parts["security"]
        self.monitor: Monitor = parts["monitor"]
        self.tag: str = parts["tag"]
        self.ring = ring
        results, failures, parcels = parts["buffer"]
        self.buffer = CallBuffer(ring, results, failures, parcels, self.tag.encode())
        self.lock = threading.Lock()
        # Themselves, and not their number: after a Ctrl-C in between, that would be wrong for ever.
        self.gfuns: set[object] = set()
        self._domain = domain
        self._parts = parts
        self._work = parts["work"]

    def functions_done(self, gfun: object) -> None:
        """Tell the guard that no function of this gfun runs any more; may be said again."""
        with self.lock:
            self.gfuns.discard(gfun)
            self.ring.words[W_BESIDE] = len(self.gfuns)
        self.ring.wake()

    def __reduce__(self) -> Any:
        # The parts as bytes: who knows this one already needs none of them.
        domain, serial = self._domain, self.ring.segment.serial
        for number in (serial, self._work):
            domain.names.mark_handed(number)
        return attach, (domain.id, serial, pickle.dumps(self._parts, 5))


def create(values: Mapping[str, Any], slots: int = rings.SLOTS) -> Shared:
    """Make the parts, with a first content of the value table (some 2 ms).

    Args:
        values: the content.
        slots: how many calls may wait before append does.

    Raises:
        SharedMemoryFull: there is no room.
    """
    domain = program.program_domain()
    appending, running = shared_mutex.create(domain), shared_mutex.create(domain)
    work, semaphore = rings.new_semaphore(domain)
    block = rings.create(domain, slots)
    parts: dict[str, Any] = {
        "table": xmem_dict(values), "status": xmem_dict(), "guard": xmem_dict({"Status": True}),
        "buffer": (xmem_dict(), xmem_dict(), xmem_dict()), "security": (security := Security()),
        "monitor": Monitor(security), "appending": appending, "running": running, "work": work,
        "tag": f"<Operator::{uuid.uuid4().hex[:12]}",
    }  # fmt: skip
    shared = Shared(domain, Ring(domain, block, appending, running, semaphore), parts)
    _known[domain.id, block.serial] = shared
    # Finalizers unlink nothing; they leave word.
    weakref.finalize(shared, _note_drop, domain, (block.serial, work)).atexit = False
    unfetched.watch(shared, shared.buffer)
    return shared


def fill_in(shared: Shared, manager: Any) -> None:
    """Put the system's entries into the value table."""
    functions = {name: Builtin(manager, name) for name in tree_of(manager)}
    tree: dict[str, Any] = {}
    for name, function in functions.items():
        group, _, short = name.partition("::")
        tree.setdefault(group, {})[short] = function
    shared.table.update({STATUS: shared.status, GUARD: shared.guard, XMEM: xmem_dict({**tree, **functions})})


def _note_drop(domain: Domain, serials: tuple[int, ...]) -> None:
    for serial in serials:
        domain.names.note_drop(serial, always=True)


def attach(domain_id: str, serial: int, data: bytes) -> Shared:
    """Return this process's one object of some parts.

    Raises:
        ContainerGone: the XME object that they belong to was dropped.
        DomainEnded: its program has ended.
    """
    with _lock:
        shared = _known.get((domain_id, serial))
        if shared is None:
            domain = program.join(domain_id)
            block = segment.attach(domain, serial)
            parts = pickle.loads(data)
            work = Semaphore(names.name_of(domain_id, parts["work"]))
            shared = Shared(domain, Ring(domain, block, parts["appending"], parts["running"], work), parts)
            _known[domain_id, serial] = shared
        return shared


_known: weakref.WeakValueDictionary[tuple[str, int], Shared] = weakref.WeakValueDictionary()
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    rings.renew_lock()
    buffers.after_fork_in_child()
    unfetched.after_fork_in_child()
    for shared in list(_known.values()):
        # Its parent's gfuns are its parent's.
        shared.lock, shared.gfuns = threading.Lock(), set()


os.register_at_fork(after_in_child=_after_fork_in_child)
