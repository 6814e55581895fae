"""What a program sees of values that detectors know: one JSON line per way to ask for them."""

import json

import psycopg

VALUES = """
SELECT 'write to ada@example.com' AS note,
       4111111111111111::int8 AS number,
       4111111111111111::numeric AS amount,
       '{"mail": "ada@example.com", "card": 4111111111111111, "n": [1, 2]}'::jsonb AS document,
       ARRAY['ada@example.com', 'plain'] AS list,
       convert_to('ada@example.com', 'UTF8') AS bytes,
       'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS id,
       '2024-01-15 12:34:56'::timestamp AS at
"""


def show(case, saw):
    print(json.dumps({"case": case, "saw": saw}), flush=True)


def plain(value):
    return bytes(value).decode() if isinstance(value, (bytes, memoryview)) else value


def row(connection, binary):
    with connection.cursor(binary=binary) as cursor:
        values = cursor.execute(VALUES).fetchone()
    shown = [plain(value) for value in values]
    return [v if isinstance(v, (str, int, list, dict, type(None))) else str(v) for v in shown]


def copied(connection, options):
    query = f"COPY (SELECT 1, 'ada@example.com', 'plain') TO STDOUT {options}"
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        return b"".join(bytes(data) for data in copy)


def failed(connection):
    try:
        connection.execute("SELECT 'ada@example.com'::int")
    except psycopg.Error as error:
        return error.diag.message_primary


def main():
    with psycopg.connect(autocommit=True) as connection:
        show("text", row(connection, False))
        show("binary", row(connection, True))
        show("copy text", copied(connection, "").decode())
        show("copy csv", copied(connection, "(FORMAT csv)").decode())
        binary = copied(connection, "(FORMAT binary)")
        show("copy binary", [b"[masked:email]" in binary, b"ada@" in binary, len(binary)])
        show("error", failed(connection))
        parameters = ("4111 1111 1111 1111", "ada@example.com")
        show("parameters", list(connection.execute("SELECT %s::text, %s::text", parameters).fetchone()))


main()
