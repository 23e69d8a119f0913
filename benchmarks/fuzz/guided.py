"""Coverage-guided nonsense (atheris): bytes are chosen by what new lines of XME's code they reach.

The first byte of an input says what the rest is: packed messages, a compressed frame, or sealed bytes. The first two
are sealed with the right key.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import atheris

# What is read of a message is instrumented; this must come before it is imported.
with atheris.instrument_imports(include=["XME._monitor", "XME._containers.dtype_json", "XME.Monitor"]):
    from benchmarks.fuzz.messages import resident_bytes
    from benchmarks.fuzz.seeds import KEY, packed_seeds, sealed
    from XME.errors import BadMessage
    from XME.Monitor import Monitor

import zstandard

_PACKED, _FRAME, _SEALED = range(3)
# More than this is growth: what atheris itself keeps is a few megabytes of inputs.
_GROWTH_BYTES = 256 << 20

_facts: dict[str, float] = {"runs": 0, "taken": 0, "refused": 0, "began_bytes": 0, "began": 0.0}
_board = Monitor()
_to: Path | None = None


def _message_of(data: bytes) -> bytes:
    kind, rest = data[0] % 3, data[1:]
    if kind == _PACKED:
        return sealed(rest, 0, len(rest))
    if kind == _FRAME:
        return sealed(rest[2:], 1, int.from_bytes(rest[:2], "little"))
    return rest


def one_input(data: bytes) -> None:
    """Take or refuse one input; anything else ends the run with it."""
    if not data:
        return
    _facts["runs"] += 1
    try:
        _board.unmarshal(_message_of(data), key=KEY)
        _facts["taken"] += 1
    except BadMessage:
        _facts["refused"] += 1
    if len(_board):
        _board.delete()
    if _facts["runs"] == 10_000:
        _facts["began_bytes"] = resident_bytes()
    if _facts["runs"] % 10_000 == 0:
        _tell()
        if _facts["runs"] > 10_000 and resident_bytes() - _facts["began_bytes"] > _GROWTH_BYTES:
            msg = f"memory grows: {resident_bytes() >> 20} MB"
            raise AssertionError(msg)


def _tell() -> None:
    if _to is not None:
        grown = resident_bytes() - _facts["began_bytes"] if _facts["began_bytes"] else 0
        seconds = time.monotonic() - _facts["began"]
        _to.write_text(json.dumps({**_facts, "seconds": seconds, "grown_bytes": grown}))


def main() -> None:
    """Run for so many seconds: arguments are the corpus's folder, the seconds, the seed, and where to write facts."""
    global _to
    folder, seconds, seed, facts = sys.argv[1:5]
    _to = Path(facts)
    corpus = Path(folder)
    for number, packed in enumerate(packed_seeds()):
        corpus.joinpath(f"packed-{number}").write_bytes(bytes([_PACKED]) + packed)
        frame = len(packed).to_bytes(2, "little") + zstandard.compress(packed, 1)
        corpus.joinpath(f"frame-{number}").write_bytes(bytes([_FRAME]) + frame)
        corpus.joinpath(f"sealed-{number}").write_bytes(bytes([_SEALED]) + sealed(packed, 0, len(packed)))
    warnings.simplefilter("ignore")
    _facts["began"] = time.monotonic()
    options = [f"-max_total_time={seconds}", f"-seed={seed}", "-rss_limit_mb=3000", "-timeout=20", "-max_len=4096"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", folder], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
