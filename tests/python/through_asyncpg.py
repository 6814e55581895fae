"""What a program sees that uses asyncpg: one JSON line per case, nothing that differs by run.

asyncpg speaks the binary protocol of its own making, so it is the second opinion on psycopg's.
"""

import asyncio
import io
import json

import asyncpg

TABLE = "asyncpg_contract"


def show(case, saw):
    print(json.dumps({"case": case, "saw": saw}, default=str), flush=True)


def failure(error):
    return {"sqlstate": error.sqlstate, "message": error.message}


async def main():
    connection = await asyncpg.connect()
    await connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
    await connection.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, note text)")
    for case in CASES:
        show(case.__name__, await case(connection))
    await connection.execute(f"DROP TABLE {TABLE}")
    await connection.close()


async def simple(connection):
    return await connection.execute("SELECT 1; SELECT 2")


async def parameters(connection):
    row = await connection.fetchrow(
        "SELECT $1::int, $2::text, $3::bytea, $4::int[]", 7, "ünïcode 😀", b"\x00\xff", [1, None, 3]
    )
    return [str(value) for value in row.values()]


async def prepared(connection):
    statement = await connection.prepare("SELECT $1::int * 2")
    return [await statement.fetchval(n) for n in range(8)]


async def many(connection):
    rows = [(n, f"note {n}") for n in range(100, 150)]
    await connection.executemany(f"INSERT INTO {TABLE} VALUES ($1, $2)", rows)
    return await connection.fetchval(f"SELECT count(*) FROM {TABLE}")


async def copy_in(connection):
    rows = [(n, "copied") for n in range(1000, 3000)]
    return await connection.copy_records_to_table(TABLE, records=rows)


async def copy_out(connection):
    out = io.BytesIO()
    query = f"SELECT id, note FROM {TABLE} WHERE id >= 1000 ORDER BY id"
    status = await connection.copy_from_query(query, output=out)
    return [status, len(out.getvalue()), out.getvalue()[:20].decode()]


async def cancelled(connection):
    try:
        await connection.execute("SELECT pg_sleep(30)", timeout=0.5)
        seen = "not cancelled"
    except asyncio.TimeoutError:
        seen = "timed out"
    return [seen, await connection.fetchval("SELECT 1")]


async def notification(connection):
    heard = asyncio.Future()
    await connection.add_listener("news", lambda _c, _p, channel, text: heard.set_result([channel, text]))
    await connection.execute("NOTIFY news, 'hello'")
    return await asyncio.wait_for(heard, 5)


async def error(connection):
    try:
        await connection.fetch("SELECT nothing FROM nowhere")
    except asyncpg.PostgresError as error:
        return [failure(error), await connection.fetchval("SELECT 'on it goes'")]


async def transaction(connection):
    seen = []
    try:
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {TABLE} VALUES (7000, 'kept?')")
            await connection.execute("SELECT 1/0")
    except asyncpg.PostgresError as error:
        seen.append(failure(error))
    seen.append(await connection.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = 7000"))
    return seen


async def server_cursor(connection):
    seen = 0
    async with connection.transaction():
        async for _ in connection.cursor("SELECT n FROM generate_series(1, 500) n", prefetch=50):
            seen += 1
    return seen


async def types(connection):
    row = await connection.fetchrow(
        "SELECT 1.25::float8, '1815-12-10'::date, '2 days'::interval, 12.34::numeric, true,"
        " '{\"a\": 1}'::jsonb, '00000000-0000-0000-0000-000000000001'::uuid, '10.0.0.0/8'::cidr"
    )
    return [str(value) for value in row.values()]


async def large(connection):
    rows = await connection.fetch("SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n")
    return [len(rows), sum(len(row[1]) for row in rows)]


CASES = [
    simple, parameters, prepared, many, copy_in, copy_out, cancelled, notification, error,
    transaction, server_cursor, types, large,
]

if __name__ == "__main__":
    asyncio.run(main())
