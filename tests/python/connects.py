"""Connects, asks one thing and leaves, so many times a second until a file appears: one JSON line
that says what became of each. No driver, so that hundreds of them cost little.

    connects.py RATE SECONDS STOP
"""

import json
import os
import socket
import struct
import sys
import threading
import time

from wire import PORT, message, query, text

AT_ONCE = 64
PATIENCE = 30


def begin(application):
    body = struct.pack("!i", 196608)
    for word in ("user", os.environ["PGUSER"], "database", os.environ["PGDATABASE"]):
        body += text(word)
    body += text("application_name") + text(application) + b"\x00"
    return struct.pack("!i", len(body) + 4) + body


def until_ready(sock, buffer):
    """Everything up to ReadyForQuery; an error by its words."""
    rows = []
    while True:
        while len(buffer) < 5 or len(buffer) < struct.unpack("!i", buffer[1:5])[0] + 1:
            more = sock.recv(65536)
            if not more:
                raise RuntimeError("closed")
            buffer += more
        length = struct.unpack("!i", buffer[1:5])[0] + 1
        kind, body = buffer[:1], bytes(buffer[5:length])
        del buffer[:length]
        if kind == b"E":
            raise RuntimeError("error: " + body.replace(b"\x00", b" ").decode())
        if kind == b"R" and body[:4] != b"\x00\x00\x00\x00":
            # Past hoop the server would ask for a password.
            raise RuntimeError("asked for a password")
        if kind == b"D":
            rows.append(body[6:].decode())
        if kind == b"Z":
            return rows


def once(number):
    name = f"load-{number}"
    try:
        with socket.create_connection((os.environ["PGHOST"], PORT), timeout=PATIENCE) as sock:
            buffer = bytearray()
            sock.sendall(begin(name))
            until_ready(sock, buffer)
            sock.sendall(query(f"SELECT '{name}'"))
            rows = until_ready(sock, buffer)
            sock.sendall(message(b"X"))
        return None if rows == [name] else f"answered {rows}"
    except (OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def main():
    rate, seconds, stop = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    start, lock = time.monotonic(), threading.Lock()
    state = {"next": 0, "good": [], "bad": {}, "slowest": 0.0}

    def work():
        while True:
            with lock:
                number = state["next"]
                state["next"] += 1
            due = start + number / rate
            if due > start + seconds or os.path.exists(stop):
                return
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            wrong = once(number)
            with lock:
                state["slowest"] = max(state["slowest"], time.monotonic() - began)
                if wrong is None:
                    state["good"].append(number)
                else:
                    state["bad"][str(number)] = wrong

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state["seconds"] = time.monotonic() - start
    print(json.dumps(state), flush=True)


if __name__ == "__main__":
    main()
