# SPDX-License-Identifier: MIT
"""A command in a fork of a warm machine, beside the same static program in a container."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from command import MARKER, MEMORY, SECONDS, TURNS, installed_kernel
from contenders import Contender
from measure import Failed, Figure, stopwatch, take_turns

CASE = "a command"
CACHE = Path("/dev/shm/cache")
PACKAGES = ("crun",)


def make_warm(each: Contender, command: list[str]):
    """Boots, and waits until the machine is kept."""
    shutil.rmtree(CACHE / "minivmm/warm", ignore_errors=True)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS
    while not any(len(path.name) == 16 for path in (CACHE / "minivmm/warm").glob("*")):
        if time.monotonic() > deadline:
            raise Failed("no warm machine is kept")
        time.sleep(0.1)


def container(program: Path) -> list[str]:
    """As `crun spec` says, without a terminal. There is no manager of cgroups in L1."""
    bundle = Path("/tmp/bundle")
    (bundle / "rootfs").mkdir(parents=True)
    shutil.copy(program, bundle / "rootfs")
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": [f"/{program.name}"]}
    (bundle / "config.json").write_text(json.dumps(spec))
    return ["crun", "--cgroup-manager=disabled", "run", "--bundle", str(bundle), "first"]


def measure_warm(contenders: list[Contender]) -> Iterator[Figure]:
    os.environ["XDG_CACHE_HOME"] = str(CACHE)
    program = Path("bench-first").resolve()

    def take(name: str, command: list[str]) -> Iterator[Figure]:
        done = stopwatch(Path("bench-stopwatch").resolve(), command, MARKER, SECONDS)
        yield Figure("warm: exec to the program's output", CASE, name, "ms", done.seen)
        yield Figure("warm: exec to exit", CASE, name, "ms", done.ended)

    rows = {}
    for each in contenders:
        if each.name.startswith("minivmm"):
            command = [each.path, "run", "--warm", "--kernel", str(installed_kernel()), "--memory",
                       f"{MEMORY}M", "--", str(program)]
            make_warm(each, command)
            rows[each.name] = partial(take, each.name, command)
    command = container(program)
    rows["crun"] = partial(take, "crun", command)
    for row in rows.values():  # all that they read is in the page cache
        try:
            list(row())
        except Failed:
            pass
    yield from take_turns(CASE, TURNS, rows)
