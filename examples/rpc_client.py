"""Remote procedure calls (the manual's 2.2.1) over TCP: this is the client. See rpc_server.py.

python examples/rpc_client.py --port 7100 statistics '[3, 1, 2]'
"""

import argparse
import ast
import itertools
import socket
import sys
import threading
import time
import uuid

import rpc_errors
from rpc_message import Broken, Message, compact, uncompact

from XME.errors import BadMessage


class RemoteTracebackError(Exception):
    """Where a function failed on the server."""


class Client:
    """A connection to a server; threads may share it, and take turns."""

    def __init__(self, host, port, timeout=10.0, key=None):
        """Connect; `timeout` is how many seconds a call may take, unless it says otherwise."""
        self._place = host, port
        self._timeout = timeout
        self._key = key
        self._lock = threading.Lock()
        # Unique on whatever machine, however many clients there are.
        self._marks = (f"{uuid.uuid4().hex}-{number}" for number in itertools.count())
        self._message = None
        self._connect()

    def _connect(self):
        self._message = Message(socket.create_connection(self._place, self._timeout))

    def call(self, function, *args, timeout=None, **kwargs):
        """Call a function of the server, and return what it returns or raise what it raises.

        Raises TimeoutError when there is no answer in time: the call may then have been done, or not.
        """
        with self._lock:
            mark = next(self._marks)
            request = compact(key=self._key, mark=mark, function=function, args=args, kwargs=kwargs)
            self._send(request)
            try:
                return self._result(mark, time.monotonic() + (self._timeout if timeout is None else timeout))
            except (Broken, BadMessage):
                # The next call connects anew.
                self.close()
                raise

    def _send(self, request):
        try:
            self._message.send(request)
        except OSError:
            # The server has gone and come again, and has seen nothing of this request.
            self.close()
            self._connect()
            self._message.send(request)

    def _result(self, mark, deadline):
        while True:
            answer = uncompact(self._message.recv(max(0.001, deadline - time.monotonic())), None, self._key)
            # Answers that came too late for their own calls are still on their way.
            if answer.get("mark") == mark:
                break
        if "error" not in answer:
            return answer["result"]
        raise rpc_errors.unpacked(answer["error"]) from RemoteTracebackError(answer["where"])

    def close(self):
        """Close the connection."""
        self._message.close()


def literal(text):
    """Return what a text says in Python."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        msg = f"{text!r} is no value as Python writes it: a text wants quotes of its own, '\"like this\"'"
        raise argparse.ArgumentTypeError(msg) from None


def main():
    parser = argparse.ArgumentParser(description="Remote procedure calls: the client.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7100)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("function")
    parser.add_argument("args", nargs="*", type=literal, help="as Python writes them")
    options = parser.parse_args()
    try:
        client = Client(options.host, options.port, options.timeout)
        print(client.call(options.function, *options.args))
    except (BadMessage, Broken) as error:
        sys.exit(f"the server does not answer as it should (has it the same key?): {error}")
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
