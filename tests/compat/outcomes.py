"""A pytest plugin that writes what became of each test as one JSON line, as it happens.

A test that begins and never ends, because it hung or took the interpreter with it, has a `begins` line and no
outcome: the runner counts it as hung and goes on behind it.
"""

import json
import os

FILE = os.environ["HOOP_OUTCOMES"]

# A test has three phases; the worst of them is its outcome.
WORST = ["passed", "skipped", "xfailed", "xpassed", "failed", "error"]
seen = {}
why = {}


def write(line):
    with open(FILE, "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid, location):
    write({"test": nodeid, "begins": True})


def pytest_runtest_logreport(report):
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
    elif outcome == "failed" and report.when != "call":
        outcome = "error"
    worst = max(seen.get(report.nodeid, "passed"), outcome, key=WORST.index)
    seen[report.nodeid] = worst
    if outcome in ("failed", "error"):
        why.setdefault(report.nodeid, brief(report.longreprtext))
    if report.when == "teardown":
        write({"test": report.nodeid, "outcome": worst, "why": why.get(report.nodeid, "")})


def brief(text):
    """The line that says what was raised."""
    lines = text.strip().splitlines() or [""]
    raised = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (raised or lines[-1:])[0][:300]
