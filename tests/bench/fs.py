# SPDX-License-Identifier: MIT
"""Programs on a host's files: on the host itself, in `minivmm run`, whose root is the host's, and in a
guest of QEMU with the same root from virtiofsd. Runs in the lab's L1, which is the host here."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from command import installed_kernel
from contenders import Contender, Guest
from measure import MIB, Failed, Figure, read_some, take_turns

PACKAGES = ("git", "gcc", "libc6-dev", "make")  # in L1
MODULES = ("virtiofs", "overlay")               # of QEMU's guest
INITRD = Path("fs-initrd.img")
TREE = Path("/srv")  # all guests see it, below the host's root
LOAD = TREE / "load"
MEMORY = 1024        # MiB
SECONDS = 3000       # for a guest; of L1's time
TABLE = "files of the host"
SMALL, LARGE = 2000, 70_000  # files of the repositories
VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")  # Debian 13 and 12

# How many times as long as on the host each may take, for the cases that begin so.
GOALS = {"git status": 3.0, "build": 1.3}

# Prints how many microseconds each command took. Bash's clock needs no program from the share.
SCRIPT = f"""
timed() {{
    local begin=$EPOCHREALTIME end
    "${{@:2}}" >/dev/null || exit
    end=$EPOCHREALTIME
    echo "@$1: $((${{end/./}} - ${{begin/./}}))"
}}
git() {{ command git -c safe.directory=* "$@"; }}
cd {TREE} || exit
for repository in small large; do
    [ -e $repository ] || continue
    files=$(<$repository.count)
    timed "git status, $files files, the first time" git -C $repository status
    timed "git status, $files files, again" git -C $repository status
    sleep 3
    timed "git status, $files files, after three seconds" git -C $repository status
    timed "find -size, $files files" find $repository -size +1M
done
for time in "the first time" again; do
    timed "build, make -j2, $time" make -s -j2 -C build
    make -s -C build clean
done
timed "random reads of 4 KiB, 4096" ./reads random 4096
timed "reads in order, 64 MiB" dd if=stream of=/dev/null bs=1M status=none
echo @done
"""

MAKEFILE = """
objects = $(patsubst %.c,%.o,$(wildcard *.c))
built: $(objects); ld -r -o $@ $(objects)
%.o: %.c; gcc -O1 -Iinclude -c -o $@ $<
clean:; rm -f built *.o
"""
HEADERS, SOURCES = 40, 4

# QEMU's guest makes the root of `minivmm run`: the host's, read-only, below an overlay in memory.
BOOT = ("mount -t proc p /proc; mount -t devtmpfs d /dev; while read m; do insmod /lib/modules/$m; "
        "done </lib/modules/order; mkdir /h /o /n; mount -t virtiofs -o ro root /h; "
        "mount -t tmpfs t /o; mkdir /o/u /o/w; "
        "mount -t overlay -o lowerdir=/h,upperdir=/o/u,workdir=/o/w o /n; "
        "mount -t proc p /n/proc; mount -t devtmpfs d /n/dev; mount -t tmpfs t /n/tmp; "
        f"chroot /n /bin/bash {LOAD}; poweroff -f")


def make_repository(name: str, count: int):
    """Files in directories of twenty."""
    def stream() -> Iterator[bytes]:
        yield b"commit refs/heads/master\ncommitter A <a@b> 1700000000 +0000\ndata 0\n"
        for number in range(count):
            text = f"file {number}\n" * 40
            path = f"{number // 400}/{number // 20 % 20}/file{number}"
            yield f"M 644 inline {path}\ndata {len(text)}\n{text}\n".encode()

    directory = TREE / name
    subprocess.run(["git", "init", "-q", "-b", "master", directory], check=True)
    subprocess.run(["git", "-C", directory, "fast-import", "--quiet"], input=b"".join(stream()),
                   check=True)
    subprocess.run(["git", "-C", directory, "reset", "-q", "--hard"], check=True)
    (TREE / f"{name}.count").write_text(f"{count:,}")


def make_build():
    """Like a kernel's: small sources, each of which includes many headers that include others."""
    build = TREE / "build"
    (build / "include").mkdir(parents=True)
    for number in range(HEADERS):
        includes = "".join(f'#include "h{other}.h"\n' for other in range(max(0, number - 3), number))
        (build / f"include/h{number}.h").write_text(
            f"#pragma once\n{includes}struct s{number} {{ int a, b; }};\n"
            f"static inline int f{number}(struct s{number} *s) {{ return s->a + s->b; }}\n")
    for number in range(SOURCES):
        calls = "".join(f"int g{number}_{i}(struct s{i} *s) {{ return f{i}(s) * {i}; }}\n"
                        for i in range(10))
        (build / f"s{number}.c").write_text(f'#include "h{HEADERS - 1}.h"\n{calls}')
    (build / "Makefile").write_text(MAKEFILE)


def make_files(large: bool):
    TREE.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "bench", TREE], check=True)
    make_repository("small", SMALL)
    if large:
        make_repository("large", LARGE)
    make_build()
    shutil.copy("bench-reads", TREE / "reads")
    for name in ("random", "stream"):
        (TREE / name).write_bytes(os.urandom(64 * MIB))
    LOAD.write_text(SCRIPT)


def run_load(command: list[str]) -> dict[str, float]:
    """Runs a command that runs the load; returns its seconds. Tells all output: this takes minutes."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    output, deadline = b"", time.monotonic() + SECONDS
    try:
        while b"@done" not in output:
            some = read_some(process.stdout.fileno(), deadline)
            if not some:
                raise Failed(f"ended early: {output[-1000:].decode(errors='replace')}")
            output += some
            print(some.decode(errors="replace"), end="", file=sys.stderr)
    finally:
        process.kill()
        process.communicate()
    return {case: int(us) / 1e6 for case, us in re.findall(r"@(.+): (\d+)", output.decode())}


def in_minivmm(each: Contender) -> dict[str, float]:
    return run_load([each.path, "run", "--kernel", str(installed_kernel()),
                     "--memory", f"{MEMORY}M", "--cwd", "/", "--", "/bin/bash", str(LOAD)])


@contextmanager
def serving(program: str) -> Iterator[Path]:
    """virtiofsd with the host's root; yields its socket."""
    socket = Path("/tmp/virtiofsd.sock")
    old = program.startswith("/usr/lib/")  # the one in C, without --shared-dir
    words = (["-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=auto"] if old
             else ["--shared-dir", "/", "--sandbox", "none", "--cache", "auto"])
    process = subprocess.Popen([program, f"--socket-path={socket}", *words],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    try:
        while not socket.exists():
            if process.poll() is not None:
                raise Failed(f"virtiofsd: {process.stderr.read()}")
            time.sleep(0.01)
        yield socket
    finally:
        process.kill()
        process.communicate()
        socket.unlink(missing_ok=True)


def in_qemu(each: Contender) -> dict[str, float]:
    program = next(filter(os.path.exists, VIRTIOFSD), None)
    if not program:
        raise Failed("no virtiofsd")
    guest = Guest(installed_kernel(), INITRD, memory=MEMORY,
                  cmdline=f'console=ttyS0 quiet rdinit=/bin/sh -- -c "{BOOT}"')
    with serving(program) as socket:
        return run_load([
            *each.command(guest), "-machine", "memory-backend=ram",
            "-object", f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on",
            "-chardev", f"socket,id=fs,path={socket}",
            "-device", "vhost-user-fs-device,chardev=fs,tag=root,queue-size=1024"])


RUN = {"minivmm": in_minivmm, "qemu": in_qemu}


def case_with_goal(case: str) -> str:
    goal = next((goal for words, goal in GOALS.items() if case.startswith(words)), None)
    return f"{case} (goal {goal:g})" if goal else case


def measure_fs(contenders: list[Contender], large: bool) -> Iterator[Figure]:
    make_files(large)
    run_load(["bash", str(LOAD)])  # reads all files once
    host: dict[str, float] = {}

    def take(name: str, run: Callable[[], dict[str, float]]) -> Iterator[Figure]:
        found = run()
        for case, seconds in found.items():
            yield Figure(TABLE, case, name, "ms", seconds * 1e3)
            if name != "host":
                yield Figure(f"{TABLE}, times the host's", case_with_goal(case), name, "x",
                             seconds / host[case])

    def take_host() -> Iterator[Figure]:
        host.update(run_load(["bash", str(LOAD)]))
        yield from take("host", lambda: host)

    rows = {"host": take_host}
    for each in contenders:
        if (kind := each.name.partition("-")[0]) in RUN:
            name = "qemu, virtiofsd" if each.name == "qemu" else each.name
            rows[name] = partial(take, name, partial(RUN[kind], each))
    yield from take_turns("fs", 1, rows)
