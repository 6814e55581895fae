"""Runs statements in the extended protocol, says what came of each, and obeys Ctrl-C.

One JSON line per statement: its rows or its error, and the state of the transaction afterwards.
Notices go to standard error. With --begin all of them are in one transaction; with --pipeline they
go out at once.
"""

import json
import sys

import psycopg


def show(connection, **saw):
    saw["transaction"] = connection.info.transaction_status.name
    print(json.dumps(saw, default=str), flush=True)


def run(connection, sql):
    try:
        cursor = connection.execute(sql, [])
        rows = cursor.fetchall() if cursor.description else []
        show(connection, rows=rows, count=cursor.rowcount)
    except KeyboardInterrupt:
        show(connection, interrupted=True)
    except psycopg.Error as error:
        diag = error.diag
        detail = diag.message_detail
        show(
            connection,
            sqlstate=error.sqlstate,
            message=diag.message_primary or str(error),
            detail=json.loads(detail) if detail and detail.startswith("{") else detail,
        )


def pipelined(connection, statements):
    try:
        with connection.pipeline():
            cursors = [connection.execute(sql, []) for sql in statements]
        for cursor in cursors:
            rows = cursor.fetchall() if cursor.description else []
            show(connection, rows=rows, count=cursor.rowcount)
    except psycopg.Error as error:
        show(connection, sqlstate=error.sqlstate, message=error.diag.message_primary)


def main():
    arguments = sys.argv[1:]
    begin, pipeline = "--begin" in arguments, "--pipeline" in arguments
    statements = [a for a in arguments if not a.startswith("--")]
    with psycopg.connect(autocommit=not begin) as connection:
        notice = lambda diag: print(diag.message_primary, file=sys.stderr, flush=True)
        connection.add_notice_handler(notice)
        if pipeline:
            return pipelined(connection, statements)
        for sql in statements:
            run(connection, sql)


main()
