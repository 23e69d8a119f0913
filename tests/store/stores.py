"""Every store into shared memory, one by one: each is a point at which a process is killed, stalled or refused.

`watch` is for a forked child: it puts proxies in the place of all memoryviews of a domain and its containers, also of
those that are still to be made, and nothing takes them away again.
"""

import ctypes
import functools
import os

from XME._containers import list_quick, object_quick, opening
from XME._core import segment, semaphore
from XME._store import log

_TYPES = {"Q": ctypes.c_uint64, "I": ctypes.c_uint32, "B": ctypes.c_uint8}
# Called before every store with what it is, and before every look; set by `watch`.
_tell = None
_look = None


class _Watched:
    """A memoryview that tells of every store; as a ctypes array it gives its buffer to struct and numpy too."""

    def __getitem__(self, where):
        if _look is not None:
            _look()
        found = self.view[where]
        # Rows and mutexes are slices of words; bytes that are cut out are only read.
        return watched(found) if isinstance(where, slice) and self.view.itemsize == 8 else found

    def __setitem__(self, where, value):
        if not isinstance(where, slice):
            _tell(f"{self.view.format}[{where}]")
            self.view[where] = value
            return
        value = memoryview(value).cast("B")
        first = where.start or 0
        half = value.nbytes // 2
        _tell(f"{value.nbytes} bytes")
        self.view[first : first + half] = value[:half]
        if half:
            _tell("the other half")
        self.view[first + half : first + value.nbytes] = value[half:]

    def cast(self, code):
        return watched(self.view.cast("B").cast(code))

    def release(self):
        pass

    @property
    def nbytes(self):
        return self.view.nbytes


@functools.cache
def _type_for(code, length):
    return type("Watched", (_Watched, _TYPES[code] * length), {})


def watched(view):
    """Return a view of the same memory that tells of stores."""
    if isinstance(view, _Watched):
        return view
    made = _type_for(view.format, len(view)).from_buffer(view.cast("B"))
    made.view = view
    return made


def _watch_generation(generation):
    for name in ("words", "ints", "data"):
        setattr(generation, name, watched(getattr(generation, name)))


def _told(function, name):
    @functools.wraps(function)
    def told(*args, **kwargs):
        _tell(name)
        return function(*args, **kwargs)

    return told


def watch(domain, tell, look=None):
    """Let `tell(what)` be called before every store, ledger write, link, unlink and use of a semaphore from now on.

    And `look()` before every look at a word, if it is given.
    """
    global _look, _tell
    _tell = tell
    _look = look
    _watch_classes()
    for name in ("pwrite", "posix_fallocate", "link", "unlink"):
        setattr(os, name, _told(getattr(os, name), name))
    domain.words = watched(domain.words)
    for kind, (head, pack_into) in list_quick._NUMBERS.items():
        list_quick._NUMBERS[kind] = head, _told(pack_into, "a number")
    packer = object_quick._packer
    object_quick._packer = lambda form: _told(packer(form), "a number")
    for handle in list(opening._handles.values()):
        if handle.domain is domain:
            _watch_handle(handle)


def _watch_handle(handle):
    handle.map()
    handle.words = watched(handle.words)
    if handle._generation is not None:
        _watch_generation(handle._generation)
    if isinstance(handle, list_quick.Quick):
        # It keeps views of its own.
        handle._forget()
    elif isinstance(handle, object_quick.Quick):
        handle._forget_way()
        for entry in handle._entries.values():
            entry.ways.clear()
    mutex = handle.mutex
    if mutex._semaphore is not None:
        mutex._words = watched(mutex._words)
        mutex._grab = _told(mutex._grab, "semaphore taken")
        mutex._post = _told(mutex._post, "semaphore given")


def _watch_classes():
    make_generation, make_semaphore = log.Generation.__init__, semaphore.Semaphore.__init__
    words, data = segment.Segment.words, segment.Segment.data.fget

    def generation_made(self, data, keeper):
        make_generation(self, data.view if isinstance(data, _Watched) else data, keeper)
        _watch_generation(self)

    def semaphore_made(self, name):
        make_semaphore(self, name)
        self.acquire = _told(self.acquire, "semaphore taken")
        self.release = _told(self.release, "semaphore given")

    log.Generation.__init__ = generation_made
    semaphore.Semaphore.__init__ = semaphore_made
    segment.Segment.words = lambda self, *args: watched(words(self, *args))
    segment.Segment.data = property(lambda self: watched(data(self)))


def watch_numpy():
    """Let stores through numpy tell as well."""
    import numpy as np

    class Told(np.ndarray):
        def __setitem__(self, where, value):
            _tell("numpy")
            super().__setitem__(where, value)

    frombuffer = np.frombuffer

    def told(buffer, *args, **kwargs):
        found = frombuffer(buffer, *args, **kwargs)
        return found.view(Told) if isinstance(buffer, _Watched) else found

    np.frombuffer = told
