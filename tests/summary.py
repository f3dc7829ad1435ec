#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sums up what was run: from logs of `meson test`, and files *.tap without a plan.

Prints each failure and each reason for a skip, and last "N passed, N failed, N skipped". A test
program that reported nothing, or less than it planned, is a failure.
"""

import json
import re
import sys
from pathlib import Path

RESULT = re.compile(r'^(not )?ok\b\s*\d*\s*-?\s*(.*?)(?:\s*# (SKIP|TODO)\b\s*(.*))?$', re.I)
PLAN = re.compile(r'^1\.\.(\d+)\s*(?:# SKIP\s*(.*))?$', re.I)

passed = failed = skipped = 0


def fail(name: str, why: str):
    global failed
    failed += 1
    print(f'FAILED   {name}: {why}')


def skip(name: str, why: str):
    global skipped
    skipped += 1
    print(f'skipped  {name}: {why or "no reason given"}')


def read_tap(program: str, output: str):
    """Counts one program's results; returns how many it reported and how many it planned."""
    global passed
    seen, planned = 0, None
    for line in output.splitlines():
        if plan := PLAN.match(line):
            planned = int(plan[1])
            if planned == 0:
                skip(program, plan[2])
        elif line.startswith('Bail out!'):
            fail(program, line)
        elif result := RESULT.match(line):
            seen += 1
            name = f'{program}: {result[2]}'
            if result[1]:
                fail(name, 'see the log')
            elif result[3]:
                skip(name, result[4])
            else:
                passed += 1
    return seen, planned


for log in sys.argv[1:]:
    if not Path(log).exists():
        fail(log, 'the suite did not run')
        continue
    if log.endswith('.tap'):
        read_tap('scripts/test', Path(log).read_text())
        continue
    for line in Path(log).read_text().splitlines():
        test = json.loads(line)
        program = f"{Path(log).parent.parent.name}/{test['name']}"
        before = failed
        output = test.get('stdout', '')
        seen, planned = read_tap(program, output)
        if planned is None and test['result'] == 'SKIP':
            skip(program, output.strip())  # a program that skips by its exit status
        elif planned is None and seen == 0 and test['result'] == 'OK':
            passed += 1  # a program judged by its exit status
        elif planned is None or (seen != planned and planned > 0):
            fail(program, f'reported {seen} of {planned} planned tests')
        if test['result'] in ('FAIL', 'ERROR', 'TIMEOUT', 'INTERRUPT') and failed == before:
            fail(program, f"ended with {test['result']}, exit status {test['returncode']}")

print(f'{passed} passed, {failed} failed, {skipped} skipped')
sys.exit(failed > 0 or passed == 0)
