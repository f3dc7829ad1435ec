#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs unittest modules and reports in TAP, with a line when each test ends."""

import argparse
import faulthandler
import importlib.util
import os
import signal
import sys
import unittest
from pathlib import Path


TIME_LIMIT = 2400  # seconds for a test with its class's set-up; then all stacks are printed


class TapResult(unittest.TestResult):
    """Collects the problems of each test and reports them when it ends."""

    def __init__(self):
        super().__init__()
        self.reported: set[unittest.TestCase] = set()
        self.bad = False
        # Problems and skips of a whole class or module: text, and true for a skip.
        self.outside: dict[str, tuple[str, bool]] = {}
        self.test = None

    def startTest(self, test):
        super().startTest(test)
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
        self.test = test
        self.problems: list[str] = []
        self.skip_reason = None

    def stopTest(self, test):
        super().stopTest(test)
        self.test = None
        self.report(test, self.problems, self.skip_reason)

    def addProblem(self, test, text: str):
        self.bad = True
        if self.test:
            self.problems.append(text)
            return
        # The test is a stand-in named "setUpClass (module.Class)".
        self.outside[test.id().partition("(")[2].rstrip(")")] = (text, False)
        print(diagnostic(text), flush=True)

    def addError(self, test, err):
        self.addProblem(test, self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        self.addProblem(test, self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        if err:
            self.addProblem(test, f"{subtest.id()}\n{self._exc_info_to_string(err, test)}")

    def addUnexpectedSuccess(self, test):
        self.addProblem(test, "passes, though marked as an expected failure")

    def addSkip(self, test, reason):
        if self.test:
            self.skip_reason = reason
        else:
            self.outside[test.id().partition("(")[2].rstrip(")")] = (reason, True)

    def report(self, test, problems, skip_reason):
        self.reported.add(test)
        verdict = "not ok" if problems else "ok"
        skip = f" # SKIP {skip_reason}" if skip_reason and not problems else ""
        print(f"{verdict} {len(self.reported)} - {test.id()}{skip}", flush=True)
        for text in problems:
            print(diagnostic(text), flush=True)

    def report_not_run(self, test):
        for name, (text, skipped) in self.outside.items():
            if test.id().startswith(name + "."):
                self.report(test, [] if skipped else ["not run"], text)
                return
        self.bad = True
        self.report(test, ["not run"], None)


def diagnostic(text: str) -> str:
    return "\n".join(f"# {line}" for line in text.splitlines())


def tests_in(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found = []
    for test in suite:
        found += tests_in(test) if isinstance(test, unittest.TestSuite) else [test]
    return found


def load(path: Path) -> unittest.TestSuite:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", action="append", default=[], metavar="TEXT",
                        help="only tests with TEXT in their name")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args()

    # Background jobs of a shell ignore these, and child processes would inherit that.
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)

    os.umask(0o022)  # some tests compare modes

    tests = [test for file in options.files for test in tests_in(load(file))
             if not options.k or any(text in test.id() for text in options.k)]
    print(f"1..{len(tests)}" + ("" if tests else " # SKIP no test selected"), flush=True)
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True)
    result = TapResult()
    unittest.TestSuite(tests).run(result)
    for test in tests:
        if test not in result.reported:
            result.report_not_run(test)
    return 1 if result.bad else 0


if __name__ == "__main__":
    sys.exit(main())
