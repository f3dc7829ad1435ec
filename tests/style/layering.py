#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""#includes point only downwards: see docs/architecture.md."""

import re
import sys
from pathlib import Path

ALLOWED = {
    'vmm': {'vmm'},
    'devices': {'vmm', 'devices'},
    'firmware': {'vmm', 'firmware'},
    'arch': {'vmm', 'devices', 'firmware', 'arch'},
    'vmm/command': {'vmm', 'firmware'},
}
# These put the parts together; nothing below them may look up.
COMPOSITION = {'vmm/main.c', 'vmm/machine.c', 'vmm/machine.h', 'vmm/run.c', 'vmm/stats.c'}
# What knows KVM, and what knows everything: not for devices and firmware.
COMMAND = 'vmm/command'  # above the machine, which it starts; only main.c knows it
UPPER = {'vmm/vm.h', 'vmm/vcpu.h', 'vmm/arch.h', 'vmm/machine.h', 'vmm/run.h'}


def faults_of(name: str, text: str) -> list[str]:
    layer = COMMAND if name.startswith(COMMAND) else name.split('/')[0]
    found = []
    for header in re.findall(r'^#include "([^"]+)"', text, re.M):
        if '/' not in header:
            continue  # settings.h, made by meson
        allowed = set(ALLOWED) if name in COMPOSITION else ALLOWED[layer]
        if header.split('/')[0] not in allowed:
            found.append(f'may not include {header}')
        if layer in ('devices', 'firmware') and header in UPPER:
            found.append(f'may not include {header}')
        if header.startswith(COMMAND) and layer != COMMAND and name != 'vmm/main.c':
            found.append(f'may not include {header}')
    if layer in ('devices', 'firmware') and '<linux/kvm.h>' in text:
        found.append('may not know KVM')
    if layer != 'arch' and re.search(r'#\s*if.*__(x86_64|aarch64|riscv)', text):
        found.append('depends on the architecture')
    if not text.startswith('/* SPDX-License-Identifier: MIT */'):
        found.append('has no licence on its first line')
    return found


root = Path(sys.argv[1])
sources = sorted(p for folder in ALLOWED if folder != COMMAND for p in (root / folder).rglob('*.[ch]'))
failed = False
print(f'1..{len(sources)}')
for number, source in enumerate(sources, 1):
    name = source.relative_to(root).as_posix()
    faults = faults_of(name, source.read_text())
    failed |= bool(faults)
    print(f"{'not ok' if faults else 'ok'} {number} - {name}")
    for fault in faults:
        print(f'# {fault}')
sys.exit(failed)
