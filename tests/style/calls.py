#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that docs/system-calls.md is what the tables in the code say, and that a vCPU's list stays short.

With --write, writes the page.
"""

import re
import sys
from pathlib import Path

# Source, table in it, title.
TABLES = [
    ('vmm/machine/sandbox.c', 'sandbox_table', 'Any thread of minivmm, while a guest runs'),
    ('vmm/kvm/confine.c', 'kvm_table', '... for a start or a reset of the virtual machine'),
    ('arch/x86_64/confine.c', 'machine_table', '... the same, on x86_64'),
    ('arch/aarch64/confine.c', 'machine_table', '... the same, on aarch64'),
    ('vmm/machine/sandbox.c', 'sandbox_disk_table', '... if there is a disk'),
    ('vmm/machine/sandbox.c', 'sandbox_tap_table', '... if there is a tap'),
    ('vmm/machine/sandbox.c', 'sandbox_vhost_table', '... if there is a tap with vhost'),
    ('vmm/machine/sandbox.c', 'sandbox_user_net_table', '... if there is a user-mode network'),
    ('vmm/machine/sandbox.c', 'sandbox_control_table', '... with --control'),
    ('vmm/machine/sandbox.c', 'sandbox_save_table', '... the same, and for a warm machine: to save it'),
    ('arch/x86_64/confine.c', 'save_table', '... the same, on x86_64'),
    ('arch/x86_64/confine.c', 'load_table', '... if it starts from a snapshot, on x86_64'),
    ('arch/aarch64/confine.c', 'save_table', '... with --control, on aarch64'),
    ('arch/aarch64/confine.c', 'load_table', '... if it starts from a snapshot, on aarch64'),
    ('vmm/machine/sandbox.c', 'sandbox_dump_table', '... with --dump-acpi or --dump-dtb'),
    ('vmm/machine/sandbox.c', 'sandbox_share_table', '... if there is a shared directory: its threads, as they start'),
    ('vmm/kvm/confine.c', 'vcpu_table', 'The thread of a vCPU'),
    ('arch/x86_64/confine.c', 'vcpu_table', '... on x86_64'),
    ('arch/aarch64/confine.c', 'vcpu_table', '... on aarch64'),
    ('devices/fs/confine.c', 'confine_table', 'The threads of a shared directory'),
    ('devices/fs/confine.c', 'confine_write_table', '... if it is writable'),
    ('vmm/user_net/confine.c', 'confine_table', 'minivmm-net'),
    ('vmm/control/socket.c', 'remover_table', 'What removes the path of a control socket'),
    ('firmware/boot/decompress.c', 'decompress_table', 'What decompresses a kernel or a module'),
]
VCPU_CALLS = 25
HEAD = '''# What minivmm may ask of the host's kernel

Made from the tables in the code by `tests/style/calls.py --write`; see [security.md](security.md). Every thread may do
what the first list says and those after it that the machine needs: another call raises SIGSYS, which ends minivmm. The
threads with a list of their own may only do what is in both. What the list of a shared directory lacks fails with
EPERM, as does what minivmm-net's lacks, a process of its own like that which decompresses.
'''
ROW = re.compile(r'''
    \{\s*SYS_(?P<call>\w+) (?P<rest>(?:[^"{}]|\{[^}]*\})*) \.reason\s*=\s*(?P<why>(?:"[^"]*"\s*)+) \} |
    SECCOMP_(?P<kind>IOCTL|PRCTL)\((?P<name>\w+),\s*(?P<reason>(?:"[^"]*"\s*)+)\)''', re.X)


def rows_of(source: str, table: str):
    """Yields (call, purpose). Rows under #ifdef SYS_... are of one architecture only."""
    text = re.search(rf'seccomp_rule {table}\[\] = \{{\n(.*?)\n\}};', source, re.S)[1]
    before = ''
    for row in ROW.finditer(re.sub(r'/\*.*?\*/', '', text, flags=re.S)):
        call = row['call'] or f"{row['kind'].lower()}: {row['name']}"
        why = ''.join(re.findall(r'"([^"]*)"', row['why'] or row['reason']))
        why = before if why == 'the same' else why
        before = why
        rest = row['rest'] or ''
        if argument := re.search(r'\.argument = \{ (\d), ([^,]+), (.+?) \}', rest):
            index, mask, value = argument.groups()
            call += (f' ({value})' if mask == 'UINT32_MAX' else
                     f' (without {mask})' if value == '0' else f' ({value})')
        if '.own_process' in rest:
            call += ' (of this process)'
        if error := re.search(r'\.error = (\w+)', rest):
            call += f' (fails with {error[1]})'
        yield call, why


def document(root: Path) -> str:
    text = HEAD
    for path, table, title in TABLES:
        text += f'\n## {title}\n\n`{path}`\n\n| call | for |\n|---|---|\n'
        for call, why in rows_of((root / path).read_text(), table):
            text += f'| {call} | {why} |\n'
    return text


root = Path(sys.argv[1])
page = root / 'docs/system-calls.md'
wanted = document(root)
if '--write' in sys.argv:
    page.write_text(wanted)
print('1..2')
good = page.exists() and page.read_text() == wanted
print(f"{'ok' if good else 'not ok'} 1 - docs/system-calls.md")
if not good:
    print('# it differs from the tables: tests/style/calls.py . --write')
calls = {call.split(':')[0].split(' ')[0] for path, table, _ in TABLES if table == 'vcpu_table'
         for call, _ in rows_of((root / path).read_text(), table)}
print(f"{'ok' if len(calls) <= VCPU_CALLS else 'not ok'} 2 - calls of a vCPU's thread: {len(calls)}")
sys.exit(not good or len(calls) > VCPU_CALLS)
