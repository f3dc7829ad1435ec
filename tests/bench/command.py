# SPDX-License-Identifier: MIT
"""minivmm run: time until a command runs, compared with the kernel alone and with virtme-ng."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from contenders import Contender, Guest
from measure import Figure, stopwatch, take_turns

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
VIRTME_NG = Path("/files/virtme-ng")  # in L1
# From Debian trixie, with the libraries of its virtiofsd, which are too old in the lab's release.
PACKAGES = ("virtme-ng", "virtiofsd", "libc6", "libcap-ng0", "libgcc-s1", "libseccomp2")
# Packages that it needs in L1, whose files the guest sees.
L1_PACKAGES = ("file", "python3-argcomplete", "python3-requests", "udev")
VIRTIOFSD = f"""#!/bin/sh
libraries={VIRTME_NG}/usr/lib/x86_64-linux-gnu
exec $libraries/ld-linux-x86-64.so.2 --library-path $libraries {VIRTME_NG}/usr/libexec/virtiofsd "$@"
"""

MEMORY = 512  # MiB
TURNS = 3
SECONDS = 300
MARKER = "@first"  # output of first.S: the init of the kernel alone, or the command


def fetch_virtme_ng(directory: Path):
    subprocess.run([SCRIPTS / "unpack-packages", "--suite", "trixie", "--no-deps", directory,
                    *PACKAGES], check=True)
    busybox = subprocess.check_output([SCRIPTS / "fetch-busybox"], text=True).strip()
    shutil.copy(busybox, directory / "busybox")
    wrapper = directory / "usr/bin/virtiofsd"
    wrapper.write_text(VIRTIOFSD)
    wrapper.chmod(0o755)


def kernel_files(kernel: Path) -> dict[Path, str]:
    """The kernel and its modules, as if installed: path on the host, name in L1."""
    return {kernel.parent: "kernel/boot", kernel.parents[1] / "lib": "kernel/lib"}


def installed_kernel() -> Path:
    return next(Path("/files/kernel/boot").glob("vmlinuz-*"))


def small_initrd(program: Path) -> Path:
    """An initrd with only this program."""
    tree = Path("/tmp/first")
    tree.mkdir()
    shutil.copy(program, tree / "init")
    initrd = tree.with_suffix(".img")
    with initrd.open("wb") as file:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=tree, input=b"init\n",
                       stdout=file, stderr=subprocess.DEVNULL, check=True)
    return initrd


def virtme_ng(kernel: Path, program: Path) -> list[str]:
    """The kernel's drivers for the root file system are modules: hence --busybox."""
    os.environ["PATH"] = f"{VIRTME_NG}/usr/bin:{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = f"{VIRTME_NG}/usr/lib/python3/dist-packages"
    for name in ("fstab", "shadow", "sudoers"):
        Path("/etc", name).touch()
    Path("/etc/lvm").mkdir(exist_ok=True)
    Path("/usr/sbin/poweroff").symlink_to("/bin/busybox")
    return ["vng", "--disable-microvm", "--run", str(kernel), "--cpus", "1", "--memory", f"{MEMORY}M",
            "--busybox", str(VIRTME_NG / "busybox"), "--", str(program)]


def measure_commands(contenders: list[Contender]) -> Iterator[Figure]:
    kernel, program = installed_kernel(), Path("bench-first").resolve()
    alone = Guest(kernel, small_initrd(program), "console=ttyS0 quiet panic=-1", MEMORY)
    runs = []
    for each in contenders:
        if each.name.startswith("minivmm"):
            runs.append(("the kernel alone", each.name, each.command(alone)))
            runs.append(("a command", each.name,
                         [each.path, "run", "--kernel", str(kernel), "--memory", f"{MEMORY}M",
                          "--", str(program)]))
            subprocess.run(runs[-1][2], check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)  # the first one unpacks the kernel
    if VIRTME_NG.exists():
        runs.append(("a command", "virtme-ng", virtme_ng(kernel, program)))

    def take(case: str, name: str, command: list[str]) -> Iterator[Figure]:
        done = stopwatch(Path("bench-stopwatch").resolve(), command, MARKER, SECONDS)
        yield Figure("exec to the first program's output", case, name, "ms", done.seen)
        yield Figure("exec to exit", case, name, "ms", done.ended)

    for case in dict.fromkeys(case for case, _, _ in runs):
        yield from take_turns(case, TURNS, {run[1]: partial(take, *run)
                                            for run in runs if run[0] == case})
