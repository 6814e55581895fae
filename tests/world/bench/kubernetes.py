"""What a client that holds its connection sees of an API server: `bench/kubernetes.rs` starts it for each route.

fill      makes the objects that are asked for
measure   prints one JSON object: `get` in µs and `list` and `watch` in ms (medians), `large` in MB/s
"""

import argparse
import http.client
import json
import ssl
import statistics
import sys
import time
import urllib.parse

PARSER = argparse.ArgumentParser()
PARSER.add_argument("what", choices=["fill", "measure"])
PARSER.add_argument("url")
PARSER.add_argument("--ca")
PARSER.add_argument("--certificate")
PARSER.add_argument("--key")
PARSER.add_argument("--gets", type=int, default=300)
ASKED = PARSER.parse_args()
URL = urllib.parse.urlsplit(ASKED.url)
MAPS = "/api/v1/namespaces/{}/configmaps"


def connect():
    if URL.scheme == "http":
        return http.client.HTTPConnection(URL.hostname, URL.port, timeout=60)
    trust = ssl.create_default_context(cafile=ASKED.ca)
    if ASKED.certificate:
        trust.load_cert_chain(ASKED.certificate, ASKED.key)
    return http.client.HTTPSConnection(URL.hostname, URL.port, timeout=60, context=trust)


def ask(connection, method, path, body=None, kind="application/json"):
    headers = {"Accept": "application/json", "Content-Type": kind}
    if URL.scheme == "https" and not ASKED.certificate:
        headers["Authorization"] = "Bearer nobody-knows-it"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection.getresponse()


def whole(connection, method, path, body=None, kind="application/json"):
    response = ask(connection, method, path, body, kind)
    content = response.read()
    if response.status >= 300:
        sys.exit(f"{method} {path}: {response.status} {content[:500]}")
    return content


def fill():
    connection = connect()
    for namespace, count, size in (("page", 100, 200), ("large", 20, 500_000)):
        whole(connection, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        for number in range(count):
            text = "".join(f"line {line} of some configuration\n" for line in range(size // 30 + 1))
            made = {"metadata": {"name": f"map-{number}"}, "data": {"text": text[:size]}}
            whole(connection, "POST", MAPS.format(namespace), made)


def timed(times, work):
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        size = work()
        taken.append((time.perf_counter() - started, size))
    return taken


def median(taken):
    return statistics.median(seconds for seconds, _ in taken)


def changes(watching, connection, times):
    """From a change's request until the watch tells of it."""
    response = ask(watching, "GET", MAPS.format("page") + "?watch=1&fieldSelector=metadata.name=map-1")
    if response.status != 200:
        sys.exit(f"watch: {response.status} {response.read(500)}")
    response.readline()
    taken = []
    for turn in range(times):
        change = {"data": {"turn": f"{time.time()} {turn}"}}
        started = time.perf_counter()
        whole(connection, "PATCH", MAPS.format("page") + "/map-1", change, "application/merge-patch+json")
        response.readline()
        taken.append((time.perf_counter() - started, 0))
    return taken


def measure():
    connection = connect()
    one = lambda: len(whole(connection, "GET", MAPS.format("page") + "/map-0"))
    page = lambda: len(whole(connection, "GET", MAPS.format("page")))
    large = lambda: len(whole(connection, "GET", MAPS.format("large")))
    timed(20, one)
    lists = timed(3, large)
    print(
        json.dumps(
            {
                "get": median(timed(ASKED.gets, one)) * 1e6,
                "list": median(timed(max(ASKED.gets // 10, 5), page)) * 1e3,
                "large": statistics.median(size / seconds for seconds, size in lists) / 1e6,
                "watch": median(changes(connect(), connection, max(ASKED.gets // 10, 5))) * 1e3,
            }
        )
    )


fill() if ASKED.what == "fill" else measure()
