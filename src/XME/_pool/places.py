"""Where a call's large buffers go: the largest into segments of their own, the others together.

Every segment is a descriptor in this process (up to Python 3.12 a mapping keeps one), so a list of thousands of
arrays must not become thousands of segments.
"""

from __future__ import annotations

from XME._core import segment
from XME._pool.warm import WarmSegments
from XME._pool.wire import Buffer

# From here on a buffer gets a segment of its own, as long as there are few of them.
_OWN_BYTES = 1 << 22
_OWN_SEGMENTS = 32
# What is put together is put down when it is so much: until then copies of strided arrays are kept.
_TOGETHER_BYTES = 1 << 26
_ALIGNMENT = 64


class Places:
    """The segments of one call.

    Attributes:
        segments: them.
        nbytes: how many bytes were put there.
    """

    def __init__(self, warm: WarmSegments) -> None:
        self.segments: list[segment.Segment] = []
        self.nbytes = 0
        self._warm = warm
        self._later: list[tuple[memoryview, list[bytes | Buffer], int]] = []
        self._later_bytes = 0

    def put(self, raw: memoryview) -> Buffer:
        """Put bytes into a segment of their own, now."""
        used = self._warm.put([raw], [0], raw.nbytes)
        self.segments.append(used)
        self.nbytes += raw.nbytes
        return Buffer(used.serial, 0, raw.nbytes)

    def put_into(self, raw: memoryview, buffers: list[bytes | Buffer]) -> None:
        """Append a buffer to a list; what stands there is only true after the next `flush`."""
        if raw.nbytes >= _OWN_BYTES and len(self.segments) < _OWN_SEGMENTS:
            buffers.append(self.put(raw))
            return
        self._later.append((raw, buffers, len(buffers)))
        buffers.append(b"")
        self._later_bytes += -(-raw.nbytes // _ALIGNMENT) * _ALIGNMENT
        if self._later_bytes >= _TOGETHER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Put down what is to be put together."""
        if not self._later:
            return
        offsets, end = [], 0
        for raw, _, _ in self._later:
            offsets.append(end)
            end += -(-raw.nbytes // _ALIGNMENT) * _ALIGNMENT
        used = self._warm.put([raw for raw, _, _ in self._later], offsets, end)
        self.segments.append(used)
        for (raw, buffers, k), offset in zip(self._later, offsets, strict=True):
            buffers[k] = Buffer(used.serial, offset, raw.nbytes)
            self.nbytes += raw.nbytes
        self._later.clear()
        self._later_bytes = 0

    def unlink(self) -> None:
        """Give everything back: the call does not take place."""
        while self.segments:
            self.segments[-1].unlink()
            # The exception's traceback may live long, and with it whoever refers to the mapping.
            self.segments[-1].close()
            self.segments.pop()
