"""Writes what became of a case as one line of JSON, for the runner that compares both sides.

HOOP_OUTCOMES names the file. `seen` is everything that a user sees of the case: how it ended, what was printed.
As a program: `told.py NAME EXPECTED STATUS OUT ERR`, for the scripts of the shell (cases.sh).
"""

import contextlib
import hashlib
import json
import os
import sys

# What is longer is told by its beginning, its length and its digest.
BRIEF = 4000


def write(line):
    with open(os.environ["HOOP_OUTCOMES"], "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def brief(data):
    if isinstance(data, str):
        data = data.encode()
    text = data[:BRIEF].decode(errors="backslashreplace")
    if len(data) > BRIEF:
        text += f"… {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"
    return text


@contextlib.contextmanager
def case(name, raises=False):
    """Yields a list for what is seen. What is raised is seen too, and fails the case, or is what it is about."""
    write({"test": name, "begins": True})
    seen = []
    outcome = "failed" if raises else "passed"
    try:
        yield seen
    except Exception as error:  # noqa: BLE001: whatever a client raises is what its user sees
        outcome = "passed" if raises else "failed"
        seen.append(f"{type(error).__name__}: {error}")
    parts = [brief(s) if isinstance(s, (str, bytes)) else repr(s) for s in seen]
    text = "\n".join(parts)
    write({"test": name, "outcome": outcome, "why": text[-300:] if outcome == "failed" else "", "seen": text})


def end():
    """The last of a script: without it a part of the script is missing."""
    write({"test": "the end", "outcome": "passed", "why": "", "seen": ""})


def main():
    name, expected, status, out, err = sys.argv[1:]
    with open(out, "rb") as file:
        printed = file.read()
    with open(err, "rb") as file:
        errors = file.read()
    seen = f"status {status}\n{brief(printed)}\n--- errors\n{brief(errors)}"
    outcome = "passed" if status == expected else "failed"
    why = brief(errors or printed).strip().splitlines()[-1:] or [""]
    write({"test": name, "outcome": outcome, "why": f"status {status}: {why[0][:200]}", "seen": seen})


if __name__ == "__main__":
    main()
