"""What children of the tests run: functions that every start method finds."""

import os
import signal
import time

from XME import Security
from XME._core import futex


def serve(pipe, board):
    """Do what is asked: (name of a method, arguments, keywords); the answer is the result or the error."""
    while (order := pipe.recv()) is not None:
        name, args, kwargs = order
        try:
            pipe.send(getattr(board, name)(*args, **kwargs))
        except Exception as error:  # the test looks at it
            pipe.send(error)


def wait_for(pipe, board, keys, timeout):
    """Say when the wait is about to begin, and what came of it, when."""
    moment = board.moment
    pipe.send("waits")
    answer = board.wait(*keys, timeout=timeout, since=moment)
    pipe.send((answer, time.monotonic()))


def update_and_be_killed(board, messages):
    """Be killed after the message is public and before anybody is woken."""
    futex.Word.wake = lambda _word: os.kill(os.getpid(), signal.SIGKILL)
    board.update(messages)


def hold(pipe, security, operator):
    """Hold a Security until told."""
    with security.holding(operator):
        pipe.send("held")
        pipe.recv()


def update_often(board, name, count):
    """Count up under a key of one's own."""
    for number in range(count):
        assert board.update({name: number, "latest": name}, Security.ADMIN) is True


def write_for_ever(board, name):
    """Set two messages that always belong together."""
    number = 0
    while True:
        number += 1
        board.update({f"{name}-a": number, f"{name}-b": -number}, Security.ADMIN)
