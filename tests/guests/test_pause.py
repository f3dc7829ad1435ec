# SPDX-License-Identifier: MIT
"""A guest notices nothing when its machine is paused all the time, or moves to a new one."""

import os
import re
import socket
import struct
import subprocess
import threading
from pathlib import Path

from vmm import (FILES, GUESTS, LANE, ROOT, SECTOR, TIME_LIMIT, GuestTest, add_tap, command,
                 needs_vhost, preloads, text, wait_until)

PROGRAMS = Path(FILES or ROOT / "build/tests/guests").absolute()
PAUSING, MOVING = PROGRAMS / "pausing", PROGRAMS / "moving"
PAUSES = 1000
# Where the CPU is emulated, a move takes a second.
MOVES = int(os.environ.get("MINIVMM_MOVES", "20" if LANE == "nested" else "100"))
SEED = int(os.environ.get("LAB_SEED", "1"))  # of the moments
SECTORS = 64
TAP = f"moving-{os.getpid()}"


def pattern(number: int) -> bytes:
    """The data that the payload steady writes in a round."""
    return struct.pack("<128I", *((number * 2654435761 + i) % 2**32 for i in range(SECTOR // 4)))


def contents(rounds: int) -> bytes:
    """The sectors after all rounds."""
    sectors = [bytes(SECTOR)] * SECTORS
    for number in range(max(rounds - SECTORS, 0), rounds):
        sectors[number % SECTORS] = pattern(number)
    return b"".join(sectors)


class Pause(GuestTest):
    def pausing(self, name: str, *options: object, cmdline: str = "", program=PAUSING,
                times=PAUSES, cpus=2) -> tuple[bytes, bytes]:
        """Runs a payload to its end, which is after that many pauses. Returns serial and console output."""
        ours, theirs = socket.socketpair()
        said = bytearray()

        def listen():
            while more := ours.recv(65536):
                said.extend(more)

        listener = threading.Thread(target=listen)
        listener.start()
        # The program ends the payload by writing to `back`, which is the guest's console input.
        back = os.dup(ours.fileno())
        words = command(name, *options, "--cpus", cpus, "--memory", "32M",
                        "--console", f"fd={theirs.fileno()}", cmdline=cmdline)
        words[0:1] = [str(program), str(times), *[str(SEED)][:program == MOVING], str(back)]
        try:
            done = self.run_vmm(words, pass_fds=[theirs.fileno(), back], timeout=TIME_LIMIT + times)
        finally:
            os.close(back)
            theirs.close()
            listener.join(TIME_LIMIT)
            ours.close()
        self.check_status(done, 0)
        print(f"# {text(done.stderr).strip()}")
        self.assertRegex(text(done.stderr), r"\A(paused|moved) \d+ times, \d+ us each[^\n]*\n\Z")
        return done.stdout, bytes(said)

    def check_steady(self, disk: Path, serial: bytes, console: bytes) -> int:
        """Checks that every number was printed once and in order. Returns the number of rounds."""
        numbers, rounds = re.fullmatch(r"((?:\d+\n)*)rounds (\d+)\n", text(serial)).groups()
        for number, line in enumerate(numbers.split()):
            self.assertEqual(line, str(number))
        self.assertGreater(int(rounds), 0)
        self.assertEqual(console, b"".join(b"%08d\n" % i for i in range(int(rounds))))
        self.assertEqual(disk.read_bytes()[:SECTORS * SECTOR], contents(int(rounds)))
        return int(rounds)

    def test_every_device(self):
        disk = self.disk()
        share = self.directory / "share"
        share.mkdir()
        serial, console = self.pausing("steady", "--net", "user", "--disk", disk,
                                       "--share", f"{share},rw")
        rounds = self.check_steady(disk, serial, console)
        file = (share / "file").read_bytes()
        self.assertEqual(file.ljust(SECTORS * SECTOR, b"\0"), contents(rounds))

    def check_move(self, net="user", **more):
        """The machine is saved at random moments, destroyed, and a new one goes on."""
        disk = self.disk()
        share = self.directory / "share"
        share.mkdir()
        serial, console = self.pausing("steady", "--net", net, "--disk", disk, "--sandbox", "off",
                                       "--share", f"{share},rw", program=MOVING, **more)
        rounds = self.check_steady(disk, serial, console)
        file = (share / "file").read_bytes()
        self.assertEqual(file.ljust(SECTORS * SECTOR, b"\0"), contents(rounds))

    def test_move(self):
        self.check_move(times=MOVES)

    def test_move_one_cpu(self):
        self.check_move(times=MOVES // 4, cpus=1, cmdline="single")

    def test_move_tap(self):
        add_tap(TAP, self.addCleanup)
        self.check_move(net=f"tap,name={TAP}", times=MOVES // 4)

    def test_move_vhost(self):
        """The queues go on where vhost-net has stopped, in another machine's."""
        needs_vhost()
        add_tap(TAP, self.addCleanup)
        self.check_move(net=f"tap,name={TAP},vhost", times=MOVES // 4, cmdline="vhost")

    def test_move_cpus_that_are_off(self):
        """The third and fourth CPU were never started."""
        self.check_move(times=MOVES // 4, cpus=4)

    def test_move_eight_cpus(self):
        self.check_move(times=MOVES // 10, cpus=8, cmdline="eight")

    def test_disk_by_blocking_calls(self):
        disk = self.disk()
        self.check_steady(disk, *self.pausing("steady", "--disk", f"{disk},engine=thread",
                                              cmdline="alone"))

    @preloads
    def test_disk_that_never_completes(self):
        """The pause fails with the disk's name, and the machine continues."""
        words = command("steady", "--cpus", 2, "--console", "file=console",
                        "--disk", f"{self.disk()},engine=thread", cmdline="alone")
        words[0:1] = [str(PAUSING), "0", "-1"]
        process = subprocess.Popen(words, cwd=self.directory, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={**os.environ, "LD_PRELOAD": str(GUESTS / "stuck.so"),
                                        "ASAN_OPTIONS": "verify_asan_link_order=0"})
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, b"")))
        reader.start()
        try:
            said = next((line for line in process.stderr if b"cannot pause" in line), b"")
            self.assertEqual(text(said), "minivmm: cannot pause: blk0 is busy\n")
            before = len(lines)
            wait_until(lambda: len(lines) > before + 100, "the second CPU to continue counting")
        finally:
            process.kill()
            reader.join(TIME_LIMIT)
            process.communicate()
        self.assertEqual([text(line) for line in lines[:-1]],
                         [f"{number}\n" for number in range(len(lines) - 1)])
