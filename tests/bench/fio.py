# SPDX-License-Identifier: MIT
"""Debian's fio in a Linux guest: its disk, its jobs, and its results."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from measure import Figure

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/ceph")
LOADER = "lib64/ld-linux-x86-64.so.2"
PROGRAM = "usr/bin/fio"
SIZE = 64 << 20  # bytes of the disk it reads and writes


class Load(NamedTuple):
    order: str  # fio's rw=
    kib: int
    depth: int
    count: int  # number of requests

    def __str__(self):
        return f"{self.order}, {self.kib} KiB, depth {self.depth}"


LOADS = [*(Load(order, 4, depth, 1024) for order in ("randread", "randwrite") for depth in (1, 32)),
         *(Load(order, 128, 32, 128) for order in ("read", "write"))]

# The jobs run one after the other on the guest's second disk.
JOBS = ("[global]\nfilename=/dev/vdb\nioengine=libaio\ndirect=1\nstonewall\n"
        "lat_percentiles=1\nclat_percentiles=0\n")
JOBS += "".join(f"[{load}]\nrw={load.order}\nbs={load.kib}k\niodepth={load.depth}\n"
                f"number_ios={load.count}\n" for load in LOADS)


def copy_closure(packages: Path, tree: Path):
    """Copies fio and the libraries it is linked with: a third of its packages' dependencies."""
    path = ":".join(f"{packages}/{name}" for name in LIBRARIES)
    # Since Debian 13 it comes in /usr, to which /lib64 is a link.
    loader = next(packages / top / LOADER for top in ("", "usr") if (packages / top / LOADER).exists())
    listing = subprocess.check_output(
        [loader, "--library-path", path, "--list", packages / PROGRAM], text=True)
    found = [Path(word) for word in listing.split() if word.startswith(f"{packages}/")]
    for file in (packages / PROGRAM, loader, *found):
        copy = tree / (LOADER if file == loader else file.relative_to(packages))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        copy.chmod(0o755)


def fetch_disk() -> Path:
    """A disk image with fio, made once and cached."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minivmm"
    host = platform.freedesktop_os_release()
    name = f"fio-amd64-{host['ID']}{host.get('VERSION_ID', '')}.img"
    disk = Path(os.environ.get("MINIVMM_CACHE") or default) / name
    if not disk.exists():
        with tempfile.TemporaryDirectory(dir=disk.parent, prefix="fio-making-") as directory:
            packages, tree, image = (Path(directory) / name for name in ("deb", "tree", "image"))
            subprocess.run([SCRIPTS / "unpack-packages", packages, "fio"], check=True)
            copy_closure(packages, tree)
            subprocess.run([SCRIPTS / "mkrootfs", image, "--from", tree, "--size", "128M"],
                           check=True)
            image.rename(disk)
    return disk


def figures(output: str, contender: str) -> Iterator[Figure]:
    """Figures from fio's JSON output."""
    for load, job in zip(LOADS, json.loads(output)["jobs"], strict=True):
        found = job["write" if "write" in load.order else "read"]
        yield Figure("fio, requests", str(load), contender, "/s", found["iops"])
        if load.depth == 1:
            latency = found["lat_ns"]
            yield Figure("fio, mean latency", str(load), contender, "us", latency["mean"] / 1000)
            yield Figure("fio, p99 of latency", str(load), contender, "us",
                         latency["percentile"]["99.000000"] / 1000)
