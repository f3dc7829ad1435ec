# SPDX-License-Identifier: MIT
"""A series of tests in one machine, which is rewound to its snapshot after each: on the host's own
KVM. The guest writes to 500 pages at an order and says so (tests/bench/series.c)."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from contenders import Contender, Guest
from measure import Failed, Figure, read_some, take_turns
from restore import SIZES, connect, save
from start import TIME_LIMIT

REWIND = "rewind: request to answer, 500 written pages"
SERIES = "series of tests with 500 written pages, each rewound"
TESTS = 1000
REQUEST = (b"PUT /snapshot/rewind HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")


def one_test(process: subprocess.Popen):
    """From the order to the guest's word that it is done."""
    deadline, said = time.monotonic() + TIME_LIMIT, b""
    process.stdin.write(b"t")
    while b"." not in said:
        more = read_some(process.stdout.fileno(), deadline)
        if not more:
            raise Failed("the guest does not answer")
        said += more


def rewind(connection) -> float:
    """Returns how long it took, in ms."""
    began = time.monotonic()
    connection.sendall(REQUEST)
    answer = connection.recv(65536)
    took = (time.monotonic() - began) * 1000
    if b" 204 " not in answer:
        raise Failed(answer.decode(errors="replace"))
    return took


def take_series(path: str, case: str, directory: Path, tests: int, *options: str) -> Iterator[Figure]:
    name, api = " ".join(["minivmm", *options]), directory / "rewind"
    process = subprocess.Popen([path, "restore", directory / "snapshot", "--control", api, *options],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        with connect(api) as connection:
            connection.settimeout(TIME_LIMIT)
            began, took = time.monotonic(), []
            for _ in range(tests):
                one_test(process)
                took.append(rewind(connection))
            yield Figure(REWIND, case, name, "ms", median(took))
            yield Figure(SERIES, case, name, "/s", tests / (time.monotonic() - began))
    finally:
        process.kill()
        process.communicate()


def measure_rewind(each: Contender, tools: Path, scratch: Path, turns: int, quick: bool
                   ) -> Iterator[Figure]:
    for size in SIZES[:1] if quick else SIZES:
        case = f"{size} MiB"
        with tempfile.TemporaryDirectory(dir=scratch) as files:
            save(each, Guest(tools / "series.elf", memory=size), Path(files))
            yield from take_turns(case, turns, {
                " ".join(["minivmm", *options]): partial(take_series, each.path, case, Path(files),
                                                         TESTS // 10 if quick else TESTS, *options)
                for options in ([], ["--sandbox=off"])})
