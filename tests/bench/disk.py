# SPDX-License-Identifier: MIT
"""Disk requests of a guest without an operating system, compared with a program on the host."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from contenders import Contender, Guest
from measure import MIB, Failed, Figure, take_turns

DISK_SIZE = 256 * MIB
TABLES = {"requests": "/s", "mean": "us", "p50": "us", "p99": "us", "kicks": "per request",
          "interrupts": "per request"}


class Load(NamedTuple):
    medium: str  # a key of media()
    engine: str
    operation: str
    order: str
    kib: int
    depth: int
    wait: str = "poll"

    def __str__(self):
        return (f"{self.medium} {self.engine}, {self.order} {self.operation} {self.kib:3} KiB, "
                f"depth {self.depth:3}, {self.wait}")


QUICK = [Load("tmpfs", "io_uring", "read", "random", 4, 1, "interrupt"),
         Load("tmpfs", "thread", "write", "random", 4, 32)]
ALL = [
    *(Load(medium, "io_uring", "read", "random", kib, depth)
      for medium in ("tmpfs", "cached", "direct") for kib in (4, 128) for depth in (1, 32, 128)),
    *(Load("tmpfs", "thread", "read", "random", kib, depth)
      for kib, depth in ((4, 1), (4, 32), (4, 128), (128, 32))),
    *(Load(medium, "io_uring", "read", "random", 4, depth, "interrupt")
      for medium in ("cached", "direct") for depth in (1, 32, 128)),
    *(Load(medium, "io_uring", "read", "sequential", 128, 32) for medium in ("cached", "direct")),
    *(Load(medium, "io_uring", "write", "random", 4, 32) for medium in ("cached", "direct")),
]


def make_disk(path: Path) -> Path:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(DISK_SIZE // MIB):
            file.write(block)
        os.fsync(file.fileno())
    return path


def supports_direct(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
        return True
    except OSError:
        return False


def run_host(tools: Path, load: Load, disk: Path, ms: int) -> list[int]:
    engine = load.engine + ("-direct" if load.medium == "direct" else "")
    return [int(word) for word in subprocess.check_output(
        [tools / "bench-hostdisk", engine, disk, load.operation, load.order,
         str(load.kib * 1024), str(load.depth), str(ms)], text=True).split()]


def run_guest(tools: Path, each: Contender, load: Load, disk: Path, kiloticks: int) -> list[int]:
    guest = Guest(tools / "guestdisk.elf", disks=(disk,), engine=load.engine,
                  direct=load.medium == "direct",
                  cmdline=f"{load.wait} {load.operation} {load.order} {load.kib * 1024} "
                          f"{load.depth} {kiloticks}")
    done = subprocess.run(each.command(guest), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)
    words = done.stdout.split()
    if len(words) != 8:
        raise Failed(f"{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return [int(word) for word in words]


def values(result: list[int], per_ms: int) -> dict[str, float]:
    """Converts the output of a run to the units of TABLES."""
    requests, ticks, *latencies = result[:5]
    found = {"requests": requests / ticks * per_ms * 1000}
    found |= {name: ticks / per_ms * 1000
              for name, ticks in zip(("mean", "p50", "p99"), latencies)}
    if len(result) > 5:
        found |= {"kicks": result[5] / max(requests, 1), "interrupts": result[7] / max(requests, 1)}
    return found


def figures(load: Load, name: str, found: dict[str, float]) -> Iterator[Figure]:
    for what, value in found.items():
        yield Figure(f"disk, {what}", str(load), name, TABLES[what], value)


def measure_disk(contenders: list[Contender], tools: Path, scratch: Path, turns: int, quick: bool
                 ) -> Iterator[Figure]:
    """`scratch` must be on a real disk, not tmpfs."""
    per_ms = int(subprocess.check_output([tools / "bench-hostdisk", "clock"]))
    ms = 20 if quick else 300
    shared = Path(f"/dev/shm/bench-{os.getpid()}")
    try:
        file = make_disk(scratch / "disk.img")
        media = {"tmpfs": make_disk(shared), "cached": file, "direct": file}
        for load in QUICK if quick else ALL:
            disk = media[load.medium]
            if load.medium == "direct" and not supports_direct(disk):
                continue
            host: dict[str, float] = {}  # of the same turn

            def take_host() -> Iterator[Figure]:
                host.update(values(run_host(tools, load, disk, ms), per_ms))
                yield from figures(load, "host", host)

            def take(each: Contender) -> Iterator[Figure]:
                found = values(run_guest(tools, each, load, disk, ms * per_ms // 1000), per_ms)
                yield from figures(load, each.name, found)
                yield Figure("disk, requests", str(load), f"{each.name}, % of host", "%",
                             found["requests"] / host["requests"] * 100)

            yield from take_turns(str(load), turns, {"host": take_host} | {
                each.name: partial(take, each) for each in contenders})
    finally:
        shared.unlink(missing_ok=True)
