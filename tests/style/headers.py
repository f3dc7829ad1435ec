#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that each header compiles alone."""

import subprocess
import sys
from pathlib import Path

root, build, compiler = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
headers = sorted(p for folder in ('vmm', 'devices', 'arch', 'firmware', 'tests/unit')
                 for p in (root / folder).rglob('*.h'))
flags = ['-std=c17', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter',
         '-fsyntax-only', '-I', str(root), '-I', build, '-x', 'c']
failed = False
print(f'1..{len(headers)}')
for number, header in enumerate(headers, 1):
    run = subprocess.run([*compiler, *flags, str(header)], capture_output=True, text=True)
    failed |= run.returncode != 0
    print(f"{'not ok' if run.returncode else 'ok'} {number} - {header.relative_to(root)}")
    for line in run.stderr.splitlines():
        print(f'# {line}')
sys.exit(failed)
