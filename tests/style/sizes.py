#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that functions fit on a screen: median 8 lines, nine of ten within 30, none above 60.

With a second argument N, prints the N longest instead, and the lines of code of each folder.
"""

import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median, quantiles

FOLDERS = ('vmm', 'devices', 'arch', 'firmware')


def functions(path: Path):
    """Yields (lines of the body, name). clang-format puts a function's braces in column one."""
    name, start = '', 0
    for number, line in enumerate(path.read_text().splitlines()):
        if match := re.match(r'[a-z_].*?(\w+)\(', line):
            name = match[1]
        elif line == '{':
            start = number
        elif line == '}' and start:
            yield number - start - 1, name
            start = 0


root = Path(sys.argv[1])
sources = sorted(p for folder in FOLDERS for p in (root / folder).rglob('*.[ch]'))
sizes = sorted(((size, f'{p.relative_to(root)}:{name}') for p in sources
                for size, name in functions(p)), reverse=True)
lengths = [size for size, _ in sizes]

if len(sys.argv) > 2:
    for size, name in sizes[:int(sys.argv[2])]:
        print(f'{size:4} {name}')
    code = Counter()
    for p in sources:
        code[p.relative_to(root).parts[0]] += sum(
            1 for line in p.read_text().splitlines() if line.strip() and not re.match(r'\s*(/?\*|//)', line))
    for folder, lines in code.items():
        print(f'{lines:6} lines of code in {folder}/')
    sys.exit()

checks = {
    f'median {median(lengths):.0f} of at most 8 lines': median(lengths) <= 8,
    f'nine of ten within {quantiles(lengths, n=10)[-1]:.0f} of 30 lines': quantiles(lengths, n=10)[-1] <= 30,
    'none above 60 lines': lengths[0] <= 60,
}
print(f'1..{len(checks)}')
for number, (what, good) in enumerate(checks.items(), 1):
    print(f"{'ok' if good else 'not ok'} {number} - {what}")
for size, name in sizes[:3]:
    print(f'# {size} {name}')
sys.exit(not all(checks.values()))
