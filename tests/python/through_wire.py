"""What a client sees that speaks message by message: one JSON line per case, nothing that differs by run.

These are the corners that drivers seldom reach: portals that are suspended, COPY that fails or is
cancelled, functions called by number, versions that nobody speaks.
"""

import json
import os
import socket
import struct
import threading
import time

from wire import (
    FLUSH, SYNC, Connection, at_once, bind, close, execute, message, parse, query, startup, tell, text,
)

TABLE = "wire_contract"
COPY_DONE = message(b"c")
OID = {"lo_creat": 957, "lo_open": 952, "lowrite": 955, "loread": 954, "lo_lseek64": 3170, "lo_close": 953}
OID |= {"lo_tell64": 3171, "lo_truncate64": 3172, "lo_unlink": 964}


def described(name, portal=True):
    return message(b"D", (b"P" if portal else b"S") + text(name))


def limited(rows, portal=""):
    return message(b"E", text(portal) + struct.pack("!i", rows))


def copy_data(data):
    return message(b"d", data)


def copy_fail(why):
    return message(b"f", text(why))


def fields(body):
    """All fields of an error or notice, but those that name a line of the server's source."""
    parts = [part for part in body.split(b"\x00") if part]
    told = {part[:1].decode(): part[1:].decode() for part in parts if part[:1] not in b"FLR"}
    if told["C"] == "34000":
        # hoop says in its own words that a portal is not known, under the server's code.
        told = {"C": told["C"]}
    return told


def fully(kind, body):
    """One message with all that it says."""
    if kind == "E" or kind == "N":
        return [kind, fields(body)]
    if kind == "S":
        return ["S", body.split(b"\x00")[0].decode(), body.split(b"\x00")[1].decode()]
    if kind == "A":
        channel, payload = body[4:].split(b"\x00")[:2]
        return ["A", channel.decode(), payload.decode()]
    if kind == "T":
        names, at = [], 2
        for _ in range(struct.unpack("!h", body[:2])[0]):
            end = body.index(b"\x00", at)
            kinds = struct.unpack("!ihihih", body[end + 1 : end + 19])
            names.append([body[at:end].decode(), *kinds[2:]])
            at = end + 19
        return ["T", names]
    if kind in "dGHWt":
        return [kind, body.hex() if len(body) < 200 else len(body)]
    return [kind, tell(kind, body) or len(body)]


def until(connection, last="Z", most=1000):
    """Everything up to a message of that kind, in full."""
    seen = []
    while len(seen) < most:
        got = connection.next()
        if got is None:
            return seen + ["(closed)"]
        seen.append(fully(*got))
        if got[0] == last:
            return seen
    return seen


def said(connection, data, last="Z"):
    connection.send(data)
    return until(connection, last)


def short(seen):
    """A long run of one kind as its length."""
    out = []
    for entry in seen:
        if out and isinstance(out[-1], list) and out[-1][0] == "many" and out[-1][1] == entry[0]:
            out[-1][2] += 1
        elif out and out[-1][0] == entry[0] and entry[0] in "dD":
            out[-1] = ["many", entry[0], 2]
        else:
            out.append(entry)
    return out


def fresh():
    connection = Connection()
    connection.open()
    return connection


def portal_suspended(connection):
    seen = said(connection, query("BEGIN"))
    make = parse("", "SELECT n, repeat('x', n) FROM generate_series(1, 5) n") + bind("", "walk")
    seen += said(connection, make + described("walk") + limited(2, "walk") + SYNC)
    seen += said(connection, limited(2, "walk") + SYNC)
    seen += said(connection, limited(2, "walk") + limited(2, "walk") + SYNC)
    seen += said(connection, message(b"C", b"P" + text("walk")) + SYNC)
    seen += said(connection, limited(1, "walk") + SYNC)
    return seen + said(connection, query("ROLLBACK"))


def portal_without_description(connection):
    """The client that knows the columns asks for rows alone."""
    connection.send(parse("", "SELECT 1, 'two'") + bind("") + limited(1) + limited(1) + FLUSH)
    seen = until(connection, "C")
    return seen + said(connection, SYNC)


def two_portals_at_once(connection):
    seen = said(connection, query("BEGIN"))
    for name in ("a", "b"):
        seen += said(
            connection,
            parse(name, f"SELECT '{name}' || n FROM generate_series(1, 4) n") + bind(name, name) + SYNC,
        )
    turns = b"".join(limited(1, name) for name in ("a", "b", "a", "b"))
    seen += said(connection, turns + SYNC)
    return seen + said(connection, query("COMMIT") ) + said(connection, limited(1, "a") + SYNC)


def empty_queries(connection):
    seen = said(connection, query("")) + said(connection, query("  ;; -- nothing\n"))
    return seen + said(connection, at_once("", "") + SYNC) + said(connection, at_once("", "/**/") + SYNC)


def statements_are_described(connection):
    make = parse("d", "SELECT $1::int AS a, $2::text[] AS b, relname AS c FROM pg_class WHERE oid = $1")
    seen = said(connection, make + described("d", portal=False) + SYNC)
    seen += said(connection, parse("n", "LISTEN nowhere") + described("n", portal=False) + SYNC)
    return seen + said(connection, close("d") + close("never was") + SYNC)


def names_that_are_not(connection):
    seen = said(connection, bind("nobody") + execute() + SYNC)
    seen += said(connection, execute("nobody") + SYNC)
    seen += said(connection, described("nobody") + SYNC)
    return seen + said(connection, described("nobody", portal=False) + SYNC)


def a_name_twice(connection):
    seen = said(connection, parse("same", "SELECT 1") + SYNC)
    seen += said(connection, parse("same", "SELECT 2") + SYNC)
    seen += said(connection, bind("same") + execute() + SYNC)
    return seen + said(connection, close("same") + parse("same", "SELECT 3") + bind("same") + execute() + SYNC)


def names_of_63_bytes(connection):
    name = "n" * 63
    return said(connection, parse(name, "SELECT 63") + bind(name, name) + execute(name) + SYNC)


def errors_in_full(connection):
    seen = []
    for sql in (
        "SELECT 1/0",
        "SELECT nothing FROM pg_class",
        "SELECT 'x'::int",
        f"INSERT INTO {TABLE} VALUES (1, 'a'), (1, 'b')",
        "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'HP001', DETAIL = 'd', HINT = 'h', "
        "COLUMN = 'c', TABLE = 't', SCHEMA = 's', DATATYPE = 'y', CONSTRAINT = 'k'; END $$",
    ):
        seen += said(connection, query(sql))
    return seen


def notices_among_rows(connection):
    seen = said(
        connection,
        query(
            "CREATE OR REPLACE FUNCTION noisy(n int) RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE NOTICE 'at %', n USING DETAIL = 'd'; RETURN n; END $$"
        ),
    )
    seen += said(connection, query("SELECT noisy(n) FROM generate_series(1, 3) n"))
    return seen + said(connection, query("SET client_min_messages = warning; SELECT noisy(9)"))


def settings_are_reported(connection):
    seen = said(connection, query("SET application_name = 'other'"))
    seen += said(connection, query("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German, DMY'"))
    seen += said(connection, query("BEGIN; SET LOCAL IntervalStyle = 'iso_8601'"))
    return seen + said(connection, query("ROLLBACK")) + said(connection, query("RESET ALL"))


def copy_in_between(connection):
    connection.send(query(f"SELECT 1; COPY {TABLE} FROM STDIN; SELECT count(*) FROM {TABLE}"))
    seen = until(connection, "G")
    return seen + said(connection, copy_data(b"100\tone\n101\t") + copy_data(b"two\n") + COPY_DONE)


def copy_given_up(connection):
    connection.send(query(f"COPY {TABLE} FROM STDIN"))
    seen = until(connection, "G")
    seen += said(connection, copy_data(b"200\tnever\n") + copy_fail("changed my mind"))
    connection.send(at_once("", f"COPY {TABLE} FROM STDIN") + SYNC)
    seen += until(connection, "G")
    return seen + said(connection, copy_data(b"200\tnever\n") + copy_fail("again") + SYNC)


def copy_by_the_extended_protocol(connection):
    connection.send(at_once("", f"COPY {TABLE} FROM STDIN (FORMAT csv)") + FLUSH)
    seen = until(connection, "G")
    seen += said(connection, copy_data(b'300,"a, b"\n301,\n') + COPY_DONE + SYNC)
    return seen + said(connection, at_once("", f"COPY {TABLE} TO STDOUT (FORMAT csv)") + SYNC)


def copy_binary(connection):
    head = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 0)
    row = struct.pack("!hii", 2, 4, 400) + struct.pack("!i", 3) + b"bin"
    connection.send(query(f"COPY {TABLE} FROM STDIN (FORMAT binary)"))
    seen = until(connection, "G")
    seen += said(connection, copy_data(head + row + struct.pack("!h", -1)) + COPY_DONE)
    return seen + said(connection, query(f"COPY (SELECT * FROM {TABLE} WHERE id = 400) TO STDOUT (FORMAT binary)"))


def copy_that_the_server_refuses(connection):
    """The error comes while the client goes on sending."""
    connection.send(query(f"COPY {TABLE} FROM STDIN"))
    seen = until(connection, "G")
    connection.send(copy_data(b"not a number\tx\n"))
    for _ in range(50):
        connection.send(copy_data(b"1\t" + b"y" * 8000 + b"\n"))
    seen += said(connection, COPY_DONE)
    return seen + said(connection, query("SELECT 'after'"))


def copy_data_in_one_piece(connection):
    """A CopyData far above any buffer."""
    connection.send(query(f"COPY {TABLE} FROM STDIN"))
    seen = until(connection, "G")
    seen += said(connection, copy_data(b"500\t" + b"z" * 3000000 + b"\n") + COPY_DONE)
    return seen + said(connection, query(f"SELECT length(note) FROM {TABLE} WHERE id = 500"))


def cancel_key(connection):
    connection.send(startup(os.environ["PGUSER"], os.environ["PGDATABASE"]))
    key = None
    while (got := connection.next())[0] != "Z":
        if got[0] == "K":
            key = got[1]
    return key


def cancel(key):
    other = Connection()
    other.send(struct.pack("!ii", 8 + len(key), 80877102) + key)
    answer = other.next()
    other.socket.close()
    return ["cancel", answer]


def cancelled_while_copying_in(_):
    connection = Connection()
    key = cancel_key(connection)
    connection.send(query(f"COPY {TABLE} FROM STDIN"))
    seen = until(connection, "G")
    connection.send(copy_data(b"600\tlost\n"))
    seen.append(cancel(key))
    # A server that waits for data looks at the cancel when some comes.
    stop = threading.Event()

    def feed():
        while not stop.wait(0.05):
            connection.send(copy_data(b"601\tlost\n"))

    feeder = threading.Thread(target=feed)
    feeder.start()
    kind, error = fully(*connection.next())
    stop.set()
    feeder.join()
    # Which line it gave up at nobody can tell.
    error.pop("W", None)
    seen.append([kind, error])
    seen += until(connection)
    return seen + said(connection, query(f"SELECT count(*) FROM {TABLE} WHERE id >= 600"))


def cancelled_while_copying_out(_):
    connection = Connection()
    key = cancel_key(connection)
    connection.send(query("COPY (SELECT generate_series(1, 100000000), repeat('x', 500)) TO STDOUT"))
    seen = until(connection, "d")
    seen.append(cancel(key))
    rest = until(connection, most=10**9)
    # How many rows were under way nobody can tell.
    return seen + [entry for entry in rest if entry[0] != "d"]


def functions_by_number(connection):
    def call(name, *values):
        body = struct.pack("!ihhh", OID[name], 1, 1, len(values))
        for value in values:
            body += struct.pack("!i", len(value)) + value
        connection.send(message(b"F", body + struct.pack("!h", 1)))
        result = []
        while True:
            kind, body = connection.next()
            if kind == "V":
                result.append(body[4:])
            elif kind != "Z":
                result.append(fully(kind, body))
            else:
                return result

    def number(value, wide=False):
        return struct.pack("!q" if wide else "!i", value)

    said(connection, query("BEGIN"))
    (oid,) = call("lo_creat", number(-1))
    (descriptor,) = call("lo_open", oid, number(0x60000))
    seen = [call("lowrite", descriptor, bytes(range(256)) * 40)]
    seen.append(call("lo_lseek64", descriptor, number(250, wide=True), number(0)))
    seen.append(call("loread", descriptor, number(12)))
    seen.append(call("lo_tell64", descriptor))
    seen.append(call("lo_truncate64", descriptor, number(100, wide=True)))
    seen.append(call("loread", number(77), number(1)))
    seen.append([said(connection, query("ROLLBACK"))])
    return json.loads(json.dumps(seen, default=lambda value: value.hex()))


def flushed_step_by_step(connection):
    seen = []
    for step in (parse("f", "SELECT $1::int"), described("f", portal=False)):
        connection.send(step + FLUSH)
        seen.append(fully(*connection.next()))
    seen.append(fully(*connection.next()))
    body = text("") + text("f") + struct.pack("!hhi", 0, 1, 1) + b"7" + struct.pack("!hh", 1, 1)
    connection.send(message(b"B", body) + FLUSH)
    seen.append(fully(*connection.next()))
    connection.send(execute() + FLUSH)
    seen += [fully(*connection.next()) for _ in range(1)]
    got = connection.next()
    return seen + [fully(*got)] + said(connection, SYNC)


def several_segments_at_once(connection):
    ok, bad = at_once("", "SELECT 'ok'"), at_once("", "SELECT 1/0")
    connection.send(ok + bad + ok + SYNC + ok + SYNC + bad + SYNC + query("SELECT 'simple'") + ok + SYNC)
    seen = []
    for _ in range(5):
        seen += until(connection)
    return seen


def blocks_by_the_extended_protocol(connection):
    steps = ["BEGIN", f"INSERT INTO {TABLE} VALUES (700, 'kept')", "SAVEPOINT s", "SELECT 1/0"]
    seen = []
    for sql in [*steps, "SELECT 1", "ROLLBACK TO s", "SELECT 2", "COMMIT"]:
        seen += said(connection, at_once("", sql) + SYNC)
    return seen + said(connection, query(f"SELECT count(*) FROM {TABLE} WHERE id = 700"))


def notified_while_idle(connection):
    seen = said(connection, query("LISTEN wire_news"))
    other = fresh()
    said(other, query("NOTIFY wire_news, 'one'; NOTIFY wire_news, 'two'"))
    seen += until(connection, "A") + until(connection, "A")
    return seen + said(connection, query("UNLISTEN *"))


def terminated(_):
    connection = fresh()
    pid = said(connection, query("SELECT pg_backend_pid()"))[1][1].split('"')[1]
    other = fresh()
    seen = said(other, query(f"SELECT pg_terminate_backend({pid})"))
    return seen + until(connection)


def terminated_at_work(_):
    connection = fresh()
    pid = said(connection, query("SELECT pg_backend_pid()"))[1][1].split('"')[1]
    connection.send(query("SELECT pg_sleep(60)"))
    other = fresh()
    # Ended before it sleeps it answers less.
    asleep = query(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'")
    while said(other, asleep)[1][1].split('"')[1] != "1":
        time.sleep(0.05)
    said(other, query(f"SELECT pg_terminate_backend({pid})"))
    return until(connection)


def discarded(connection):
    said(connection, parse("gone", "SELECT 1") + SYNC)
    seen = said(connection, query("SET work_mem = '7MB'")) + said(connection, query("DISCARD ALL"))
    seen += said(connection, bind("gone") + execute() + SYNC)
    return seen + said(connection, query("SHOW work_mem"))


def ten_thousand_statements(connection):
    count = 10000
    for start in range(0, count, 500):
        names = range(start, start + 500)
        connection.send(b"".join(parse(f"s{n}", f"SELECT {n}") for n in names) + SYNC)
        answers = [connection.next() for _ in range(501)]
        assert [kind for kind, _ in answers] == ["1"] * 500 + ["Z"], answers[-3:]
    seen = []
    for n in (0, 1, 4999, count - 1):
        seen += said(connection, bind(f"s{n}") + execute() + SYNC)
    seen += said(connection, at_once("", "SELECT 'unnamed'") + SYNC)
    seen += said(connection, parse("one more", "SELECT 'more'") + bind("one more") + execute() + SYNC)
    return seen + said(connection, query("DEALLOCATE ALL")) + said(connection, bind("s0") + execute() + SYNC)


def greeted(version, *more):
    connection = Connection()
    body = struct.pack("!i", version) + text("user") + text(os.environ["PGUSER"])
    body += text("database") + text(os.environ["PGDATABASE"])
    for name, value in more:
        body += text(name) + text(value)
    body += b"\x00"
    connection.send(struct.pack("!i", len(body) + 4) + body)
    seen = until(connection)
    connection.socket.close()
    return [entry for entry in seen if entry[0] not in "SKR"]


def newer_versions(_):
    """3.2 of PostgreSQL 18, the version that stands for all to come, an extension of the protocol."""
    seen = greeted(0x00030002) + greeted(0x0003270F)
    return seen + greeted(0x00030000, ("_pq_.test_protocol_negotiation", "on"))


def refused_at_the_door(_):
    seen = [greeted(0x00030000, ("search_path", "public"), ("application_name", "x"))]
    seen.append(greeted(0x00030000, ("no_such_setting", "1")))
    seen.append(greeted(0x00030000, ("TimeZone", "Nowhere/Land")))
    seen.append(greeted(0x00030000, ("database", "no_such_database")))
    seen.append(greeted(0x00030000, ("options", "-c statement_timeout=1h -c search_path=pg_catalog")))
    return seen


def encryption_is_asked_for(_):
    connection = Connection()
    connection.send(struct.pack("!ii", 8, 80877103))
    tls = connection.socket.recv(1)
    connection.socket.close()
    return [["TLS", tls.decode()]]


def settings_at_the_door(_):
    """What the session starts with is what RESET goes back to."""
    connection = Connection()
    body = struct.pack("!i", 0x00030000) + text("user") + text(os.environ["PGUSER"])
    body += text("database") + text(os.environ["PGDATABASE"])
    body += text("options") + text("-c search_path=app,public -c statement_timeout=77s")
    body += text("DateStyle") + text("SQL, DMY") + b"\x00"
    connection.send(struct.pack("!i", len(body) + 4) + body)
    until(connection)
    ask = query("SHOW search_path; SHOW statement_timeout; SHOW datestyle")
    seen = said(connection, ask) + said(connection, query("SET search_path = x; RESET ALL"))
    return seen + said(connection, ask)


def quiet_for_a_while(connection):
    """For HOOP_IDLE_SECONDS through hoop: the server's own patience is not in question."""
    direct = "WIRE_SOURCE" in os.environ
    time.sleep(3 if direct else float(os.environ.get("HOOP_IDLE_SECONDS", "3")))
    return said(connection, query("SELECT 'still here'"))


CASES = [
    portal_suspended, portal_without_description, two_portals_at_once, empty_queries,
    statements_are_described, names_that_are_not, a_name_twice, names_of_63_bytes, errors_in_full,
    notices_among_rows, settings_are_reported, copy_in_between, copy_given_up,
    copy_by_the_extended_protocol, copy_binary, copy_that_the_server_refuses,
    copy_data_in_one_piece, cancelled_while_copying_in, cancelled_while_copying_out,
    functions_by_number, flushed_step_by_step, several_segments_at_once,
    blocks_by_the_extended_protocol, notified_while_idle, terminated, terminated_at_work, discarded,
    ten_thousand_statements, newer_versions, refused_at_the_door, settings_at_the_door,
    encryption_is_asked_for, quiet_for_a_while,
]


def main():
    setup = fresh()
    setup.send(query(f"DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (id int PRIMARY KEY, note text)"))
    setup.until_ready()
    for case in CASES:
        connection = fresh()
        connection.socket.settimeout(30)
        try:
            saw = short(case(connection))
        except (TimeoutError, ConnectionError, socket.error, TypeError) as error:
            saw = repr(error)
        print(json.dumps({"case": case.__name__, "saw": saw}), flush=True)
        connection.socket.close()
    setup.send(query(f"DROP TABLE {TABLE}"))
    setup.until_ready()


if __name__ == "__main__":
    main()
