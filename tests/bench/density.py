# SPDX-License-Identifier: MIT
"""Many machines at once, each with a guest that has printed a character and halted."""

import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from contenders import Contender, Guest
from measure import Failed, Figure, read_some, take_turns

COUNTS = (1, 10, 100, 500)
MAX_OF_PEERS = 100    # larger processes: 500 may not fit into memory
SETTLE = 0.2          # seconds
TIME_LIMIT = 300      # seconds for all to start

TIME = "many at once: time to start, per machine"
OWN = "many at once: private memory, per machine"
SHARE = "many at once: proportional set size (Pss), per machine"
HOST = "many at once: decrease of the host's available memory, per machine"


def field(path: str, *names: str) -> int:
    """The sum of these fields of a file in /proc, in KiB."""
    text = Path(path).read_text()
    return sum(int(re.search(rf"^{name}: +(\d+) kB", text, re.M)[1]) for name in names)


def spawn(command: list[str], output: int) -> int:
    return os.posix_spawn(command[0], command, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])


def start(command: list[str], count: int) -> tuple[list[int], float]:
    """Starts all without waiting in between. Returns them, and seconds until all have printed."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    processes = [spawn(command, writer) for _ in range(count)]
    os.close(writer)
    started = 0
    while started < count:
        output = read_some(reader, begin + TIME_LIMIT)
        started += output.count(b"!")
        if not output:
            end(processes)
            os.close(reader)
            raise Failed(f"{started} of {count} started: {' '.join(command)}")
    took = time.monotonic() - begin
    os.close(reader)
    return processes, took


def end(processes: list[int]):
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        os.waitpid(process, 0)


def take(each: Contender, guest: Guest, count: int) -> Iterator[Figure]:
    case = f"{count} at once"
    free = field("/proc/meminfo", "MemAvailable")
    processes, took = start(each.command(guest), count)
    try:
        time.sleep(SETTLE)
        less = free - field("/proc/meminfo", "MemAvailable")
        own = [field(f"/proc/{p}/smaps_rollup", "Private_Clean", "Private_Dirty")
               for p in processes]
        share = [field(f"/proc/{p}/smaps_rollup", "Pss") for p in processes]
    finally:
        end(processes)
    yield Figure(TIME, case, each.name, "ms", took * 1e3 / count)
    yield Figure(OWN, case, each.name, "KiB", sum(own) / count)
    yield Figure(SHARE, case, each.name, "KiB", sum(share) / count)
    if count > 1:  # a single one is lost in the host's other activity
        yield Figure(HOST, case, each.name, "KiB", less / count)


def measure_density(contenders: list[Contender], tools: Path, turns: int, quick: bool
                    ) -> Iterator[Figure]:
    guest = Guest(tools / "idle.elf")
    for count in COUNTS[:2] if quick else COUNTS:
        yield from take_turns(f"{count} at once", turns, {
            each.name: partial(take, each, guest, count) for each in contenders
            if each.name.startswith("minivmm") or count <= MAX_OF_PEERS})
