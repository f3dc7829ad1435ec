#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that clang-format would change nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
# Versions differ; the repository uses Debian 12's.
tool = shutil.which('clang-format-14') or shutil.which('clang-format')
version = subprocess.run([tool, '--version'], capture_output=True, text=True).stdout if tool else ''
if ' 14.' not in version:
    print(f'1..0 # SKIP needs clang-format 14, found: {version.strip() or "none"}')
    sys.exit()

sources = sorted(p for folder in ('vmm', 'devices', 'arch', 'firmware', 'tests', 'docs', 'completion')
                 for p in (root / folder).rglob('*.[ch]'))
failed = False
print(f'1..{len(sources)}')
for number, source in enumerate(sources, 1):
    run = subprocess.run([tool, '--dry-run', '--Werror', str(source)], capture_output=True, text=True)
    failed |= run.returncode != 0
    print(f"{'not ok' if run.returncode else 'ok'} {number} - {source.relative_to(root)}")
    for line in run.stderr.splitlines()[:3]:
        print(f'# {line}')
sys.exit(failed)
