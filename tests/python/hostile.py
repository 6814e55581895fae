"""Sends what no client should, and says how the other side took it: one JSON line per case."""

import json
import os
import random
import socket
import struct

from wire import PORT, Connection, message, query, startup, text

LIMIT = 15


def address():
    return (os.environ["PGHOST"], PORT)


def outcome(sock):
    """`closed` or `reset`, with what was said before; `open` if neither within the limit."""
    sock.settimeout(LIMIT)
    said = b""
    try:
        while more := sock.recv(65536):
            said += more
        end = "closed"
    except ConnectionResetError:
        end = "reset"
    except TimeoutError:
        end = "open"
    return {"end": end, "bytes": len(said), "said": said[:1].decode("latin1")}


def raw(data, half_close=False):
    with socket.create_connection(address(), timeout=LIMIT) as sock:
        try:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            return {"end": "reset", "bytes": 0, "said": ""}
        return outcome(sock)


def after_login(data):
    connection = Connection()
    connection.open()
    try:
        connection.send(data)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return outcome(connection.socket)


def garbage():
    return raw(random.Random(1).randbytes(4096))


def http():
    return raw(b"GET / HTTP/1.1\r\nHost: db.prod.internal\r\n\r\n")


def truncated_startup():
    return raw(startup("a", "b")[:11], half_close=True)


def startup_of_2_gib():
    return raw(struct.pack("!ii", 0x7FFFFFFF, 196608) + b"user\x00")


def negative_length():
    return raw(struct.pack("!ii", -5, 196608))


def unknown_protocol():
    return raw(struct.pack("!ii", 8, 0x00090000))


def bytes_before_tls():
    return raw(struct.pack("!ii", 8, 80877103) + query("SELECT 1"))


def message_of_2_gib():
    return after_login(b"Q" + struct.pack("!i", 0x7FFFFFFF) + b"SELECT 1")


def message_of_length_0():
    return after_login(b"Q" + struct.pack("!i", 0) + b"SELECT 1")


def unknown_message():
    return after_login(message(b"!", b"?"))


def truncated_message():
    connection = Connection()
    connection.open()
    connection.send(query("SELECT 1")[:-4])
    connection.socket.shutdown(socket.SHUT_WR)
    return outcome(connection.socket)


def bind_with_many_parameters():
    """Claims 32,767 parameters of 2 GiB each and holds none."""
    body = text("") + text("") + struct.pack("!hh", 0, 32767) + struct.pack("!i", 0x7FFFFFFF)
    return after_login(message(b"B", body) + message(b"S") + message(b"X"))


def startup_without_end():
    return raw(struct.pack("!ii", 20, 196608) + b"user\x00nobody-en", half_close=True)


CASES = [
    garbage, http, truncated_startup, startup_of_2_gib, negative_length, unknown_protocol,
    bytes_before_tls, message_of_2_gib, message_of_length_0, unknown_message, truncated_message,
    bind_with_many_parameters, startup_without_end,
]

if __name__ == "__main__":
    for case in CASES:
        print(json.dumps({"case": case.__name__, "saw": case()}), flush=True)
