"""The end of a process is known, and not taken for that of its first thread."""

import os
import subprocess
import sys
import threading

from tests.helpers import PATIENCE_S, wait_until
from XME._core import participant

# The number is that of exit on x86-64, which ends one thread.
FIRST_THREAD_ENDS = """
import ctypes, os, threading

def go_on():
    os.read(0, 1)
    os._exit(0)

threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_the_end_is_that_of_the_last_thread():
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdin=subprocess.PIPE) as process:
        who = participant.identity_of(process.pid)
        wait_until(lambda: not participant.is_found_alive(who))
        waiting = threading.Thread(target=participant.await_end, args=(who,))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        process.communicate(b"x", PATIENCE_S)
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive()


def test_nobody_waits_for_one_who_is_gone_or_for_a_later_one_with_his_pid():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        gone = participant.identity_of(process.pid)
    participant.await_end(gone)
    participant.await_end(participant.myself()._replace(start_time=1))


def test_without_the_kernels_word_it_is_looked_at(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        who = participant.identity_of(process.pid)
        waiting = threading.Thread(target=participant.await_end, args=(who,))
        waiting.start()
        process.communicate(b"\n", PATIENCE_S)
        waiting.join(PATIENCE_S)
        assert not waiting.is_alive()
