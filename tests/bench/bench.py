# SPDX-License-Identifier: MIT
"""What ./scripts/bench runs once everything is built: all measurements, then one report."""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import contenders
import measure
from start import measure_memory, measure_start

BENCH = Path(__file__).resolve().parent
PARTS = ("start", "memory", "boot", "exits")
NESTED = ("boot", "exits")


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
                        help="only to see that it runs: few turns, no nested lane")
    parser.add_argument("--peer", action="append", default=[], type=peer, metavar="NAME=PATH",
                        help="another VMM to compare with; an installed QEMU always is")
    parser.add_argument("--turns", type=int, help="how often each is measured (start: 31)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, for programs")
    parser.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def sizes(program: Path, scratch: Path) -> list[measure.Row]:
    stripped = scratch / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    libraries = subprocess.run(["ldd", program], check=True, capture_output=True, text=True)
    count = sum("=>" in line for line in libraries.stdout.splitlines())
    table = "the program"
    return [measure.row(table, "stripped, KiB", "minivmm", "",
                        [stripped.stat().st_size / 1024]),
            measure.row(table, "libraries linked", "minivmm", "", [count])]


def main():
    options = parse()
    parts = options.parts or PARTS
    turns = options.turns or (3 if options.quick else 31)
    tools = options.build / "tests/bench"
    minivmm = contenders.contender("minivmm", options.build / "minivmm")
    everybody = [minivmm, *contenders.installed_qemu(), *options.peer]
    rows: list[measure.Row] = []

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        scratch = Path(directory)
        if "start" in parts:
            rows += measure_start(everybody, tools, scratch, turns, options.quick)
        if "memory" in parts:
            rows += measure_memory(everybody, tools, scratch, min(turns, 5))
            rows += sizes(options.build / "minivmm", scratch)
    measure.print_tables(rows)
    if options.json:
        options.json.write_text(json.dumps(measure.as_dicts(rows), indent=1))


if __name__ == "__main__":
    main()
