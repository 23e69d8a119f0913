"""What rpc_server.py and rpc_client.py send each other: sealed messages over TCP, each behind its length.

A message is what a Monitor's `marshal` makes and its `unmarshal` takes. Here nobody needs a Monitor to keep it in, so
the functions of the same names do. The key is that of XME_KEY, or of the key file.
"""

import socket
import struct

from XME.errors import BadMessage
from XME.Monitor import marshal, unmarshal

_LENGTH = struct.Struct(">I")
LARGEST = 64 << 20
# Who has begun a message has so many seconds to finish it.
PATIENCE_S = 10.0


class Broken(ConnectionError):
    """The other side is gone, or speaks something else."""


def compact(key=None, **messages):
    """Return messages as sealed bytes."""
    return marshal(messages, key=key, max_size=LARGEST)


def uncompact(data, max_age, key=None):
    """Return the messages of sealed bytes."""
    return unmarshal(data, key=key, max_age=max_age, max_size=LARGEST)


class Message:
    """The manual's class: one connection, on which whole messages are sent and received."""

    def __init__(self, connection):
        """Take over a connected socket."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        # What has come and was not asked for yet.
        self._came = bytearray()

    def send(self, data):
        """Send one message."""
        self.connection.settimeout(PATIENCE_S)
        self.connection.sendall(_LENGTH.pack(len(data)) + data)

    def recv(self, timeout=None):
        """Return the next message; TimeoutError if none begins in time, Broken if none will come."""
        self.connection.settimeout(timeout)
        head = self._exactly(_LENGTH.size)
        (length,) = _LENGTH.unpack(head)
        if length > LARGEST:
            raise BadMessage.of(f"it says that it has {length:,} bytes", "speak the protocol of rpc_message.py")
        return self._exactly(length)

    def _exactly(self, count):
        came = self._came
        while len(came) < count:
            try:
                part = self.connection.recv(max(1 << 16, count - len(came)))
            except TimeoutError:
                if came:
                    raise Broken("the other side stopped in the middle of a message") from None
                raise
            if not part:
                raise Broken("the other side has closed the connection")
            came += part
            if len(came) < count:
                self.connection.settimeout(PATIENCE_S)
        data = bytes(came[:count])
        del came[:count]
        return data

    def close(self):
        """Close the connection."""
        self.connection.close()
