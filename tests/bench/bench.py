# SPDX-License-Identifier: MIT
"""Run by ./scripts/bench after the build: all measurements, then the report."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import contenders
import fs
import measure
import warm
from command import L1_PACKAGES, VIRTME_NG, fetch_virtme_ng, kernel_files
from density import measure_density
from disk import measure_disk
from fio import fetch_disk
from forks import COUNTS, measure_forks
from pictures import draw
from packets import measure_packets
from restore import measure_restore
from rewind import measure_rewind
from start import measure_memory, measure_phases, measure_program, measure_start, warm_up
from vmlinux import extract

BENCH = Path(__file__).resolve().parent
SCRIPTS = BENCH.parent.parent / "scripts"
LAB = BENCH.parent / "lab/lab"
STALLED = 124  # the lab's exit status at its time limit: guests sometimes stall, see tests/lab/README.md
BY_INSTRUCTIONS = ("boot", "fs", "fs-large", "run", "warm", "tap")
PARTS = ("start", "phases", "restore", "rewind", "density", "memory", "disk", "fio", "fs", "boot", "run", "warm",
         "exits", "net")


def peer(text: str) -> contenders.Contender:
    name, _, path = text.partition("=")
    try:
        return contenders.contender(name, str(Path(path).resolve(strict=True)))
    except (KeyError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text}: NAME=PATH, NAME one of {', '.join(contenders.KINDS)} or that with a suffix")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART",
                        help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--quick", action="store_true",
                        help="only check that it runs: few turns, no nested lane")
    parser.add_argument("--peer", action="append", default=[], type=peer, metavar="NAME=PATH",
                        help="another VMM to compare with; an installed QEMU always is")
    parser.add_argument("--virtme-ng", action="store_true",
                        help="compare minivmm run (part run) with it, fetched from Debian trixie")
    parser.add_argument("--large", action="store_true",
                        help="part fs with a repository of 70,000 files, too: an hour")
    parser.add_argument("--turns", type=int, help="number of measurements of each (start: 31)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--pictures", type=Path, metavar="DIR",
                        help="draw how starts grow (part start), and their steps (phases), as SVG")
    parser.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.parts = options.parts or PARTS
    options.turns = options.turns or (3 if options.quick else 31)
    return options


def brought(part: str, options: argparse.Namespace, scratch: Path) -> dict[Path, str]:
    """Files for a part in L1: path on the host, name in L1."""
    kernel = Path(subprocess.check_output([SCRIPTS / "fetch-kernel"], text=True).strip())
    initrd = scratch / "initrd.img"
    if not initrd.exists():
        subprocess.run([SCRIPTS / "mkinitrd", kernel.parents[1], initrd], check=True)
    bring = {kernel: "vmlinuz", initrd: "initrd.img",
             **{options.build / "tests/bench" / name: name
                for name in ("bench-first", "bench-reads", "bench-stopwatch", "bench-wire",
                             "start.elf")},
             **{options.build / name: name for name in ("minivmm", "minivmm-net")}}
    bring |= {each.path: each.name for each in options.peer}
    bring |= {file: file.name for file in BENCH.glob("*.py")}
    if part == "boot":
        bring[extract(kernel, scratch / "vmlinux")] = "vmlinux"
    if part == "fio":
        bring[fetch_disk()] = "fio.img"
    if part.startswith("fs"):
        image = scratch / fs.INITRD
        modules = [word for name in fs.MODULES for word in ("--module", name)]
        subprocess.run([SCRIPTS / "mkinitrd", kernel.parents[1], image, *modules], check=True)
        bring[image] = fs.INITRD.name
    if part.startswith("fs") or part in ("run", "warm"):
        bring |= kernel_files(kernel)
    if part == "run":
        if options.virtme_ng:
            fetch_virtme_ng(scratch / VIRTME_NG.name)
            bring[scratch / VIRTME_NG.name] = VIRTME_NG.name
    return bring


def run_nested(part: str, options: argparse.Namespace, scratch: Path, seed: int
               ) -> list[measure.Figure]:
    """One turn inside the lab, some parts under its instruction clock."""
    packages = ["qemu-system-x86", *(fs.PACKAGES if part.startswith("fs") else ()),
                *(warm.PACKAGES if part == "warm" else ()),
                *(L1_PACKAGES if part == "run" and options.virtme_ng else ())]
    inside = [("minivmm", "/files/minivmm"), ("qemu", "/usr/bin/qemu-system-x86_64"),
              *((each.name, f"/files/{each.name}") for each in options.peer)]
    words = [LAB, "run", "--lane", "nested", "--timeout", "7200" if part.startswith("fs") else "1200"]
    words += [word for name in packages for word in ("--package", name)]
    words += [word for path, name in brought(part, options, scratch).items()
              for word in ("--bring", f"{path}:{name}")]
    words += ["--icount", "--seed", str(seed)] if part in BY_INSTRUCTIONS else []
    for _ in range(2):
        done = subprocess.run([*words, "--", "python3", "nested.py", json.dumps([part, inside])],
                              stdout=subprocess.PIPE, text=True)
        if done.returncode != STALLED:
            break
    if done.returncode:
        sys.exit(f"bench: {part} failed in the lab")
    return [measure.Figure(*each) for each in json.loads(done.stdout.splitlines()[-1])]


def take(options: argparse.Namespace, scratch: Path) -> Iterator[measure.Figure]:
    tools, minivmm = options.build / "tests/bench", options.build / "minivmm"
    everybody = [contenders.contender("minivmm", minivmm), *contenders.installed_qemu(),
                 *options.peer]
    warm_up(everybody, tools / "bench-stopwatch", tools / "start.elf")
    if "start" in options.parts:
        yield from measure_start(everybody, tools, scratch, options.turns, options.quick)
    if "phases" in options.parts:
        yield from measure_phases(everybody[0], tools, options.turns)
    if "restore" in options.parts:
        yield from measure_restore(everybody, tools, scratch, options.turns, options.quick)
    if "rewind" in options.parts:
        yield from measure_rewind(everybody[0], tools, scratch, min(options.turns, 5), options.quick)
    if "density" in options.parts:
        yield from measure_density(everybody, tools, min(options.turns, 3), options.quick)
        yield from measure_forks(everybody, contenders.Guest(tools / "idle.elf"), scratch,
                                 min(options.turns, 3), COUNTS[:2] if options.quick else COUNTS)
    if "memory" in options.parts:
        yield from measure_memory(everybody, tools, scratch, min(options.turns, 5))
        yield from measure_program(minivmm, scratch)
    if "disk" in options.parts:
        with tempfile.TemporaryDirectory(prefix="disk-", dir=options.build) as directory:
            yield from measure_disk(everybody, tools, Path(directory), min(options.turns, 5),
                                    options.quick)
    if "net" in options.parts:
        ours = [each for each in everybody if each.kind.start is contenders.minivmm]
        yield from measure_packets(ours, tools, min(options.turns, 5), options.quick)
    if options.quick:
        return
    for turn in range(3 if "boot" in options.parts else 0):
        yield from run_nested("boot", options, scratch, 42 + turn)
    files = "fs-large" if options.large else "fs"
    for part, within in (("fio", "fio"), (files, "fs"), ("run", "run"), ("warm", "warm"),
                         ("memory", "memory"), ("exits", "exits"), ("stats", "exits"), ("tap", "net"), ("user-net", "net")):
        if within in options.parts:
            yield from run_nested(part, options, scratch, 42)


def main():
    options = parse()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        tempfile.tempdir = directory
        rows = measure.rows_of(take(options, Path(directory)))
    measure.print_tables(rows)
    if options.pictures:
        draw(rows, options.pictures)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
