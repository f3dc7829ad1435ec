#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a golden snapshot, which every later minivmm must load: `ninja -C BUILD golden`.

Called with a command that runs it once more where there is KVM, it keeps what that prints.
"""

import base64
import io
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

SNAPSHOTS = Path(__file__).resolve().parent / "golden"
TAP = "golden0"
MIB = 1 << 20


def make_tap():
    subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap"], check=True)


def make() -> bytes:
    """A machine with a device of each kind, in a state that is not its first. Its files, packed."""
    from vmm import MINIVMM, command  # of L1

    make_tap()
    os.chdir(os.environ["TMPDIR"])
    Path("share").mkdir()
    Path("disk.img").write_bytes(b"golden" + bytes(MIB - 6))
    words = command("count", "--control", "s", "--memory", "32M", "--cpus", 2, "--disk", "disk.img",
                    "--console", "file=console", "--share", "share,tag=golden", "--net", f"tap,name={TAP}")
    machine = subprocess.Popen(words[:1] + words[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE) # without --net none
    machine.stdin.write(b"f")
    machine.stdin.flush()
    for line in machine.stdout:
        if line.rstrip() == b"filled":
            break
    subprocess.run([MINIVMM, "snapshot", "--stop", "s", "snap"], check=True)
    machine.communicate()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for path in sorted(Path("snap").iterdir()):
            archive.add(path, path.name)
    return packed.getvalue()


def keep(words: list[str]):
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    packed = base64.b64decode(done.stdout.splitlines()[-1])
    number = 1 + len(list(SNAPSHOTS.glob(f"*-{platform.machine()}.tar.xz")))
    path = SNAPSHOTS / f"{number}-{platform.machine()}.tar.xz"
    path.write_bytes(packed)
    print(path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        keep(sys.argv[1:])
    else:
        print(base64.b64encode(make()).decode())
