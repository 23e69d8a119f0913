"""Children that tests speak to through pipes: no test here sleeps to wait for another process."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
import traceback

PATIENCE_S = 10.0


class Child:
    """A process that runs ``function(pipe, *args)``. Our copy of its end is closed: its death is an EOFError here."""

    def __init__(self, function, *args, method="fork"):
        context = multiprocessing.get_context(method)
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_run, args=(function, other, *args), daemon=True)
        self.process.start()
        other.close()

    @property
    def pid(self):
        return self.process.pid

    def hear(self, timeout_s=PATIENCE_S):
        """The next thing that the child says; an AssertionError if it says nothing in time."""
        assert self.pipe.poll(timeout_s), "the child says nothing"
        answer = self.pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def is_silent(self, seconds):
        """True if the child says nothing for so long."""
        return not self.pipe.poll(seconds)

    def tell(self, what=None):
        self.pipe.send(what)

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self):
        """SIGSTOP, and wait until it stands."""
        os.kill(self.pid, signal.SIGSTOP)
        pid, status = os.waitpid(self.pid, os.WUNTRACED)
        assert pid == self.pid
        assert os.WIFSTOPPED(status)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.join(PATIENCE_S)
        assert self.process.exitcode == -signal.SIGKILL

    def join(self):
        self.process.join(PATIENCE_S)
        return self.process.exitcode

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        self.process.kill()
        self.process.join(PATIENCE_S)
        self.pipe.close()


def _run(function, pipe, *args):
    try:
        function(pipe, *args)
    except BaseException as error:
        # As text where it does not pickle, like pytest's own.
        with contextlib.suppress(OSError, ValueError):
            try:
                pipe.send(error)
            except pickle.PicklingError:
                pipe.send(AssertionError("".join(traceback.format_exception(error))))


def hold(pipe, mutex):
    """Take the mutex, say so, and give it back when told."""
    with mutex:
        pipe.send("held")
        pipe.recv()
    pipe.send("released")


def want(pipe, mutex, timeout_s=None):
    """Say that the mutex is wanted, then how that went and how long it took."""
    pipe.send("wanting")
    began = time.monotonic()
    got = mutex.acquire(timeout_s)
    took = time.monotonic() - began
    if got:
        mutex.release()
    pipe.send((got, took))
