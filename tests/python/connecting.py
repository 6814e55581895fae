"""Connects as libpq is told to, and says how it went: one JSON line per line of standard input.

Each line of input is a JSON list: the case's name, a connection string, and more of the environment.
"""

import json
import os
import sys

import psycopg


def attempt(conninfo):
    try:
        with psycopg.connect(conninfo, connect_timeout=20) as connection:
            seen = {"ssl": connection.pgconn.ssl_in_use, "password": connection.pgconn.used_password}
            seen["host"] = connection.info.host
            row = connection.execute("SELECT current_setting('search_path'), 'ü'").fetchone()
            return seen | {"row": row}
    except psycopg.Error as error:
        # hoop's hints say more than the server's.
        lines = [line for line in str(error).splitlines() if not line.startswith(("HINT:", "DETAIL:"))]
        return {"failed": (lines or [""])[-1].split("failed: ")[-1]}


for line in sys.stdin:
    case, conninfo, environment = json.loads(line)
    before = dict(os.environ)
    os.environ.update(environment)
    print(json.dumps({"case": case, "saw": attempt(conninfo)}), flush=True)
    os.environ.clear()
    os.environ.update(before)
