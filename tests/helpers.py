"""What the tests share: programs of their own, names in shared memory, patience, and who is still there."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SHARED_MEMORY = Path("/dev/shm")
XME_NAME = re.compile(r"^(sem\.)?xm")

# A worker has two seconds to see that its parent is gone; on a loaded machine it gets more.
PATIENCE_S = 10.0

# What multiprocessing (and loky) keep for themselves until the process ends; both go when their pipe closes.
_TRACKER = re.compile(r"resource_tracker import main")
_FORKSERVER = re.compile(r"multiprocessing\.forkserver import main")


def xme_names():
    """The names that XME has in shared memory now (none where they can not be listed: macOS)."""
    try:
        return {name for name in os.listdir(SHARED_MEMORY) if XME_NAME.match(name)}
    except FileNotFoundError:
        return set()


def wait_until(predicate, timeout_s=PATIENCE_S, poll_s=0.005):
    """Call predicate until it gives something true, and return that; an AssertionError after timeout_s seconds."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout_s:g} s: {predicate}")
        time.sleep(poll_s)
    return value


def describe(process):
    """One line about a process: its pid, state and command."""
    with contextlib.suppress(psutil.Error):
        return f"pid {process.pid} ({process.status()}): {' '.join(process.cmdline())[:150]}"
    return f"pid {process.pid} (gone)"


def _is_helper(process, parent_pid):
    try:
        command = " ".join(process.cmdline())
        # The forkserver's own children bear its command line too, and they are workers.
        return bool(_TRACKER.search(command) or (_FORKSERVER.search(command) and process.ppid() == parent_pid))
    except psutil.Error:
        return True


def children():
    """Living processes below this one, without multiprocessing's own helpers."""
    me = psutil.Process()
    found = [process for process in me.children(recursive=True) if not _is_helper(process, me.pid)]
    return [process for process in found if _is_alive(process)]


def _is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_processes(processes, wait_s=5.0):
    """End processes by terminate, then kill, each with wait_s seconds to take effect."""
    for signal_name in ("terminate", "kill"):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                getattr(process, signal_name)()
        _, processes = psutil.wait_procs(processes, timeout=wait_s)


def _members(session_id):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session_id and _is_alive(process):
                yield process


def run_python(program, *args, timeout_s=40.0, env=None, cwd=None):
    """Run a program in a new Python and a new session, and return its CompletedProcess (stdout and stderr as text).

    ``program`` is a Path, or the text of a program, which then is a real ``__main__`` in a file of its own. The call
    fails, and all that was started ends, if the program is not done after ``timeout_s`` seconds (TimeoutExpired) or if
    a process of its session outlives it by more than a worker may (AssertionError).
    """
    with tempfile.TemporaryDirectory(prefix="program-") as folder:
        script = program if isinstance(program, Path) else Path(folder, "program.py")
        if not isinstance(program, Path):
            script.write_text(program, encoding="utf-8")
        return _run([sys.executable, str(script), *map(str, args)], Path(folder), timeout_s, env, cwd or folder)


def can_have_small_memory():
    """True if this user may make a mount namespace with a /dev/shm of its own."""
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(SHARED_MEMORY)]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(probe, capture_output=True, timeout=10).returncode == 0
    return False


def run_in_small_memory(program, megabytes, folder):
    """Run the text of a program in a new Python where /dev/shm has so many MB; its CompletedProcess."""
    script = Path(folder, "small.py")
    script.write_text(textwrap.dedent(program), encoding="utf-8")
    command = f'mount -t tmpfs -o size={megabytes}m tmpfs {SHARED_MEMORY} && exec "{sys.executable}" "{script}"'
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def _run(command, folder, timeout_s, env, cwd):
    outputs = [folder / "stdout", folder / "stderr"]
    # Files and not pipes: a worker that keeps a pipe open would look like a program that does not end.
    with outputs[0].open("wb") as out, outputs[1].open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        try:
            code = _wait_for_session(process, timeout_s)
        except BaseException as error:
            if isinstance(error, subprocess.TimeoutExpired):
                error.stdout, error.stderr = _texts(outputs)
                error.add_note("".join(_texts(outputs)))
            raise
        finally:
            _kill_session(process)
    return subprocess.CompletedProcess(command, code, *_texts(outputs))


def _texts(outputs):
    return [path.read_text(encoding="utf-8", errors="replace") for path in outputs]


def _wait_for_session(process, timeout_s):
    code = process.wait(timeout_s)
    deadline = time.monotonic() + PATIENCE_S
    while left := list(_members(process.pid)):
        if time.monotonic() > deadline:
            raise AssertionError("outlive their program: " + "; ".join(map(describe, left)))
        time.sleep(0.02)
    return code


def _kill_session(process):
    for member in _members(process.pid):
        with contextlib.suppress(psutil.Error):
            member.send_signal(signal.SIGKILL)
    process.wait(10)
