"""A pytest plugin that chooses tests, and writes what became of each as one JSON line, as it happens.

A test that begins and never ends, because it hung or took the interpreter with it, has a `begins` line and no
outcome: the runner counts it as hung and goes on behind it.

HOOP_SELECTION names a JSON file: `only` are the names of the tests to run, or null for all; `without` have been run;
`excluded` are never run, and a name that ends in `*` stands for all that begin so; `strip` is a regular expression of
what is no part of a name, because it differs from server to server.
"""

import json
import os
import re

import pytest

FILE = os.environ["HOOP_OUTCOMES"]
with open(os.environ["HOOP_SELECTION"], encoding="utf-8") as chosen:
    SELECTION = json.load(chosen)

# A test has three phases; the worst of them is its outcome.
WORST = ["passed", "skipped", "xfailed", "xpassed", "failed", "error"]
seen = {}
why = {}


def name(nodeid):
    return re.sub(SELECTION["strip"], "", nodeid) if SELECTION["strip"] else nodeid


def write(line):
    with open(FILE, "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def excluded(test):
    for pattern in SELECTION["excluded"]:
        if test.startswith(pattern[:-1]) if pattern.endswith("*") else test == pattern:
            return pattern
    return None


# Last: plugins of the suites add and rename tests here.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    kept, gone = [], []
    for item in items:
        test = name(item.nodeid)
        pattern = excluded(test)
        if pattern:
            write({"test": test, "excluded": pattern})
        wanted = SELECTION["only"] is None or test in SELECTION["only"]
        runs = wanted and not pattern and test not in SELECTION["without"]
        (kept if runs else gone).append(item)
    config.hook.pytest_deselected(items=gone)
    items[:] = kept


def pytest_collectreport(report):
    if report.failed:
        write({"test": report.nodeid, "outcome": "error", "why": brief(str(report.longrepr))})


def pytest_runtest_logstart(nodeid, location):
    write({"test": name(nodeid), "begins": True})


def pytest_runtest_logreport(report):
    test = name(report.nodeid)
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
    elif outcome == "failed" and report.when != "call":
        outcome = "error"
    worst = max(seen.get(test, "passed"), outcome, key=WORST.index)
    seen[test] = worst
    if outcome in ("failed", "error"):
        why.setdefault(test, brief(report.longreprtext))
    if report.when == "teardown":
        write({"test": test, "outcome": worst, "why": why.get(test, "")})


def brief(text):
    """The line that says what was raised."""
    lines = text.strip().splitlines() or [""]
    raised = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (raised or lines[-1:])[0][:300]
