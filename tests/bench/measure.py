# SPDX-License-Identifier: MIT
"""Takes times and memory in turns, and prints them as a table."""

import os
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

FILES = Path(os.environ.get("LAB_FILES") or Path(__file__).parent)
MIB = 1 << 20


@dataclass
class Row:
    """One figure: what was measured, of whom, and how it spread over the turns."""
    table: str
    case: str
    contender: str
    unit: str
    median: float
    low: float
    high: float
    turns: int


def row(table: str, case: str, contender: str, unit: str, values: list[float]) -> Row:
    ordered = sorted(values)
    tenth = len(ordered) // 10  # so that one disturbed turn in ten does not count as spread
    return Row(table, case, contender, unit, statistics.median(ordered), ordered[tenth],
               ordered[-1 - tenth], len(ordered))


def in_turns(takers: dict[str, Callable[[], dict[str, float]]], turns: int
             ) -> dict[str, dict[str, list[float]]]:
    """Calls each taker once a turn, A B A B ...; what each measured, by name."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in takers}
    for _ in range(turns):
        for name, take in takers.items():
            for what, value in take().items():
                found[name].setdefault(what, []).append(value)
    return found


def stopwatch(program: Path, command: Iterable[str], marker: str = "", seconds: int = 60
              ) -> dict[str, float]:
    """Milliseconds from before exec to MARKER in the output, and to the end. NaN: not seen."""
    done = subprocess.run([program, marker, str(seconds), *command], check=True, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    seen, ended, _ = map(int, done.stdout.split())
    if seen < 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: no output {marker!r}: {done.stderr}")
    return {"seen": seen / 1e6, "ended": ended / 1e6}


def private_kib(pid: int, ram_mib: int) -> float:
    """What only this process has in memory, but for the mappings large enough to be guest RAM."""
    total = size = 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"(\w+): +(\d+) kB", line):
            if match[1] == "Size":
                size = int(match[2])
            elif match[1].startswith("Private_") and size < ram_mib * 1024:
                total += int(match[2])
    return total


def print_tables(rows: list[Row]):
    for table in dict.fromkeys(row.table for row in rows):
        of_table = [row for row in rows if row.table == table]
        names = list(dict.fromkeys(row.contender for row in of_table))
        width = max(len(row.case) for row in of_table) + 2
        print(f"\n{table}, {of_table[0].unit}; median [tenth percentile - ninetieth]")
        print(" " * width + "".join(f"{name:>28}" for name in names))
        for case in dict.fromkeys(row.case for row in of_table):
            cells = {row.contender: f"{number(row.median)} [{number(row.low)} - {number(row.high)}]"
                     for row in of_table if row.case == case}
            print(f"{case:<{width}}" + "".join(f"{cells.get(name, '-'):>28}" for name in names))


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def as_dicts(rows: list[Row]) -> list[dict]:
    return [asdict(row) for row in rows]
