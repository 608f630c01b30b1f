#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tools/test counts is true: each kind of log and of Bazel event, as it is met."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parent / "test_summary.py"
DOCTEST = "[doctest] test cases: {} | {} passed | {} failed | {} skipped\n"


def result(label, status, log):
    return {"id": {"testResult": {"label": label, "run": 1}},
            "testResult": {"status": status, "testActionOutput": [{"name": "test.log", "uri": f"file://{log}"}]}}


def completed(label, success):
    return {"id": {"targetCompleted": {"label": label}}, "completed": {"success": True} if success else {}}


class Summary(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def log(self, text):
        path = self.directory / f"{len(list(self.directory.iterdir()))}.log"
        path.write_text(text, encoding="utf-8")
        return path

    def summary(self, events, status, name="default"):
        (self.directory / f"{name}.json").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
        (self.directory / f"{name}.status").write_text(f"{status}\n", encoding="utf-8")
        done = subprocess.run([sys.executable, str(TOOL), str(self.directory), name], stdout=subprocess.PIPE,
                              text=True, check=False)
        return done.returncode, done.stdout.splitlines()[-1], done.stdout

    def test_cases_of_doctest_are_summed(self):
        events = [result("//a", "PASSED", self.log(DOCTEST.format(3, 3, 0, 0))),
                  result("//b", "PASSED", self.log(DOCTEST.format(4, 4, 0, 0)))]
        self.assertEqual(self.summary(events, 0)[:2], (0, "7 passed, 0 failed, 0 skipped"))

    def test_colours_do_not_hide_the_numbers(self):
        log = self.log("\x1b[0;36m[doctest] \x1b[0mtest cases: \x1b[0m 2\x1b[0m | \x1b[0;32m1 passed\x1b[0m | "
                       "\x1b[0;31m1 failed\x1b[0m |\n")
        self.assertEqual(self.summary([result("//a", "FAILED", log)], 3)[:2], (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_case_that_says_skipped_did_not_pass(self):
        log = self.log("SKIPPED: no /dev/fuse\n" + DOCTEST.format(3, 3, 0, 0))
        status, last, text = self.summary([result("//a", "PASSED", log)], 0)
        self.assertEqual((status, last), (0, "2 passed, 0 failed, 1 skipped"))
        self.assertIn("skipped: default //a: no /dev/fuse", text)

    def test_a_target_without_numbers_counts_as_one(self):
        events = [result("//a", "PASSED", self.log("fine\n")), result("//b", "FAILED", self.log("not so\n")),
                  result("//c", "PASSED", self.log("SKIPPED: not root\n"))]
        self.assertEqual(self.summary(events, 3)[:2], (1, "1 passed, 1 failed, 1 skipped"))

    def test_a_crash_after_good_cases_is_a_failure(self):
        log = self.log(DOCTEST.format(3, 3, 0, 0) + "==1==ERROR: LeakSanitizer: detected memory leaks\n")
        self.assertEqual(self.summary([result("//a", "FAILED", log)], 3)[:2], (1, "3 passed, 1 failed, 0 skipped"))

    def test_numbers_of_a_script_are_taken_as_they_are(self):
        log = self.log("5 passed, 0 failed, 2 skipped\n")
        self.assertEqual(self.summary([result("//a", "PASSED", log)], 0)[:2], (0, "5 passed, 0 failed, 2 skipped"))

    def test_a_target_that_does_not_build_is_a_failure(self):
        events = [completed("//a", True), completed("//b", False)]
        self.assertEqual(self.summary(events, 1)[:2], (1, "0 passed, 1 failed, 0 skipped"))

    def test_bazel_that_failed_without_saying_why_is_a_failure(self):
        self.assertEqual(self.summary([], 37)[:2], (1, "0 passed, 1 failed, 0 skipped"))
        self.assertEqual(self.summary([], 1)[:2], (1, "0 passed, 1 failed, 0 skipped"))
        self.assertEqual(self.summary([], 0)[:2], (1, "0 passed, 1 failed, 0 skipped"))

    def test_the_build_with_clang_counts_as_one(self):
        self.assertEqual(self.summary([completed("//a", True)], 0, "clang")[:2], (0, "1 passed, 0 failed, 0 skipped"))


if __name__ == "__main__":
    unittest.main()
