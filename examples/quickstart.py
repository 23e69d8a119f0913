"""Count the tokens of all of Python's own source on all cores, without pickling it.

    python examples/quickstart.py [FOLDER]

About 30 MB of source are read into one shared byte array. The workers get its name and claim file after file; each
reads its piece of the array in place. The speed-up is measured: a stated sample of the same files is counted by one
process and by the workers, and the times are compared.
"""

from __future__ import annotations

import argparse
import io
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import XME

NOT_PYTHON = -1


def count_tokens(source: Any, offsets: Any, number: int) -> int:
    """Count the tokens of file ``number``; runs in the workers."""
    text = source[offsets[number] : offsets[number + 1]].tobytes()
    try:
        return sum(1 for _ in tokenize.tokenize(io.BytesIO(text).readline))
    # The standard library's own tests contain files that are wrong on purpose.
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
        return NOT_PYTHON


def python_files(folder: Path) -> Iterator[Path]:
    """Find the source files below a folder, without what was installed later."""
    for path in folder.rglob("*.py"):
        if path.is_file() and not {"site-packages", "dist-packages"} & set(path.relative_to(folder).parts):
            yield path


def read_into_shared_memory(paths: list[Path]) -> tuple[Any, Any]:
    """Put all files behind each other into one shared array; returns it with the offset of each file, and the end."""
    texts = [path.read_bytes() for path in paths]
    offsets = np.cumsum([0, *map(len, texts)])
    source = XME.xmem_array((int(offsets[-1]),), dtype=np.uint8)
    for text, start in zip(texts, offsets[:-1], strict=True):
        source[start : start + len(text)] = np.frombuffer(text, dtype=np.uint8)
    return source, offsets


def timed(call: Any, *args: Any) -> tuple[Any, float]:
    """Return the call's result and how many seconds it took."""
    start = perf_counter()
    result = call(*args)
    return result, perf_counter() - start


def count_alone(source: Any, offsets: Any, numbers: list[int]) -> list[int]:
    """Do the same work in this process, for comparison."""
    return [count_tokens(source, offsets, number) for number in numbers]


def main() -> None:
    """Read, count, compare, and say what was found."""
    options = parse_options()
    # The large files first: what is left for the end is small, and all cores end together.
    paths = sorted(python_files(options.folder), key=lambda path: path.stat().st_size, reverse=True)
    if not paths:
        sys.exit(f"there are no Python files in {options.folder}")
    source, offsets = read_into_shared_memory(paths)
    with XME.XME(count_tokens, start_method=options.start_method) as xme:
        counts, seconds = timed(xme.fun, source, offsets, xme.Array(range(len(paths))))
        statistics = xme.statistics()
        sample = list(range(0, len(paths), options.sample))
        expected, alone_s = timed(count_alone, source, offsets, sample)
        found, together_s = timed(xme.fun, source, offsets, xme.Array(sample))
    if list(found) != expected:
        sys.exit("the workers counted differently from one process: this is a fault of XME, please report it")
    tokens, skipped = sum(count for count in counts if count != NOT_PYTHON), counts.count(NOT_PYTHON)
    compared = f"on {sampled(options.sample)}: {alone_s:.2f} s alone, {together_s:.2f} s together"
    print(f"files     {len(paths):,} in {options.folder} ({skipped} of them do not tokenise)")
    print(f"bytes     {source.nbytes:,} in one shared array")
    print(f"tokens    {tokens:,} in {seconds:.2f} s by {xme.pnum} workers: {tokens / seconds:,.0f} tokens/s")
    print(f"speed-up  {alone_s / together_s:.2f} over one process ({compared})")
    print(f"pickled   {statistics.bytes_pickled:,} bytes for all of it")


def sampled(step: int) -> str:
    """Say which files the comparison was made on."""
    return "all files" if step == 1 else f"every {step}th file"


def at_least_1(text: str) -> int:
    """Return the whole number that a text says; argparse shows the error."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        message = f"must be a whole number, at least 1, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return number


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Count the tokens of Python source on all cores.")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")), help="default: Python's own source"
    )
    parser.add_argument(
        "--sample", type=at_least_1, default=8, metavar="N",
        help="compare with one process on every Nth file (default 8)",
    )  # fmt: skip
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"), help="default: the platform's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
