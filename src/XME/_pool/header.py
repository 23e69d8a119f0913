"""What a log begins with."""

from __future__ import annotations

import os
import platform
import sys
import time


def header(pnum: int | None) -> str:
    """Return the line that says what runs where, with how many workers (None: nobody knows)."""
    from importlib import metadata  # it takes longer to import than most of XME

    try:
        version = metadata.version("xme-shm")
    except metadata.PackageNotFoundError:
        version = "run from its source"
    workers = "workers elsewhere" if pnum is None else f"{pnum} workers"
    return (
        f"XME {version} (Xenon-Multiprocessing-Engine), Python {platform.python_version()} on {sys.platform}, "
        f"{workers}, pid {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
    )
