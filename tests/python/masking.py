"""Runs statements in every form of the protocol and hands back every byte that came.

Standard input: one JSON array of statements. Standard output: one JSON line per statement and form,
with everything that the server's side sent, in base64.
"""

import base64
import json
import struct
import sys

from wire import SYNC, Connection, execute, message, parse, query, text


def bind(binary):
    """Every column of the result in one format."""
    return message(b"B", text("") + text("") + struct.pack("!hhhh", 0, 0, 1, binary))


def extended(sql, binary):
    described = message(b"D", b"P" + text(""))
    return parse("", sql) + bind(binary) + described + execute() + SYNC


FORMS = {
    "simple": query,
    "text": lambda sql: extended(sql, 0),
    "binary": lambda sql: extended(sql, 1),
}


class Heard(Connection):
    """Keeps the bytes of all messages."""

    def ask(self, data):
        self.send(data)
        said, kinds = b"", ""
        while True:
            got = self.next()
            if got is None:
                return said, kinds + "-"
            kind, body = got
            said += kind.encode("latin1") + body
            kinds += kind
            if kind == "Z":
                return said, kinds


def main():
    connection = Heard()
    connection.open()
    for sql in json.load(sys.stdin):
        for form, make in FORMS.items():
            said, kinds = connection.ask(make(sql))
            if kinds.endswith("-"):
                # The session ended; the next statement gets another.
                connection = Heard()
                connection.open()
            elif said[-1:] != b"I":
                connection.ask(query("ROLLBACK"))
            line = {"sql": sql, "form": form, "kinds": kinds}
            line["said"] = base64.b64encode(said).decode()
            print(json.dumps(line), flush=True)


main()
