# SPDX-License-Identifier: MIT
"""Start and memory with a guest of a few instructions, on the host's own KVM."""

import subprocess
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from contenders import Contender, Guest
from measure import (MIB, Failed, Figure, Watched, private_kib, read_some, stats_tables, stopwatch,
                     take_turns)

FIRST_OUTPUT = "exec to the guest's first output"
PHASES = "the steps of a start"
MARKER = "!"       # what the guest prints
TIME_LIMIT = 60    # seconds

# Parameters that lengthen a start: the marks of the axis, and the case for each.
GROWTH = {
    "RAM, MiB": (("128", "ELF"), ("512", "RAM 512 MiB"), ("2048", "RAM 2048 MiB"),
                 ("8192", "RAM 8192 MiB")),
    "initrd, MiB": (("0", "bzImage"), ("16", "initrd 16 MiB"), ("64", "initrd 64 MiB")),
    "vCPUs": (("1", "ELF"), ("2", "2 vCPUs"), ("4", "4 vCPUs"), ("8", "8 vCPUs")),
    "disks": (("0", "ELF"), ("1", "1 disks"), ("4", "4 disks"), ("8", "8 disks")),
}


def make_disks(scratch: Path, count: int) -> tuple[Path, ...]:
    disks = tuple(scratch / f"disk{number}" for number in range(count))
    for disk in disks:
        disk.write_bytes(bytes(MIB))
    return disks


def guests(tools: Path, scratch: Path, quick: bool) -> dict[str, Guest]:
    """The guests whose start is measured: a plain one, and variants with more of each resource."""
    elf = partial(Guest, tools / "start.elf", end="reset")
    bzimage = partial(Guest, tools / "start-bzimage.bin", end="reset")
    found = {"ELF": elf(), "bzImage": bzimage()}
    if quick:
        return found
    disks = make_disks(scratch, 8)
    for size in (16, 64):
        path = scratch / f"initrd{size}"
        path.write_bytes(b"\1" * (size * MIB))
        found[f"initrd {size} MiB"] = bzimage(initrd=path, memory=256)
    found |= {f"RAM {size} MiB": elf(memory=size) for size in (512, 2048, 8192)}
    found |= {f"{count} vCPUs": elf(cpus=count) for count in (2, 4, 8)}
    found |= {f"{count} disks": elf(disks=disks[:count]) for count in (1, 4, 8)}
    found["user network"] = elf(user_net=True)
    return found


def warm_up(contenders: list[Contender], stopwatch_program: Path, guest: Path, *files: Path):
    """Has everything in the page cache before the first row: these files, and by a start of this
    bare guest all that each VMM reads. One that cannot run it has been read, too."""
    for file in files:
        file.read_bytes()
    what = Guest(guest, end="reset")
    for each in contenders:
        try:
            command = [str(word) for word in each.kind.start(each.path, what)]
            stopwatch(stopwatch_program, command, MARKER, seconds=10, ends=each.ends(what))
        except (Failed, OSError):
            pass


def take_start(tools: Path, case: str, name: str, command: Iterable, ends: bool
               ) -> Iterator[Figure]:
    done = stopwatch(tools / "bench-stopwatch", command, MARKER, TIME_LIMIT, ends)
    yield Figure(FIRST_OUTPUT, case, name, "ms", done.seen)
    if ends:
        yield Figure("exec to exit", case, name, "ms", done.ended)


def measure_start(contenders: list[Contender], tools: Path, scratch: Path, turns: int,
                  quick: bool) -> Iterator[Figure]:
    for case, guest in guests(tools, scratch, quick).items():
        floor = [tools / "bench-floor", tools / "start-bzimage.bin", str(guest.memory)]
        rows = {"floor": lambda: take_start(tools, case, "floor", floor, ends=True)}
        for each in contenders:
            rows[each.name] = lambda each=each: take_start(
                tools, case, each.name, each.command(guest), each.ends(guest))
        yield from take_turns(case, turns, rows)


def phases_of(done: Watched) -> Iterator[tuple[str, float]]:
    """The steps of a start from --stats, with exec and output by the stopwatch, in ms."""
    before = done.began
    for name, row in stats_tables(done.stderr)["phase"].items():
        yield "exec" if name == "begin" else name, (row["monotonic-s"] - before) * 1e3
        before = row["monotonic-s"]
    yield "output", done.seen - (before - done.began) * 1e3


def measure_phases(minivmm: Contender, tools: Path, turns: int) -> Iterator[Figure]:
    """The steps of a plain start, in minivmm and in the floor."""
    guest = Guest(tools / "start-bzimage.bin")
    commands = {"floor": [tools / "bench-floor", guest.kernel, str(guest.memory), "phases"],
                minivmm.name: [*minivmm.command(guest), "--stats"]}
    for _ in range(turns):
        for name, command in commands.items():
            for phase, took in phases_of(stopwatch(tools / "bench-stopwatch", command, MARKER)):
                yield Figure(PHASES, phase, name, "ms", took)


def take_memory(each: Contender, case: str, guest: Guest) -> Iterator[Figure]:
    """With a guest that has printed a character and halted."""
    process = subprocess.Popen(each.command(guest), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        output, deadline = b"", time.monotonic() + TIME_LIMIT
        while MARKER.encode() not in output:
            some = read_some(process.stdout.fileno(), deadline)
            if not some:
                raise Failed(f"no output {MARKER!r} of the guest")
            output += some
        time.sleep(0.05)
        yield Figure("private memory beside guest RAM, guest halted", case, each.name, "KiB",
                     private_kib(process.pid, guest.memory))
    finally:
        process.kill()
        process.communicate()


def measure_memory(contenders: list[Contender], tools: Path, scratch: Path, turns: int
                   ) -> Iterator[Figure]:
    elf = tools / "idle.elf"
    disks = make_disks(scratch, 4)
    cases = {"no network": Guest(elf), "user network": Guest(elf, user_net=True),
             "4 vCPUs": Guest(elf, cpus=4), "4 disks": Guest(elf, disks=disks)}
    for case, guest in cases.items():
        yield from take_turns(case, turns, {each.name: partial(take_memory, each, case, guest)
                                            for each in contenders})


def measure_program(program: Path, scratch: Path) -> Iterator[Figure]:
    stripped = scratch / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    yield Figure("the program", "stripped", "minivmm", "KiB", stripped.stat().st_size / 1024)
    yield Figure("libraries it is linked with", "all", "minivmm", "count", listing.count("=>"))
