# SPDX-License-Identifier: MIT
"""Forks of one saved machine: what each takes of the host's memory, and what its guest has written."""

import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from contenders import Contender, Guest
from density import end, field, spawn
from measure import Figure, take_turns
from restore import save

COUNTS = (1, 10, 200)
SETTLE = 1  # seconds, for one

RAM = "forks: RAM that the guest has written, per machine"
BESIDE = "forks: private memory beside it, per machine"
HOST = "forks: decrease of the host's available memory, per machine"


def dirty(pid: int, memory: Path) -> tuple[int, int]:
    """Private KiB: of the mappings of the saved memory, and of all others."""
    ram = rest = 0
    is_ram = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"\w+-\w+ ", line):
            is_ram = line.endswith(f" {memory}")
        elif match := re.match(r"Private_Dirty: +(\d+) kB", line):
            ram += int(match[1]) if is_ram else 0
            rest += int(match[1]) if not is_ram else 0
    return ram, rest


def take(each: Contender, template: Path, count: int) -> Iterator[Figure]:
    case = f"{count} at once"
    free = field("/proc/meminfo", "MemAvailable")
    output = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    processes = [spawn([each.path, "restore", str(template)], output) for _ in range(count)]
    os.close(output)
    try:
        time.sleep(SETTLE * (1 + count / 50))
        less = free - field("/proc/meminfo", "MemAvailable")
        found = [dirty(process, template / "memory") for process in processes]
    finally:
        end(processes)
    yield Figure(RAM, case, each.name, "KiB", sum(ram for ram, _ in found) / count)
    yield Figure(BESIDE, case, each.name, "KiB", sum(rest for _, rest in found) / count)
    if count > 1:  # a single one is lost in the host's other activity
        yield Figure(HOST, case, each.name, "KiB", less / count)


def measure_forks(contenders: list[Contender], guest: Guest, scratch: Path, turns: int,
                  counts: tuple[int, ...] = COUNTS) -> Iterator[Figure]:
    for each in contenders:
        if not each.name.startswith("minivmm"):
            continue
        place = scratch / f"forks-{each.name}"
        place.mkdir()
        save(each, guest, place)
        for count in counts:
            yield from take_turns(f"{count} forks", turns,
                                  {each.name: partial(take, each, place / "snapshot", count)})
