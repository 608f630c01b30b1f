#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what the Bazel runs of tools/test did: usage: test_summary.py DIRECTORY CONFIGURATION...

DIRECTORY holds, for each configuration, NAME.json (Bazel's build events) and NAME.status (its exit status).

What counts as one:
  a test case   of a test program whose log has doctest's summary, or a line `N passed, N failed, N skipped`
  a test target that has neither
  a target      that does not build, or whose log shows no failed case although it failed (a sanitizer's report, a crash,
                a time-out)
A test that cannot run on this machine prints a line `SKIPPED: reason` and succeeds; it is skipped, not passed.
"""

import json
import pathlib
import re
import sys
import urllib.parse

DOCTEST = re.compile(
    r"^\[doctest\] test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|(?:\s*(\d+) skipped)?", re.M)
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)
SKIPPED = re.compile(r"^(?:.*: )?SKIPPED: (.*)$", re.M)
ANSI = re.compile(r"\x1b\[[0-9;]*m")

# Exit statuses of Bazel with nothing more to say than the events: success, build failed, tests failed, no tests.
EXPECTED_STATUS = (0, 1, 3, 4)


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.skips = []

    def fail(self, count, what):
        self.failed += count
        self.failures.append(what)


def count_log(text, succeeded):
    """Returns (passed, failed, skipped, reasons) of one test log."""
    text = ANSI.sub("", text)
    reasons = SKIPPED.findall(text)
    doctest = DOCTEST.findall(text)
    own = COUNTS.findall(text)
    if own:
        passed, failed, skipped = map(int, own[-1])
    elif doctest:
        passed = sum(int(m[1]) for m in doctest)
        failed = sum(int(m[2]) for m in doctest)
        # Cases that said SKIPPED ended without an error, so doctest has them among the passed.
        said = min(len(reasons), passed)
        passed -= said
        skipped = said
    elif reasons and succeeded:
        return 0, 0, 1, reasons
    else:
        passed, failed, skipped = int(succeeded), int(not succeeded), 0
    if not succeeded and failed == 0:
        failed = 1
    return passed, failed, skipped, reasons


def file_of(outputs):
    for output in outputs:
        if output.get("name") == "test.log":
            return urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
    return None


def count_configuration(directory, name, counts):
    status_file = directory / f"{name}.status"
    status = int(status_file.read_text()) if status_file.exists() else -1
    events_file = directory / f"{name}.json"
    lines = events_file.read_text().splitlines() if events_file.exists() else []
    before = counts.failed
    for line in lines:
        event = json.loads(line)
        ident = event["id"]
        if "testResult" in ident:
            label = ident["testResult"]["label"]
            result = event["testResult"]
            log = file_of(result.get("testActionOutput", []))
            text = pathlib.Path(log).read_text(errors="replace") if log else ""
            succeeded = result["status"] == "PASSED"
            passed, failed, skipped, reasons = count_log(text, succeeded)
            counts.passed += passed
            counts.skipped += skipped
            if failed:
                counts.fail(failed, f"{name} {label}: {failed} failed ({result['status']}, {log})")
            for reason in reasons:
                counts.skips.append(f"{name} {label}: {reason}")
        elif "targetCompleted" in ident and "aborted" not in event:
            if not event.get("completed", {}).get("success"):
                counts.fail(1, f"{name} {ident['targetCompleted']['label']}: does not build")
        elif "pattern" in ident and "aborted" in event:
            counts.fail(1, f"{name}: {event['aborted'].get('description', 'cannot load the targets')}")
    if status not in EXPECTED_STATUS or (status in (1, 3) and counts.failed == before):
        counts.fail(1, f"{name}: bazel ended with status {status}")
    elif status == 0 and not lines:
        counts.fail(1, f"{name}: bazel left no record")


def main():
    directory = pathlib.Path(sys.argv[1])
    counts = Counts()
    for name in sys.argv[2:]:
        count_configuration(directory, name, counts)
        if name == "clang" and (directory / "clang.status").read_text().strip() == "0":
            counts.passed += 1  # the build itself is what is tested
    print("== summary")
    for line in counts.skips:
        print(f"skipped: {line}")
    for line in counts.failures:
        print(f"FAILED: {line}")
    print(f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
