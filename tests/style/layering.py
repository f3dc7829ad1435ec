#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""#includes point only downwards: see docs/architecture.md."""

import re
import sys
from pathlib import Path

# From the ground up. A folder may include from itself and from the floors below it, not from its
# neighbours.
FLOORS = [
    ['vmm/core'],
    ['firmware', 'firmware/init'],
    ['firmware/boot', 'firmware/tables', 'devices/block', 'devices/net', 'devices/fs', 'devices/console'],
    ['devices/chips', 'devices/virtio', 'vmm/config', 'vmm/kvm'],
    ['vmm/board'],
    ['arch/x86_64', 'arch/aarch64'],
    ['vmm/machine'],
    ['vmm/cli'],
    ['vmm/run'],
    ['vmm'],
]
FLOOR = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
# The one file that may ask for the architecture by name: some options exist on one only.
KNOWS_ARCHITECTURE = 'vmm/config/option.c'
KNOWS_KVM = {'vmm/kvm', 'arch/x86_64', 'arch/aarch64'}


def folder_of(name: str) -> str | None:
    """The folder that a file belongs to: the longest that is on a floor."""
    return max((f for f in FLOOR if name.startswith(f + '/')), key=len, default=None)


def faults_of(name: str, text: str) -> list[str]:
    folder = folder_of(name)
    if folder is None:
        return ['is in a folder of no floor']
    found = []
    for header in re.findall(r'^#include "([^"]+)"', text, re.M):
        if '/' not in header:
            continue  # settings.h, made by meson
        other = folder_of(header)
        if other is None or (other != folder and FLOOR[other] >= FLOOR[folder]):
            found.append(f'may not include {header}')
    if '<linux/kvm.h>' in text and folder not in KNOWS_KVM:
        found.append('may not know KVM')
    if not folder.startswith('arch/') and re.search(r'#\s*if.*__(x86_64|aarch64|riscv)|\bAUDIT_ARCH_', text):
        found.append('depends on the architecture')
    if name != KNOWS_ARCHITECTURE and 'MINIVMM_ARCH' in text:
        found.append('may not ask for the name of the architecture')
    if not text.startswith('/* SPDX-License-Identifier: MIT */'):
        found.append('has no licence on its first line')
    return found


root = Path(sys.argv[1])
sources = sorted(p for folder in ('vmm', 'devices', 'arch', 'firmware') for p in (root / folder).rglob('*.[ch]'))
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
