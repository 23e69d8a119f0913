"""Remote procedure calls (the manual's 2.2.1) over TCP: this is the server.

    python examples/rpc_server.py --port 7100
    python examples/rpc_client.py --port 7100 add 1 2

Only functions on the list below can be called, by whoever has the same key (XME_KEY, or the key file), many at once.
What a function raises goes back to its caller (rpc_errors.py). A message that was recorded and is sent again is
refused.
"""

import argparse
import signal
import socket
import sys
import threading
import time
import traceback

import numpy as np
import rpc_errors
from rpc_message import Broken, Message, compact, uncompact

from XME.errors import BadKey, BadMessage, UnsealableValue, XMEError

# Requests are good for so long; their marks are kept for as long, so that none is taken twice.
MAX_AGE_S = 60.0
LONGEST_TRACEBACK = 100_000


def add(a, b):
    return a + b


def divide(a, b):
    return a / b


def statistics(numbers):
    numbers = np.asarray(numbers)
    return {"mean": float(numbers.mean()), "sorted": np.sort(numbers)}


def sleep(seconds):
    time.sleep(seconds)
    return seconds


FUNCTIONS = {function.__name__: function for function in (add, divide, statistics, sleep)}


class Marks:
    """The marks of the requests that came lately."""

    def __init__(self):
        self._lock = threading.Lock()
        self._seen = {}

    def is_new(self, mark):
        """True for the first time that a mark comes."""
        now = time.monotonic()
        with self._lock:
            # In the order of their coming: the oldest are the first.
            while self._seen and now - next(iter(self._seen.values())) > 2 * MAX_AGE_S:
                del self._seen[next(iter(self._seen))]
            is_new = mark not in self._seen
            self._seen.setdefault(mark, now)
            return is_new


def answer_to(request, functions, marks):
    """Return the answer to one request, sealed."""
    mark, name = request["mark"], request["function"]
    if not isinstance(mark, str):
        return failure(mark, TypeError(f"a mark is a text that no other request has, not {mark!r:.60}"))
    if not marks.is_new(mark):
        raise BadMessage.of("this request has been here before", "give each one a mark of its own")
    try:
        if name not in functions:
            raise LookupError(f"there is no function {name!r} here; there are: {', '.join(functions)}")
        return compact(mark=mark, result=functions[name](*request["args"], **request["kwargs"]))
    except UnsealableValue as error:
        return failure(mark, TypeError(f"the result of {name} does not travel: {error}"))
    except BaseException as error:
        return failure(mark, error)


def failure(mark, error):
    """Return the answer that says what was raised."""
    where = "".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:]
    return compact(mark=mark, error=rpc_errors.packed(error), where=where)


def serve(connection, who, functions, marks):
    """Answer one client until it leaves, or speaks nonsense."""
    message = Message(connection)
    try:
        while True:
            request = uncompact(message.recv(), MAX_AGE_S)
            if not {"mark", "function", "args", "kwargs"} <= request.keys():
                raise BadMessage.of("it is no request", "send mark, function, args and kwargs")
            message.send(answer_to(request, functions, marks))
    except Broken:
        pass
    except (XMEError, OSError) as error:
        print(f"{who}: {error}", file=sys.stderr, flush=True)
    finally:
        message.close()


def main():
    parser = argparse.ArgumentParser(description="Remote procedure calls: the server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7100, help="0: any that is free")
    options = parser.parse_args()
    try:
        # Without a key nobody could be answered.
        compact(is_there_a_key=True)
        server = socket.create_server((options.host, options.port))
    except (BadKey, OSError, OverflowError) as error:
        sys.exit(f"cannot serve on {options.host}:{options.port}: {error}")
    listen(server, options.host)


def listen(server, name):
    """Serve whoever comes, until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    marks = Marks()
    with server:
        print(f"listening on {name}:{server.getsockname()[1]}", flush=True)
        try:
            while True:
                connection, (host, port) = server.accept()
                arguments = connection, f"{host}:{port}", FUNCTIONS, marks
                threading.Thread(target=serve, args=arguments, daemon=True).start()
        except KeyboardInterrupt:
            print("stopped", flush=True)


if __name__ == "__main__":
    main()
