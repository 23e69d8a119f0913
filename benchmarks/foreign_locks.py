"""Locks that others wrote, for `python -m XME locktest benchmarks.foreign_locks:NAME`; needs the extra `bench`.

docs/locks-of-others.md has what was found, with the commands.
"""

import multiprocessing

from XME.testing import adapt


def multiprocessing_lock():
    return multiprocessing.get_context("spawn").Lock()


def shared_memory_dict_lock():
    """The lock that guards every change of a SharedMemoryDict, as it is unless an environment variable is set."""
    from shared_memory_dict import lock

    return adapt(acquire=lambda _: lock._lock.acquire(), release=lock._lock.release, tries=False, waits=False)


def _ultradict(room):
    from UltraDict import UltraDict

    return UltraDict({}, name=room.name, buffer_size=1000, shared_lock=True, auto_unlink=False)


def ultradict_lock(room):
    """The lock of UltraDict(shared_lock=True), as `with ultra.lock:` takes it."""
    ultra = _ultradict(room)
    return adapt(ultra, acquire=_only_wait(ultra.lock.acquire), release=ultra.lock.release, tries=False, waits=False)


def ultradict_stealing(room):
    """The same with its way to survive a dead holder: `with ultra.lock(timeout=..., steal_after_timeout=True):`."""
    ultra = _ultradict(room)

    def take(_):
        while True:
            try:
                return ultra.lock.acquire(timeout=0.05, steal_after_timeout=True)
            except Exception as error:
                # It has no class of its own. The holder lives: a user who waits as long as it takes tries again.
                if "still alive" not in str(error):
                    raise

    return adapt(ultra, acquire=take, release=ultra.lock.release, tries=False, waits=False)


def _only_wait(take):
    return lambda _: take()


def remove_ultradict(room):
    """Unlink what the workers left: they were told not to, since the first to end would take it from the others."""
    from UltraDict import UltraDict

    UltraDict.unlink_by_name(room.name, ignore_errors=True)
    UltraDict.unlink_by_name(room.name + "_memory", ignore_errors=True)


def fasteners_read_write():
    """The lock for threads."""
    import fasteners

    return fasteners.ReaderWriterLock()


def fasteners_process_read_write(room):
    import fasteners

    return fasteners.InterProcessReaderWriterLock(room.path("a.lock"))


def fasteners_process(room):
    import fasteners

    return fasteners.InterProcessLock(room.path("a.lock"))


def portalocker_lock(room):
    import portalocker

    return portalocker.Lock(room.path("a.lock"), timeout=0.1)


def filelock_lock(room):
    import filelock

    return filelock.FileLock(room.path("a.lock"))


def soft_filelock(room):
    import filelock

    return filelock.SoftFileLock(room.path("a.lock"))
