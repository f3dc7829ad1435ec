# SPDX-License-Identifier: MIT
"""Measures times and memory, and prints figures as tables."""

import re
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
NEEDED = ("minivmm", "floor", "host")  # contenders without which a row says nothing


class Failed(Exception):
    """A contender cannot do what a row measures."""


class Figure(NamedTuple):
    """One measured value of one contender."""
    table: str
    case: str
    contender: str
    unit: str
    value: float


@dataclass
class Row:
    """The median and spread of one contender's turns."""
    table: str
    case: str
    contender: str
    unit: str
    median: float
    low: float
    high: float
    turns: int


def rows_of(figures: Iterable[Figure]) -> list[Row]:
    values: dict[tuple, list[float]] = {}
    for figure in figures:
        values.setdefault(figure[:-1], []).append(figure.value)
    rows = []
    for key, found in values.items():
        found.sort()
        tenth = len(found) // 10  # so that one disturbed turn in ten does not count as spread
        rows.append(Row(*key, statistics.median(found), found[tenth], found[-1 - tenth],
                        len(found)))
    return rows


def take_turns(row: str, turns: int, contenders: dict[str, Callable[[], Iterable[Figure]]]
               ) -> Iterator[Figure]:
    """All contenders take turns. One that fails loses this row, which is told; a needed one ends
    the run."""
    found: dict[str, list[Figure]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name in list(found):
            try:
                found[name] += contenders[name]()
            except (Failed, OSError, subprocess.SubprocessError) as error:
                if name in NEEDED:
                    raise
                reason = " ".join(str(error).split())
                print(f"bench: {name} loses the row {row!r}: {reason}", file=sys.stderr)
                del found[name]
    for figures in found.values():
        yield from figures


def read_some(descriptor: int, deadline: float) -> bytes:
    """What arrives next. Nothing at the end of the file or at the deadline, time.monotonic()."""
    ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
    return os.read(descriptor, 65536) if ready else b""


class Watched(NamedTuple):
    """A run under the stopwatch: ms from before exec to the marker in the output, and to the end,
    which is None if the stopwatch made it."""
    seen: float
    ended: float | None
    began: float  # before exec: seconds of CLOCK_MONOTONIC
    stderr: str


def stopwatch(program: Path, command: Iterable[str], marker: str, seconds: int = 60,
              ends: bool = True, order: bool = False, meanwhile: Callable[[], None] | None = None
              ) -> Watched:
    """`marker` is something that only the guest prints. A command that does not end by itself
    (`ends`) is killed there. `order`: measured from an order that the command waits for, not from
    exec. `meanwhile` is called once the command was started."""
    command = [str(word) for word in command]
    mode = "order" if order else "wait" if ends else "kill"
    process = subprocess.Popen([program, marker, str(seconds), mode, *command], text=True,
                               errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        if meanwhile:
            meanwhile()
    finally:  # the stopwatch ends the command, at its time limit at the latest
        stdout, stderr = process.communicate()
    words = " ".join(command)
    if process.returncode:
        raise Failed(f"{words}: {stderr[-1000:]}")
    seen, ended, status, began = map(int, stdout.split())
    if seen < 0:
        raise Failed(f"{words}: no output {marker!r}: {stderr[-1000:]}")
    if ends and status == signal.SIGKILL:
        raise Failed(f"{words}: still runs after {seconds} s")
    return Watched(seen / 1e6, ended / 1e6 if ends else None, began / 1e9, stderr)


def stats_tables(stderr: str) -> dict[str, dict[str, dict[str, float]]]:
    """The output of minivmm --stats: table, row, column."""
    found: dict = {}
    for line in stderr.splitlines():
        name, *words = line.removeprefix("minivmm: ").split()
        if not re.fullmatch(r"[\d.]+|-", words[0]):
            columns, rows = words, found.setdefault(name, {})
        else:
            rows[name] = {column: float(word) for column, word in zip(columns, words)
                          if word != "-"}
    return found


def private_kib(pid: int, ram_mib: int) -> float:
    """Private dirty memory of a VMM and the processes that it has started, such as minivmm-net."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(private_kib_of(each, ram_mib) for each in [pid, *map(int, children)])


def private_kib_of(pid: int, ram_mib: int) -> float:
    """Without guest RAM, which is any run of adjacent anonymous mappings that is at least as large.
    Pages of programs and libraries are not counted: file-backed."""
    total = run_size = run_private = end = 0
    anonymous = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ (\d+)", line):
            if int(match[1], 16) != end or match[3] != "rw-p" or match[4] != "0" or not anonymous:
                total += run_private if run_size < ram_mib * 1024 else 0
                run_size = run_private = 0
            end, anonymous = int(match[2], 16), match[3] == "rw-p" and match[4] == "0"
        elif match := re.match(r"(Size|Private_Dirty): +(\d+) kB", line):
            if match[1] == "Size":
                run_size += int(match[2])
            else:
                run_private += int(match[2])
    return total + (run_private if run_size < ram_mib * 1024 else 0)


def print_tables(rows: list[Row]):
    for table in dict.fromkeys(row.table for row in rows):
        of_table = [row for row in rows if row.table == table]
        names = list(dict.fromkeys(row.contender for row in of_table))
        width = max(len(row.case) for row in of_table) + 2
        print(f"\n{table}, {of_table[0].unit}; median [10 % - 90 %]")
        print(" " * width + "".join(f"{name:>28}" for name in names))
        for case in dict.fromkeys(row.case for row in of_table):
            cells = {row.contender: f"{number(row.median)} [{number(row.low)} - {number(row.high)}]"
                     for row in of_table if row.case == case}
            print(f"{case:<{width}}" + "".join(f"{cells.get(name, '-'):>28}" for name in names))


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
