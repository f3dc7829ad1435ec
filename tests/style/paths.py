#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the files and tests which documents name exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
if not shutil.which('git'):
    print('1..0 # SKIP git is not installed')
    sys.exit()
listed = subprocess.run(['git', '-C', root, 'ls-files'], capture_output=True, text=True)
if listed.returncode:
    print('1..0 # SKIP not in a git repository')
    sys.exit()
files = {Path(name) for name in listed.stdout.splitlines()}
folders = {folder for file in files for folder in file.parents}
tops = {folder.name for folder in folders if folder.parent == Path() and folder.name}
tests = set(re.findall(r'\b(?:def|START_TEST\() ?(\w+)', '\n'.join(
    (root / file).read_text() for file in files if file.parts[0] == 'tests' and file.suffix in ('.py', '.c'))))

# A path in text, or a link, which is relative to its document; the name of a test.
PATH = re.compile(r'(?<![\w/.~-])(?:\./)?((?:%s)/[\w./*-]*\w)' % '|'.join(tops))
LINK = re.compile(r'\]\(([\w./-]+)')
TEST = re.compile(r'`(test_\w+)`')


def exists(path: Path) -> bool:
    return 'NAME' in path.stem or any(name.match(str(path)) for name in files | folders)


documents = sorted(file for file in files if file.suffix in ('.md', '.in', '.1'))
print(f'1..{len(documents)}')
failed = False
for number, document in enumerate(documents, 1):
    text = (root / document).read_text()
    missing = [path for path in PATH.findall(text) if not exists(Path(path))]
    missing += [link for link in LINK.findall(text)
                if not (root / document.parent / link).exists()]
    missing += [name for name in TEST.findall(text) if name not in tests]
    for name in missing:
        print(f'# {document}: there is no {name}')
    failed |= bool(missing)
    print(f"{'not ok' if missing else 'ok'} {number} - {document}")
sys.exit(failed)
