"""Results, values, parameters and COPY far above any buffer: one JSON line per case.

HOOP_VOLUME_MB says how much; 64 unless told.
"""

import json
import os

import psycopg

MEGABYTES = int(os.environ.get("HOOP_VOLUME_MB", "64"))
PIECE = b"0123456789abcdef" * 4096


def show(case, saw):
    print(json.dumps({"case": case, "saw": saw}), flush=True)


def main():
    with psycopg.connect(autocommit=True) as connection:
        rows = MEGABYTES * 100
        cursor = connection.cursor()
        query = "SELECT n, repeat('x', 10000) FROM generate_series(1, %s) n"
        sizes = [len(row[1]) for row in cursor.stream(query, [rows])]
        show("rows", [len(sizes), sum(sizes)])

        half = MEGABYTES * 500_000
        (value,) = connection.execute("SELECT repeat('y', %s)", [half]).fetchone()
        show("value", [len(value), value.count("y")])
        del value

        row = connection.execute("SELECT length(%b), md5(%b)", [PIECE * (half // len(PIECE)), PIECE]).fetchone()
        show("parameter", row)

        connection.execute("CREATE TEMP TABLE volume (line text)")
        with cursor.copy("COPY volume FROM STDIN") as copy:
            for _ in range(half // 65537):
                copy.write(PIECE + b"\n")
        show("copy in", connection.execute("SELECT count(*), sum(length(line)) FROM volume").fetchone()[0])
        with cursor.copy("COPY volume TO STDOUT") as copy:
            show("copy out", sum(len(block) for block in copy))


main()
