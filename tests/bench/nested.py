# SPDX-License-Identifier: MIT
"""Measurements that need a real guest: runs in the lab's L1, prints the figures as JSON last."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import fio
import fs
from command import measure_commands
from contenders import Contender, Guest, contender
from measure import (MIB, Failed, Figure, private_kib, read_some, stats_tables, stopwatch,
                     take_turns)
from start import warm_up
from warm import measure_warm

KERNEL, INITRD = Path("vmlinuz"), Path("initrd.img")
VMLINUX = Path("vmlinux")  # the same kernel
STOPWATCH = Path("bench-stopwatch").resolve()
TRACE = Path("/sys/kernel/tracing/events/kvm")
MEMORY = 512  # MiB
SETTLE = 3    # seconds
TIME_LIMIT = 600  # seconds for what a guest does next

# Loads for counting exits: a shell command, and how many operations it performs. Each load that
# uses a disk has its own.
LOADS = {
    "disk read, 4 KiB, one at a time": ("dd if=/dev/vda of=/dev/null bs=4k count=4096 iflag=direct",
                                        4096),
    "disk read, 4 KiB, eight at a time": (
        "for i in 0 1 2 3 4 5 6 7; do dd if=/dev/vdb of=/dev/null bs=4k count=512 "
        "skip=$((512*i)) iflag=direct & done; wait", 4096),
    "disk write, 4 KiB, one at a time": (
        "dd if=/dev/zero of=/dev/vdc bs=4k count=4096 oflag=direct", 4096),
    "ping and its answer, user network": ("ping -A -q -c 2000 10.0.2.2", 2000),
    "console, a byte": ("seq 1 200", 692 + 200),
}


def guest(command: str, *words: str, **more) -> Guest:
    """Linux with the drivers' initramfs, running a shell command."""
    return Guest(KERNEL, INITRD, memory=MEMORY,
                 cmdline=f'console=ttyS0 {" ".join(words)} minivmm.test="{command}"', **more)


def disk(name: str, size: int = 16 * MIB) -> Path:
    path = Path("/dev/shm") / name
    path.write_bytes(b"\1" * size)
    return path


def every(contenders: list[Contender], row: str, take, *arguments) -> Iterator[Figure]:
    """One turn of take(contender, *arguments) for each."""
    return take_turns(row, 1, {each.name: partial(take, each, *arguments) for each in contenders})


def take_boot(each: Contender, case: str, what: Guest) -> Iterator[Figure]:
    done = stopwatch(STOPWATCH, each.command(what), "@init\r", 60, each.ends(what))
    yield Figure("exec to the guest's init", case, each.name, "ms", done.seen)
    if each.ends(what):
        yield Figure("exec to power-off", case, each.name, "ms", done.ended)


def measure_boot(contenders: list[Contender]) -> Iterator[Figure]:
    """Time to the first program in the guest, and to power-off. The marker ends in \\r, which the
    terminal adds: the kernel's log shows the command line, too."""
    warm_up(contenders, STOPWATCH, Path("start.elf"), KERNEL, VMLINUX, INITRD)
    for case, kernel, words in (("kernel's log on the serial port", KERNEL, ""),
                                ("quiet", KERNEL, "quiet "), ("quiet, vmlinux", VMLINUX, "quiet ")):
        bare = Guest(kernel, INITRD, memory=MEMORY,
                     cmdline=f'console=ttyS0 {words}rdinit=/bin/sh -- '
                             '-c "echo @init; poweroff -f"')
        yield from every(contenders, case, take_boot, case, bare)


@contextmanager
def running(each: Contender, what: Guest):
    """Yields the process and a function that waits until the guest has printed a word."""
    process = subprocess.Popen(each.command(what), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = b""

    def wait_for(word: str):
        nonlocal said
        wanted = word.encode() + b"\r\n"
        deadline = time.monotonic() + TIME_LIMIT
        while wanted not in said:
            data = read_some(process.stdout.fileno(), deadline)
            if not data:
                raise Failed(f"no {word}: {said[-2000:].decode(errors='replace')}")
            said += data
        said = said.partition(wanted)[2]

    try:
        yield process, wait_for
    finally:
        process.kill()
        process.communicate()


def measure_memory(contenders: list[Contender]) -> Iterator[Figure]:
    disks = tuple(disk(f"disk{number}") for number in range(3))
    cases = {"no network": {"disks": disks[:1]},
             "user network": {"disks": disks[:1], "user_net": True},
             "3 disks": {"disks": disks},
             "4 vCPUs": {"disks": disks[:1], "cpus": 4}}
    load = "dd if=/dev/vda of=/dev/null bs=1M iflag=direct; echo @idle; sleep 1000"
    for case, more in cases.items():
        yield from every(contenders, case, take_memory, case, guest(load, "quiet", **more))


def take_memory(each: Contender, case: str, what: Guest) -> Iterator[Figure]:
    with running(each, what) as (process, wait_for):
        wait_for("@idle")
        time.sleep(SETTLE)
        yield Figure("private memory beside guest RAM, Linux idle after boot", case, each.name,
                     "KiB", private_kib(process.pid, MEMORY))


def hits(event: str) -> int:
    return int(re.search(r"Hits: (\d+)", (TRACE / event / "hist").read_text())[1])


def script_disk(end: str = "") -> Path:
    """A disk with the guest's shell script: prints a mark, pauses, runs a load, and so on."""
    script = f"sleep 2; echo @0; sleep {SETTLE}; echo @1; "
    for number, (load, _) in enumerate(LOADS.values(), 2):
        script += f"sleep {SETTLE}; {{ {load}; }} >/dev/console 2>/dev/null; echo @{number}; "
    return text_disk("script", script + end)


def loaded(end: str = "") -> Guest:
    """The guest that runs the loads."""
    disks = (*(disk(f"load{number}") for number in range(3)), script_disk(end))
    return guest("sh /dev/vdd", "quiet", disks=disks, user_net=True)


def measure_exits(contenders: list[Contender]) -> Iterator[Figure]:
    """Exits of a load beyond those of an idle guest, per operation."""
    events = {"kvm_userspace_exit": "reason", "kvm_exit": "exit_reason"}
    for event, key in events.items():
        (TRACE / event / "trigger").write_text(f"hist:keys={key}")
    return every(contenders, "exits", take_exits, tuple(events), loaded())


def take_exits(each: Contender, events: tuple[str, ...], what: Guest) -> Iterator[Figure]:
    seen = []
    with running(each, what) as (_, wait_for):
        for number in range(len(LOADS) + 2):
            wait_for(f"@{number}")
            seen.append({event: hits(event) for event in events})
    for number, (case, (_, count)) in enumerate(LOADS.items(), 1):
        for event in events:
            idle = seen[1][event] - seen[0][event]
            some = seen[number + 1][event] - seen[number][event]
            yield Figure(f"{event} for each", case, each.name, "exits", (some - idle) / count)


def measure_stats(contenders: list[Contender]) -> Iterator[Figure]:
    """The same loads counted by --stats, which covers the whole life of the machine."""
    command = contenders[0].command(loaded(end="poweroff -f"))
    done = subprocess.run([*command, "--stats"], stdin=subprocess.DEVNULL, check=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = stats_tables(done.stderr)
    for case, name in zip(LOADS, ("blk0", "blk1", "blk2", "net0", "uart16550")):
        row = found["console" if name == "uart16550" else "device"][name]
        for column, value in row.items():
            what, slash, _ = column.partition("/")
            if slash:
                yield Figure(f"--stats: {column.replace('byte', 'request')}", case,
                             contenders[0].name, what, value)


HOST = "10.1.0.1"  # L1's end of the tap; a user-mode network reaches it, too
PORT = 9000

# The case, how many bytes or times, the unit, and the figure from that count and seconds.
TRANSFERS = {
    "upload": ("stream, guest to host", 32 * MIB, "MB/s", lambda count, s: count / s / 1e6),
    "download": ("stream, host to guest", 32 * MIB, "MB/s", lambda count, s: count / s / 1e6),
    "pingpong": ("byte there and back, one after the other", 1000, "1/s",
                 lambda count, s: count / s),
    "datagrams": ("datagram there and back, 32 under way", 4000, "1/s",
                  lambda count, s: count / s),
}


@contextmanager
def running_beside(*command: str):
    """Runs a command in the background; yields its output."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout
    finally:
        process.kill()
        process.communicate()


def make_tap(name: str):
    for words in (f"tuntap add {name} mode tap", f"addr add {HOST}/24 dev {name}",
                  f"link set {name} up"):
        subprocess.run(["ip", *words.split()], check=True)


def text_disk(name: str, text: str) -> Path:
    path = Path("/dev/shm") / name
    path.write_text(text.ljust(65536, "\n"))
    return path


def wire_guest(address: str, **net) -> Guest:
    """Requests all transfers. On its disks: a shell script, and the program."""
    program = disk("wire", 2 * MIB)
    with program.open("r+b") as file:
        file.write(Path("bench-wire").read_bytes())
    boot = ('console=ttyS0 quiet rdinit=/bin/sh -- -c "mount -t devtmpfs dev /dev; while read m; '
            'do insmod /lib/modules/$m; done </lib/modules/order; sh /dev/vda; poweroff -f"')
    requests = "".join(f"/tmp/wire {name} {HOST} {PORT} {count} || exit\n"
                       for name, (_, count, _, _) in TRANSFERS.items())
    script = text_disk("script", "cp /dev/vdb /tmp/wire; chmod +x /tmp/wire; ip link set eth0 up; "
                                 f"{address}\n{requests}echo @done\n")
    return Guest(KERNEL, INITRD, boot, MEMORY, disks=(script, program), **net)


def measure_transfers(contenders: list[Contender], case: str, what: Guest) -> Iterator[Figure]:
    """Timed by the server in L1."""
    return every(contenders, case, take_transfers, case, what)


def take_transfers(each: Contender, case: str, what: Guest) -> Iterator[Figure]:
    server = (str(Path("bench-wire").resolve()), "serve", HOST, str(PORT))
    with running_beside(*server) as answers, running(each, what) as (_, wait_for):
        wait_for("@done")
        for _ in TRANSFERS:
            name, count, ns = answers.readline().split()
            text, _, unit, figure = TRANSFERS[name]
            yield Figure(f"network, {text}", case, each.name, unit,
                         figure(int(count), int(ns) / 1e9))


def never_idle():
    """Keeps L1 busy: QEMU's instruction clock can stall while it sleeps."""
    return running_beside("chrt", "-i", "0", "sh", "-c", "while :; do :; done")


def measure_tap(contenders: list[Contender]) -> Iterator[Figure]:
    make_tap("tap0")
    with never_idle():
        for case, vhost in (("tap", False), ("tap, vhost-net", True)):
            yield from measure_transfers(contenders, case, wire_guest(
                "ip addr add 10.1.0.2/24 dev eth0", tap="tap0", vhost=vhost))


def measure_run(contenders: list[Contender]) -> Iterator[Figure]:
    with never_idle():
        yield from measure_commands(contenders)


def measure_warm_runs(contenders: list[Contender]) -> Iterator[Figure]:
    with never_idle():
        yield from measure_warm(contenders)


def measure_files(contenders: list[Contender], large: bool = False) -> Iterator[Figure]:
    with never_idle():
        yield from fs.measure_fs(contenders, large)


def measure_user_net(contenders: list[Contender]) -> Iterator[Figure]:
    make_tap("tap0")  # for the address
    what = wire_guest("ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2",
                      user_net=True)
    for _ in range(3):
        yield from measure_transfers(contenders, "user-mode network", what)


def measure_fio(contenders: list[Contender]) -> Iterator[Figure]:
    """In real time, see method.md. The disk is on tmpfs, hence engine=thread."""
    jobs, answers = text_disk("jobs", fio.JOBS), Path("/dev/shm/answers")
    cmdline = ('console=ttyS0 quiet root=/dev/vda minivmm.test="/usr/bin/fio --eta=never '
               '--output-format=json --output=/dev/vdd /dev/vdc"')
    what = Guest(KERNEL, INITRD, cmdline, MEMORY, engine="thread",
                 disks=(Path("fio.img"), disk("data", fio.SIZE), jobs, answers))
    def take(each: Contender) -> Iterator[Figure]:
        text_disk(answers.name, "")
        subprocess.run(each.command(what), stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
        yield from fio.figures(answers.read_text(), each.name)

    return take_turns("fio", 3, {each.name: partial(take, each) for each in contenders})


PARTS = {"boot": measure_boot, "run": measure_run, "warm": measure_warm_runs, "memory": measure_memory,
         "fio": measure_fio, "fs": measure_files, "fs-large": partial(measure_files, large=True),
         "exits": measure_exits, "stats": measure_stats, "tap": measure_tap, "user-net": measure_user_net}


def main():
    part, contenders = json.loads(sys.argv[1])
    figures = []
    for figure in PARTS[part]([contender(*pair) for pair in contenders]):
        print(*figure, file=sys.stderr)
        figures.append(figure)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
