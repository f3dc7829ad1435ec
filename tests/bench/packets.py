# SPDX-License-Identifier: MIT
"""Frames over a tap from and to a guest without an operating system, compared with a program on
the host. Runs in a separate network namespace and prints its figures as JSON."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contenders import Contender, Guest, contender
from measure import Figure

TAP = "tap0"
CASES = [(direction, size) for direction in ("send", "receive") for size in (60, 1514)]
FLOOD_MS = 20000


def make_tap():
    """A tap that carries only the benchmark's frames."""
    for words in (f"tuntap add {TAP} mode tap", f"link set {TAP} addrgenmode none",
                  f"link set {TAP} up"):
        subprocess.run(["ip", *words.split()], check=True)


class Run(NamedTuple):
    rate: float       # frames a second
    cpu: float        # ns per frame, of the thread that moves them
    kicks: float = 0  # notifications per frame


def run_host(tools: Path, direction: str, size: int, ms: int) -> Run:
    frames, ns, cpu = map(int, subprocess.check_output(
        [tools / "bench-hostnet", direction, TAP, str(size), str(ms)], text=True).split())
    return Run(frames / ns * 1e9, cpu / max(frames, 1))


def cpu_of_nic(pid: int) -> int:
    """CPU time of the NIC's thread in nanoseconds."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        if (task / "comm").read_text() == "net0\n":
            return int((task / "schedstat").read_text().split()[0])
    return 0


def run_guest(tools: Path, each: Contender, direction: str, size: int, ms: int, per_ms: int
              ) -> Run:
    guest = Guest(tools / "guestnet.elf", cmdline=f"{direction} {size} {ms * per_ms // 1000}",
                  tap=TAP)
    process = subprocess.Popen(each.command(guest), stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    cpu = 0
    while process.poll() is None:
        try:
            cpu = max(cpu, cpu_of_nic(process.pid))
        except OSError:
            pass  # the thread has just ended
        time.sleep(0.01)
    output, errors = process.communicate()
    if len(output.split()) != 3:
        raise RuntimeError(f"{each.name}, {direction}: {output}{errors}")
    frames, ticks, kicks = (max(int(word), 1) for word in output.split())
    warmed_up = 9 / 8  # guestnet.c's warm-up
    return Run(frames / ticks * per_ms * 1000, cpu / (frames * warmed_up), kicks / frames)


def measure(contenders: list[Contender], tools: Path, turns: int, ms: int) -> Iterator[Figure]:
    per_ms = int(subprocess.check_output([tools / "bench-hostdisk", "clock"]))
    make_tap()
    for direction, size in CASES:
        case = f"{direction} {size} bytes"
        for _ in range(turns):
            flood = subprocess.Popen([tools / "bench-hostnet", "flood", TAP, str(size),
                                      str(FLOOD_MS)], stdout=subprocess.DEVNULL
                                     ) if direction == "receive" else None
            found = {"host": run_host(tools, direction, size, ms)}
            for each in contenders:
                found[each.name] = run_guest(tools, each, direction, size, ms, per_ms)
                yield Figure("notifications per frame", case, each.name, "count",
                             found[each.name].kicks)
            for name, run in found.items():
                yield Figure("frames over a tap", case, name, "/s", run.rate)
                yield Figure("CPU time of the thread that moves a frame", case, name, "ns", run.cpu)
            if flood:
                flood.kill()
                flood.wait()


def measure_packets(contenders: list[Contender], tools: Path, turns: int, quick: bool
                    ) -> Iterator[Figure]:
    """Runs this file in its own network namespace; yields nothing where the host forbids that. For
    minivmm only: QEMU's NIC is notified, but takes no frames from this guest."""
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "ip", "tuntap", "add", TAP, "mode", "tap"],
                      stderr=subprocess.DEVNULL).returncode:
        print("bench: cannot create a tap here, skipping frames", file=sys.stderr)
        return
    what = [[(each.name, each.path) for each in contenders], str(tools), turns, 50 if quick else 400]
    done = subprocess.run([*alone, sys.executable, __file__, json.dumps(what)], check=True,
                          stdout=subprocess.PIPE, text=True)
    yield from (Figure(*each) for each in json.loads(done.stdout))


def main():
    contenders, tools, turns, ms = json.loads(sys.argv[1])
    print(json.dumps(list(measure([contender(*pair) for pair in contenders], Path(tools), turns,
                                  ms))))


if __name__ == "__main__":
    main()
