"""A client that speaks PostgreSQL's protocol message by message, to send what no driver would.

Used by the scenarios: each case prints one JSON line with what came back.
"""

import json
import os
import socket
import struct
import sys

PORT = int(os.environ.get("PGPORT", "5432"))


def message(kind, body=b""):
    return kind + struct.pack("!i", len(body) + 4) + body


def text(value):
    return value.encode() + b"\x00"


def startup(user, database):
    body = struct.pack("!i", 196608) + text("user") + text(user) + text("database") + text(database)
    body += b"\x00"
    return struct.pack("!i", len(body) + 4) + body


def query(sql):
    return message(b"Q", text(sql))


def parse(name, sql):
    return message(b"P", text(name) + text(sql) + struct.pack("!h", 0))


def bind(statement, portal=""):
    return message(b"B", text(portal) + text(statement) + struct.pack("!hhh", 0, 0, 0))


def execute(portal=""):
    return message(b"E", text(portal) + struct.pack("!i", 0))


def close(name):
    return message(b"C", b"S" + text(name))


SYNC = message(b"S")
FLUSH = message(b"H")


def at_once(name, sql):
    """Parse, Bind and Execute of one statement."""
    return parse(name, sql) + bind(name) + execute()


class Connection:
    def __init__(self):
        # Past hoop, the server trusts one address, so that this needs no SCRAM of its own.
        source = (os.environ["WIRE_SOURCE"], 0) if "WIRE_SOURCE" in os.environ else None
        address = (os.environ["PGHOST"], PORT)
        self.socket = socket.create_connection(address, timeout=20, source_address=source)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def open(self):
        self.send(startup(os.environ["PGUSER"], os.environ["PGDATABASE"]))
        return self.until_ready()

    def next(self):
        """The next message as (kind, body), or None at the end."""
        while len(self.buffer) < 5 or len(self.buffer) < self.length():
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.buffer += more
        length = self.length()
        kind, body = self.buffer[:1].decode("latin1"), self.buffer[5:length]
        self.buffer = self.buffer[length:]
        return kind, body

    def length(self):
        return struct.unpack("!i", self.buffer[1:5])[0] + 1

    def until_ready(self):
        """Everything up to ReadyForQuery, told briefly."""
        seen = []
        while True:
            got = self.next()
            if got is None:
                return seen + ["(closed)"]
            kind, body = got
            told = tell(kind, body)
            if told:
                seen.append(told)
            if kind == "Z":
                return seen


def tell(kind, body):
    """One message in words; what differs from run to run is left out."""
    if kind == "E":
        fields = dict((f[:1].decode(), f[1:].decode()) for f in body.split(b"\x00") if f)
        return "ErrorResponse " + fields["S"] + " " + fields["C"]
    if kind == "C":
        return "CommandComplete " + body[:-1].decode()
    if kind == "D":
        values, at = [], 2
        for _ in range(struct.unpack("!h", body[:2])[0]):
            (length,) = struct.unpack("!i", body[at : at + 4])
            at += 4
            values.append(None if length < 0 else body[at : at + length].decode())
            at += max(length, 0)
        return "DataRow " + json.dumps(values)
    if kind == "Z":
        return "ReadyForQuery " + body.decode()
    names = {"1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "T": "RowDescription"}
    names |= {"I": "EmptyQueryResponse", "n": "NoData", "s": "PortalSuspended"}
    return names.get(kind)


def told(connection, data):
    connection.send(data)
    return connection.until_ready()


def write_then_refused(connection):
    """An allowed write, a statement that fails, Sync: the write must be gone."""
    seen = told(
        connection,
        at_once("", "INSERT INTO scratch VALUES (1, 'pipelined')") + at_once("", BAD) + SYNC,
    )
    return seen + told(connection, query("SELECT count(*) FROM scratch WHERE note = 'pipelined'"))


def write_then_refused_in_block(connection):
    seen = told(connection, query("BEGIN"))
    seen += told(connection, at_once("", "INSERT INTO scratch VALUES (2, 'block')") + SYNC)
    seen += told(connection, at_once("", BAD) + SYNC)
    seen += told(connection, query("SELECT 1"))
    seen += told(connection, query("COMMIT"))
    return seen + told(connection, query("SELECT count(*) FROM scratch WHERE note = 'block'"))


def refused_then_more(connection):
    """What follows a failure up to Sync is skipped, not run."""
    seen = told(
        connection,
        at_once("", BAD) + at_once("", "INSERT INTO scratch VALUES (3, 'skipped')") + SYNC,
    )
    return seen + told(connection, query("SELECT count(*) FROM scratch WHERE note = 'skipped'"))


def several_in_one_string(connection):
    """A simple query is one transaction: its first statement goes with its second."""
    seen = told(connection, query(f"INSERT INTO scratch VALUES (4, 'string'); {BAD}; SELECT 1"))
    return seen + told(connection, query("SELECT count(*) FROM scratch WHERE note = 'string'"))


def skipped_parse(connection):
    """After an error the server skips to Sync, so `s` still is what it was before."""
    told(connection, query("INSERT INTO scratch VALUES (5, 'precious')"))
    told(connection, parse("s", BAD) + SYNC)
    seen = told(
        connection, at_once("", "SELECT 1/0") + close("s") + parse("s", "SELECT 1") + SYNC
    )
    seen += told(connection, bind("s") + execute() + SYNC)
    return seen + told(connection, query("SELECT count(*) FROM scratch WHERE note = 'precious'"))


def flush_in_between(connection):
    """Flush asks for what is ready; the transaction still ends at Sync."""
    connection.send(at_once("", "INSERT INTO scratch VALUES (6, 'flushed')") + FLUSH)
    seen = [tell(*connection.next()) for _ in range(3)]
    seen += told(connection, at_once("", BAD) + SYNC)
    return seen + told(connection, query("SELECT count(*) FROM scratch WHERE note = 'flushed'"))


CASES = [
    write_then_refused,
    write_then_refused_in_block,
    refused_then_more,
    several_in_one_string,
    skipped_parse,
    flush_in_between,
]

# The statement that fails: refused by hoop, or by the server itself when past hoop.
BAD = sys.argv[1] if len(sys.argv) > 1 else ""

if __name__ == "__main__":
    for case in CASES:
        connection = Connection()
        connection.open()
        print(json.dumps({"case": case.__name__, "saw": case(connection)}), flush=True)
        connection.send(message(b"X"))
