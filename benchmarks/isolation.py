"""Each measurement in a process of its own, with a limit, so that none can warm up, slow down or hang another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.foreign import old_xme_python
from benchmarks.registry import Case, NotMeasuredError

ROOT = Path(__file__).resolve().parent.parent


def _interpreter(rival: str) -> tuple[str, dict[str, str]]:
    environment = dict(os.environ)
    # Installed packages are compiled when they are installed; a checkout must be allowed to keep its bytecode too.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if rival != "xme331":
        return sys.executable, environment
    # Our own XME must not be found by the interpreter that measures the old one.
    environment.pop("PYTHONPATH", None)
    return old_xme_python(), environment


def measure_apart(case: Case, rival: str, *, quick: bool) -> dict[str, Any]:
    """Return ``series`` or ``missing`` of one case of one rival, measured in a clean interpreter."""
    try:
        python, environment = _interpreter(rival)
    except NotMeasuredError as error:
        return {"missing": str(error)}
    command = [python, "-m", "benchmarks.one", case.name, rival, *(["--quick"] if quick else [])]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=case.limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return {"missing": f"not done after {case.limit_s:g} s, so it was ended"}
    return _answer(process.returncode, output, errors)


def _end(process: subprocess.Popen[str]) -> None:
    # Its workers are in its session's process group: a rival that hangs leaves nothing behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _answer(returncode: int, output: str, errors: str) -> dict[str, Any]:
    last = (output.strip().splitlines() or [""])[-1]
    try:
        answer: dict[str, Any] = json.loads(last)
    except ValueError:
        words = (errors.strip().splitlines() or ["it said nothing"])[-1][:300]
        return {"missing": f"ended with code {returncode}: {words}"}
    if "missing" in answer and errors.strip():
        answer["stderr"] = errors.strip()[-2000:]
    return answer
