"""Many watches at once, or what they are to see; `main.rs` starts it as an agent and past hoop.

watch COUNT   opens that many watches of the namespace's ConfigMaps, says `ready`, and goes on until
              each has seen the one called `last`; prints for each how many events there were and a
              digest of them in their order, as one line of JSON
churn SECONDS makes, changes and deletes ConfigMaps for so long, and `last` at the end

An API server ends watches that are too slow, so that how fast this machine is would be tested: the
watches write to a file how many events the slowest has seen, and churn waits while that is far behind.
"""

import argparse
import asyncio
import hashlib
import json
import os
import ssl
import sys
import time


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["watch", "churn"])
    parser.add_argument("number", type=int)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--version", default="")
    parser.add_argument("--progress", required=True)
    return parser.parse_args()


ASKED = arguments()
PATH = f"/api/v1/namespaces/{ASKED.namespace}/configmaps"


def trust():
    context = ssl.create_default_context(cafile=ASKED.ca)
    if ASKED.certificate:
        context.load_cert_chain(ASKED.certificate, ASKED.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


TRUST = trust()


async def connect():
    return await asyncio.open_connection(ASKED.host, ASKED.port, ssl=TRUST, limit=1 << 22)


async def ask(reader, writer, method, target, body=None, kind="application/json"):
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: {ASKED.host}:{ASKED.port}\r\n"
    head += "Authorization: Bearer nobody-knows-it\r\nAccept: application/json\r\n"
    if content:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    writer.write(head.encode() + b"\r\n" + content)
    await writer.drain()
    status = int((await reader.readline()).split()[1])
    headers = {}
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def pieces(reader, headers):
    if "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while length := int(await reader.readline(), 16):
        yield await reader.readexactly(length)
        await reader.readline()
    await reader.readline()


async def content(reader, headers):
    return b"".join([piece async for piece in pieces(reader, headers)])


# Events that the slowest watch may be behind.
BEHIND = 10


async def watch(ready, counts, number):
    reader, writer = await connect()
    # With HTTP's own time-out out of the way.
    target = f"{PATH}?watch=1&resourceVersion={ASKED.version}&timeoutSeconds=3600"
    status, headers = await ask(reader, writer, "GET", target)
    if status != 200:
        sys.exit(f"{status}: {await content(reader, headers)}")
    ready.release()
    digest, count, rest = hashlib.sha256(), 0, b""
    async for piece in pieces(reader, headers):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            event = json.loads(line)
            seen = event["object"]["metadata"]
            told = f"{event['type']} {seen['name']} {seen['resourceVersion']}\n"
            digest.update(told.encode())
            count += 1
            counts[number] = count
            if seen["name"] == "last":
                writer.close()
                return {"count": count, "digest": digest.hexdigest()}
    sys.exit(f"a watch ended after {count} events")


async def progress(counts):
    while True:
        fresh = ASKED.progress + ".new"
        with open(fresh, "w") as file:
            file.write(str(min(counts)))
        os.rename(fresh, ASKED.progress)
        await asyncio.sleep(0.05)


async def watches():
    ready, counts = asyncio.Semaphore(0), [0] * ASKED.number
    each = range(ASKED.number)
    tasks = [asyncio.create_task(watch(ready, counts, number)) for number in each]
    telling = asyncio.create_task(progress(counts))
    for _ in tasks:
        waiting = asyncio.create_task(ready.acquire())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            sys.exit("a watch did not begin")
    print("ready", flush=True)
    for seen in await asyncio.gather(*tasks):
        print(json.dumps(seen), flush=True)
    telling.cancel()


def slowest():
    with open(ASKED.progress) as file:
        return int(file.read())


async def churn():
    reader, writer = await connect()

    async def do(method, target, body=None, kind="application/json"):
        status, headers = await ask(reader, writer, method, target, body, kind)
        answer = await content(reader, headers)
        if status >= 300:
            sys.exit(f"{method} {target}: {status} {answer}")

    # One that is stuck is seen by whoever waits for the watches.
    until, number = time.monotonic() + ASKED.number, 0
    while time.monotonic() < until:
        name = f"map-{number}"
        made = {"metadata": {"name": name}, "data": {"text": "x" * 400}}
        await do("POST", PATH, made)
        for turn in range(3):
            change = {"data": {"turn": str(turn)}}
            await do("PATCH", f"{PATH}/{name}", change, "application/merge-patch+json")
        await do("DELETE", f"{PATH}/{name}")
        number += 1
        while number * 5 - slowest() > BEHIND and time.monotonic() < until:
            await asyncio.sleep(0.05)
    await do("POST", PATH, {"metadata": {"name": "last"}})
    print(json.dumps({"objects": number}), flush=True)


asyncio.run(watches() if ASKED.what == "watch" else churn())
