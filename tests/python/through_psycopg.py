"""What a program sees that uses psycopg 3: one JSON line per case, nothing that differs by run.

The scenario runs it as an agent and past hoop, and compares the lines.
"""

import json
import threading
import time

import psycopg

TABLE = "psycopg_contract"


def show(case, saw):
    print(json.dumps({"case": case, "saw": saw}, default=str), flush=True)


def failure(error):
    return {"sqlstate": error.sqlstate, "message": error.diag.message_primary}


def main():
    with psycopg.connect(autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, note text)")
        for case in CASES:
            show(case.__name__, case(connection))
        connection.execute(f"DROP TABLE {TABLE}")
    show("tls", tls())


def tls():
    with psycopg.connect() as connection:
        return [connection.info.host, connection.pgconn.ssl_in_use]


def simple(connection):
    cursor = psycopg.ClientCursor(connection)
    cursor.execute("SELECT 1, NULL, 'text', 1.5::numeric; SELECT 'second'")
    first = cursor.fetchall()
    cursor.nextset()
    return [first, cursor.fetchall()]


def parameters(connection):
    row = connection.execute(
        "SELECT %s::int, %s::text, %s::bytea, %s::jsonb, %s::int[]",
        (7, "ünïcode 😀", b"\x00\xff", json.dumps({"a": [1]}), [1, None, 3]),
    ).fetchone()
    return [str(value) for value in row]


def binary(connection):
    cursor = connection.cursor(binary=True)
    cursor.execute("SELECT 7::int8, 1.25::float8, 'x'::text, now() - now()")
    return [str(value) for value in cursor.fetchone()]


def prepared(connection):
    seen = []
    for value in range(8):
        row = connection.execute("SELECT %s::int * 2", (value,), prepare=True).fetchone()
        seen.append(row[0])
    return seen


def many(connection):
    cursor = connection.cursor()
    rows = [(n, f"note {n}") for n in range(100, 150)]
    cursor.executemany(f"INSERT INTO {TABLE} VALUES (%s, %s)", rows)
    return [cursor.rowcount, connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()]


def pipeline(connection):
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(20)]
        pipeline.sync()
        return [cursor.fetchone()[0] for cursor in cursors]


def pipeline_error(connection):
    seen = []
    try:
        with connection.pipeline():
            connection.execute(f"INSERT INTO {TABLE} VALUES (900, 'lost')")
            connection.execute("SELECT 1/0")
            connection.execute(f"INSERT INTO {TABLE} VALUES (901, 'never')")
    except psycopg.Error as error:
        seen.append(failure(error))
    count = connection.execute(f"SELECT count(*) FROM {TABLE} WHERE id >= 900").fetchone()
    return [seen, count]


def copy_in(connection):
    cursor = connection.cursor()
    with cursor.copy(f"COPY {TABLE} FROM STDIN") as copy:
        for n in range(1000, 3000):
            copy.write_row((n, "copied"))
    return cursor.rowcount


def copy_out(connection):
    cursor = connection.cursor()
    with cursor.copy(f"COPY (SELECT id, note FROM {TABLE} WHERE id >= 1000 ORDER BY id) TO STDOUT") as copy:
        rows = [row for row in copy.rows()]
    return [len(rows), rows[0], rows[-1]]


def copy_failure(connection):
    try:
        with connection.cursor().copy(f"COPY {TABLE} FROM STDIN") as copy:
            copy.write("not a number\tx\n")
    except psycopg.Error as error:
        return [failure(error), connection.execute("SELECT 1").fetchone()]


def copy_given_up(connection):
    try:
        with connection.cursor().copy(f"COPY {TABLE} FROM STDIN") as copy:
            copy.write_row((5000, "given up"))
            raise ValueError("the program changed its mind")
    except ValueError:
        pass
    return connection.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 5000").fetchone()


def cancelled(connection):
    timer = threading.Timer(0.5, connection.cancel)
    timer.start()
    began = time.monotonic()
    try:
        connection.execute("SELECT pg_sleep(30)")
        seen = "not cancelled"
    except psycopg.Error as error:
        seen = failure(error)
    timer.join()
    return [seen, time.monotonic() - began < 15, connection.execute("SELECT 1").fetchone()]


def notification(connection):
    connection.execute("LISTEN news")
    connection.execute("NOTIFY news, 'hello'")
    seen = []
    for message in connection.notifies(timeout=5, stop_after=1):
        seen.append([message.channel, message.payload])
    connection.execute("UNLISTEN news")
    return seen


def error(connection):
    try:
        connection.execute("SELECT nothing FROM nowhere")
    except psycopg.Error as error:
        return [failure(error), connection.execute("SELECT 'on it goes'").fetchone()]


def transaction(connection):
    seen = []
    try:
        with connection.transaction():
            connection.execute(f"INSERT INTO {TABLE} VALUES (7000, 'kept?')")
            connection.execute("SELECT 1/0")
    except psycopg.Error as error:
        seen.append(failure(error))
    seen.append(connection.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 7000").fetchone())
    with connection.transaction():
        connection.execute(f"INSERT INTO {TABLE} VALUES (7001, 'kept')")
        try:
            with connection.transaction():
                connection.execute(f"INSERT INTO {TABLE} VALUES (7002, 'savepoint')")
                connection.execute("SELECT 1/0")
        except psycopg.Error as error:
            seen.append(error.sqlstate)
    seen.append(connection.execute(f"SELECT id FROM {TABLE} WHERE id > 7000").fetchall())
    return seen


def server_cursor(connection):
    with connection.transaction(), connection.cursor("wanderer") as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 500) n")
        return [len(cursor.fetchmany(100)), len(cursor.fetchall())]


def large(connection):
    rows = connection.execute("SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n").fetchall()
    return [len(rows), sum(len(row[1]) for row in rows)]


def large_value(connection):
    (value,) = connection.execute("SELECT repeat('y', 20000000)").fetchone()
    (length,) = connection.execute("SELECT length(%s::text)", ("z" * 5000000,)).fetchone()
    return [len(value), length]


CASES = [
    simple, parameters, binary, prepared, many, pipeline, pipeline_error, copy_in, copy_out,
    copy_failure, copy_given_up, cancelled, notification, error, transaction, server_cursor, large,
    large_value,
]

if __name__ == "__main__":
    main()
