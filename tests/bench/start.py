# SPDX-License-Identifier: MIT
"""Start and memory with a guest of three instructions, on the host's own KVM."""

import subprocess
import time
from functools import partial
from pathlib import Path

from contenders import Contender, Guest
from measure import MIB, Row, in_turns, private_kib, row, stopwatch


def guests(tools: Path, scratch: Path, quick: bool) -> dict[str, Guest]:
    """What start-up is measured with: a plain guest, and how it grows."""
    elf, initrd, disk = tools / "start.elf", scratch / "initrd", scratch / "disk"
    found = {"ELF": Guest(elf), "bzImage": Guest(tools / "start-bzimage.bin")}
    if quick:
        return found
    disks = tuple(scratch / f"disk{i}" for i in range(8))
    for disk in disks:
        disk.write_bytes(bytes(MIB))
    for size in (16, 64):
        path = scratch / f"initrd{size}"
        path.write_bytes(b"\1" * (size * MIB))
        found[f"initrd {size} MiB"] = Guest(tools / "start-bzimage.bin", initrd=path, memory=256)
    found |= {f"RAM {size} MiB": Guest(elf, memory=size) for size in (512, 2048, 8192)}
    found |= {f"{count} vCPUs": Guest(elf, cpus=count) for count in (2, 4, 8)}
    found |= {f"{count} disks": Guest(elf, disks=disks[:count]) for count in (1, 4, 8)}
    found["user network"] = Guest(elf, user_net=True)
    return found


def measure_start(contenders: list[Contender], tools: Path, scratch: Path, turns: int,
                  quick: bool) -> list[Row]:
    rows = []
    watch = partial(stopwatch, tools / "bench-stopwatch")
    for case, guest in guests(tools, scratch, quick).items():
        takers = {"floor": partial(watch, [tools / "bench-floor", tools / "start-bzimage.bin",
                                           str(guest.memory)])}
        takers |= {each.name: partial(watch, each.command(guest)) for each in contenders}
        for name, found in in_turns(takers, turns).items():
            rows += [row("exec to the guest's first output", case, name, "ms", found["seen"]),
                     row("exec to exit", case, name, "ms", found["ended"])]
    return sorted(rows, key=lambda row: row.table, reverse=True)


def take_memory(each: Contender, guest: Guest) -> dict[str, float]:
    """Of a guest that has said its word and halted."""
    process = subprocess.Popen(each.command(guest), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    try:
        process.stdout.read(1)
        time.sleep(0.05)
        return {"private": private_kib(process.pid, guest.memory)}
    finally:
        process.kill()
        process.communicate()


def measure_memory(contenders: list[Contender], tools: Path, scratch: Path, turns: int
                   ) -> list[Row]:
    elf = tools / "idle.elf"
    disks = tuple(scratch / f"disk{i}" for i in range(4))
    for disk in disks:
        disk.write_bytes(bytes(MIB))
    cases = {"no network": Guest(elf), "user network": Guest(elf, user_net=True),
             "4 vCPUs": Guest(elf, cpus=4), "4 disks": Guest(elf, disks=disks)}
    rows = []
    for case, guest in cases.items():
        takers = {each.name: partial(take_memory, each, guest) for each in contenders}
        rows += [row("private memory beside guest RAM, guest halted", case, name, "KiB",
                     found["private"]) for name, found in in_turns(takers, turns).items()]
    return rows
