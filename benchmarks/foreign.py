"""XME 3.3.1 from PyPI, in a virtual environment of its own: it bears our import name and cannot live beside XME."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from benchmarks.registry import NotMeasuredError

REQUIREMENT = "XME==3.3.1"
INSTALL_LIMIT_S = 300.0


@cache
def old_xme_python() -> str:
    """Make the environment once a run and return its interpreter; it is removed at exit.

    Raises:
        NotMeasuredError: when it cannot be made or does not import, with pip's or Python's last words.
    """
    folder = tempfile.mkdtemp(prefix="xme331-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python = str(Path(folder) / "bin" / "python")
    # numpy is not among its declared requirements, but its first line imports it.
    _run([sys.executable, "-m", "venv", folder])
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT, "numpy"])
    _run([python, "-c", "import XME"])
    return python


def _run(command: list[str]) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, cwd=tempfile.gettempdir()
        )
    except subprocess.CalledProcessError as error:
        raise NotMeasuredError(f"{REQUIREMENT} could not be installed: {_last_line(error.stderr)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasuredError(f"{REQUIREMENT} could not be installed: {error}") from None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]
