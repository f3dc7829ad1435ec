# SPDX-License-Identifier: MIT
"""Machines that are saved and go on elsewhere, and the socket that commands them."""

import contextlib
import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest
from pathlib import Path

from test_pause import MOVES, PROGRAMS, SEED
from vmm import (MINIVMM, SECTOR, TIME_LIMIT, GuestTest, add_tap, command, only_on, output_lines,
                 payload, text, wait_until)

USAGE = 2
FAILED = 125
MOVING = PROGRAMS / "moving"
KILLS = int(os.environ.get("KILLS", "12"))  # of a process while it makes a snapshot
MUTATIONS = 60
LINES = 400     # of 4 KiB: more than pipes and machines hold
MIB = 1 << 20
TAP = f"saved-{os.getpid()}"
HEADER = struct.Struct("<8sIIQ16sII")
FIELD_SIZES = {1: 1, 2: 2, 3: 4, 4: 8, 5: 1, 6: 4, 7: 4, 8: 8}
DATA = 6


def crc32c(data: bytes, table: list[int] = []) -> int:
    """CRC-32C, as in the files."""
    if not table:
        for value in range(256):
            for _ in range(8):
                value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
            table.append(value)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


class State:
    """A state file, taken apart."""

    def __init__(self, path: Path):
        data = path.read_bytes()
        self.header = HEADER.unpack_from(data)
        self.sections: list[bytes] = []
        at = HEADER.size
        for _ in range(self.header[5]):
            size = 4 + struct.unpack_from("<I", data, at)[0]
            self.sections.append(data[at:at + size])
            at += size

    def write(self, path: Path):
        """Writes it with checksums that are right."""
        body = b"".join(self.sections) + b"".join(
            struct.pack("<I", crc32c(section)) for section in self.sections)
        head = HEADER.pack(*self.header[:3], HEADER.size + len(body), self.header[4],
                           len(self.sections), 0)[:-4]
        path.write_bytes(head + struct.pack("<I", crc32c(head)) + body)

    def fields(self) -> dict[str, bytes]:
        """Values by SECTION.FIELD, with a number where that is not unique."""
        found: dict[str, bytes] = {}
        for section in self.sections:
            at = 7 + section[6]
            prefix = section[7:at].decode()
            while at < len(section):
                kind, length = section[at], section[at + 1]
                name = f"{prefix}.{section[at + 2:at + 2 + length].decode()}"
                at += 2 + length
                size = FIELD_SIZES[kind]
                if kind == DATA:
                    size += struct.unpack_from("<I", section, at)[0]
                unique, number = name, 1
                while unique in found:
                    number += 1
                    unique = f"{name}#{number}"
                found[unique] = section[at:at + size]
                at += size
        return found


class Machine:
    """A machine that runs the payload count; its output is read all the time."""

    def __init__(self, test: GuestTest, words: list[str], **more):
        self.process = subprocess.Popen(words, cwd=test.directory, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        self.lines: list[str] = []
        self.found: list[tuple[str, int]] = []
        self.first = int("restore" in words) # it may go on in the middle of a line
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        test.addCleanup(self.end)

    def read(self):
        for line in self.process.stdout:
            said = text(line).rstrip()
            number, _, count = said.partition(" ")
            self.lines.append(said)
            if count.isdigit() and len(self.lines) > self.first:
                self.found.append((number, int(count)))

    def counts(self) -> list[tuple[str, int]]:
        """Numbers and counts of all whole lines so far."""
        return self.found

    def wait(self, condition, what: str):
        wait_until(lambda: condition() or self.process.poll() is not None, what)
        if not condition():
            _, error = self.finish()
            raise AssertionError(f"ended with {self.process.returncode} before {what}: {error}")

    def runs(self, more: int = 5) -> tuple[str, int]:
        """Waits for further lines. Returns the last one's number and count."""
        before = len(self.counts())
        self.wait(lambda: len(self.counts()) >= before + more, "more lines")
        return self.counts()[-1]

    def send(self, command: str):
        self.process.stdin.write(command.encode())
        self.process.stdin.flush()

    def fill(self):
        before = self.lines.count("filled")
        self.send("f")
        self.wait(lambda: self.lines.count("filled") > before, "filled memory")

    def finish(self, status: int | None = None) -> tuple[list[str], str]:
        """Waits for its end. Returns its lines and what it said on stderr."""
        error = text(self.process.stderr.read())
        got = self.process.wait(TIME_LIMIT)
        self.reader.join(TIME_LIMIT)
        if status is not None and got != status:
            raise AssertionError(f"exit status {got}, not {status}: {error}")
        return self.lines, error

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(TIME_LIMIT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class SnapshotTest(GuestTest):
    def setUp(self):
        super().setUp()
        self.socket = self.directory / "s"
        self.snap = self.directory / "snap"

    def start(self, *options: object, control: object = None, name="count", **more) -> Machine:
        machine = Machine(self, command(name, "--control", control or self.socket, "--memory", "32M",
                                        *options), **more)
        if name == "count":
            machine.runs()
        return machine

    def restore(self, *options: object, snap: Path | None = None, **more) -> Machine:
        return Machine(self, [str(word) for word in (MINIVMM, "restore", snap or self.snap, *options)],
                       **more)

    def take(self, *options: object, control: object = None, snap: Path | None = None):
        return self.run_vmm([str(word) for word in (MINIVMM, "snapshot", *options,
                                                    control or self.socket, snap or self.snap)])

    def check_taken(self, *options: object, **where):
        done = self.take(*options, **where)
        self.assertEqual((done.returncode, text(done.stderr)), (0, ""))

    def check_whole(self, snap: Path | None = None):
        done = self.run_vmm([str(MINIVMM), "snapshot", "--check", str(snap or self.snap)])
        self.assertEqual((done.returncode, text(done.stderr), done.stdout), (0, "", b""))

    def check_refused(self, words: list[object], status: int, *said: str):
        done = self.run_vmm([str(word) for word in (MINIVMM, *words)])
        self.check_status(done, status)
        self.check_one_line(done.stderr, *said)
        self.assertEqual(done.stdout, b"")

    def check_not_restored(self, *said: str, options: list[object] = [], status=FAILED):
        self.check_refused(["restore", self.snap, *options], status, *said)

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}

    def check_continues(self, machine: Machine, number: str, count: int):
        """It goes on from the moment of a snapshot, which is after that count."""
        machine.runs()
        first = machine.counts()[0]
        self.assertEqual(first[0], number)
        self.assertGreaterEqual(first[1], count)
        counts = [count for _, count in machine.counts()]
        self.assertEqual(counts, list(range(counts[0], counts[0] + len(counts))))

    def saved(self, *options: object) -> tuple[str, int]:
        """Leaves a snapshot of a machine that has ended. Returns its number and a count before."""
        machine = self.start(*options)
        machine.fill()
        number, count = machine.runs()
        self.check_taken("--stop")
        machine.finish(0)
        return number, count


class Snapshots(SnapshotTest):
    def test_running_machine(self):
        machine = self.start()
        machine.fill()
        number, count = machine.runs()
        self.check_taken()
        last = machine.runs()
        self.assertEqual(last[0], number)
        self.check_whole()
        self.assertEqual(self.names(), {"s", "snap"})
        self.assertEqual({path.name for path in self.snap.iterdir()}, {"state", "memory"})
        for path in [self.snap, *self.snap.iterdir()]:
            wanted = 0o700 if path == self.snap else 0o600
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), wanted)
        restored = self.restore()
        self.check_continues(restored, number, count)
        restored.fill()
        for each in (machine, restored):
            each.runs()
            each.send("e")
            _, error = each.finish(0)
            self.assertEqual(error, "")

    def test_several_at_once(self):
        """Nobody sees what another one writes, at the same time and to the same places."""
        machine = self.start()
        machine.fill()
        number, count = machine.runs()
        self.check_taken()
        before = {path.name: path.read_bytes() for path in self.snap.iterdir()}
        restored = [self.restore() for _ in range(4)]
        for each in restored:
            self.check_continues(each, number, count)
        everybody = [machine, *restored]
        for each in everybody:
            each.send("d")
            each.wait(lambda: each.counts()[-1][0] != number, "another number")
        for turn in range(1, 5): # the first checks what was saved, the others one's own pattern
            for each in everybody:
                each.send("f")
            for each in everybody:
                each.wait(lambda: each.lines.count("filled") == turn + (each is machine), "filled memory")
        self.assertEqual(len({each.runs()[0] for each in everybody}), len(everybody))
        for each in everybody:
            each.send("o")
            each.finish(0)
        self.assertEqual({path.name: path.read_bytes() for path in self.snap.iterdir()}, before)

    def test_generations(self):
        for cpus in (1, 2, 8):
            with self.subTest(cpus=cpus):
                self.check_generations(cpus)

    def check_generations(self, cpus: int):
        place = self.directory / f"cpus{cpus}"
        place.mkdir()
        machine = self.start("--cpus", cpus, control=place / "s0")
        number, count = machine.runs()
        for generation in range(5):
            snap = place / f"snap{generation}"
            machine.fill()
            self.check_taken(control=place / f"s{generation}", snap=snap)
            machine.end()
            machine = self.restore("--control", place / f"s{generation + 1}", snap=snap)
            self.check_continues(machine, number, count)
            number, count = machine.runs()
            self.check_whole(snap)

    def test_memory_above_3_gib(self):
        """There are two ranges then, of which the second is not where it is in the file."""
        machine = self.start("--memory", "5G", "--cpus", 8)
        machine.fill()
        number, count = machine.runs()
        self.check_taken()
        machine.fill()
        memory = self.snap / "memory"
        self.assertEqual(memory.stat().st_size, (5 << 30) + 4096)
        self.assertLess(memory.stat().st_blocks * SECTOR, 32 * MIB)
        machine.end()
        for _ in range(2):
            restored = self.restore("--control", self.directory / "s1")
            self.check_continues(restored, number, count)
            restored.fill()
            restored.fill()
            number, count = restored.runs()
            self.check_taken(control=self.directory / "s1", snap=self.directory / "snap1")
            restored.end()
            wait_until(lambda: not (self.directory / "s1").exists(), "the socket's end")
            self.snap = self.directory / "snap1"

    def test_sandboxes(self):
        for mode in ("on", "off", "strict"):
            with self.subTest(mode):
                machine = self.start("--sandbox", mode, "--disk", self.disk())
                machine.fill()
                number, count = machine.runs()
                self.check_taken("--stop")
                machine.finish(0)
                control = self.directory / f"s-{mode}"
                restored = self.restore("--sandbox", mode, "--control", control)
                self.check_continues(restored, number, count)
                self.check_taken("--stop", control=control)
                restored.finish(0)
                self.restore("--sandbox", mode).runs()

    def test_template_that_goes_away(self):
        """Removed, it lives as long as a machine; truncated, the machine ends and says so."""
        self.saved()
        machine = self.restore()
        machine.runs()
        copy = self.directory / "copy"
        (self.snap / "memory").rename(copy)
        machine.fill()
        machine.runs()
        copy.unlink()
        machine.runs()
        self.saved()
        machine = self.restore()
        machine.runs()
        os.truncate(self.snap / "memory", 0)
        _, error = machine.finish()
        self.assertRegex(error, r"snapshot's memory was truncated|KVM could not go on")

    def test_stop(self):
        machine = self.start()
        number, count = machine.runs()
        self.check_taken("--stop")
        lines, error = machine.finish(0)
        self.assertEqual(error, "")
        wait_until(lambda: not self.socket.exists(), "the socket's end")
        restored = self.restore()
        restored.runs()
        saved_at = restored.counts()[0][1]
        self.assertLessEqual(saved_at, int(lines[-2].split()[1]) + 3) # nothing ran after it

    def test_old_one_is_replaced(self):
        machine = self.start()
        self.check_taken()
        old = (self.snap / "state").read_bytes()
        number, count = machine.runs()
        self.check_taken(snap=str(self.snap) + "/")
        self.assertNotEqual((self.snap / "state").read_bytes(), old)
        self.assertEqual(self.names(), {"s", "snap"})
        self.check_continues(self.restore(), number, count)

    def test_what_is_no_snapshot_stays(self):
        machine = self.start()
        self.check_taken()
        places = [self.file("file"), self.directory / "empty", self.directory / "work",
                  self.directory / "more", self.directory / "link"]
        for place in places[1:4]:
            place.mkdir()
        (places[2] / "state").write_bytes(b"of the union")
        for name in ("state", "memory"):
            (places[3] / name).write_bytes((self.snap / name).read_bytes()[:4096])
        (places[3] / "thesis.tex").write_bytes(b"")
        places[4].symlink_to(self.snap)
        before = sorted(self.directory.rglob("*"))
        for place in places:
            with self.subTest(place.name):
                self.check_refused(["snapshot", self.socket, place], FAILED, str(place))
                self.assertEqual(sorted(self.directory.rglob("*")), before)
        self.assertEqual((places[2] / "state").read_bytes(), b"of the union")
        machine.runs()

    def test_directory_that_cannot_be_made(self):
        machine = self.start()
        self.check_refused(["snapshot", self.socket, "/proc/snap"], FAILED, "create /proc/snap")
        self.check_refused(["snapshot", self.socket, self.directory / "none" / "snap"], FAILED,
                           "No such file")
        self.check_refused(["snapshot", self.socket, "x" * 300], FAILED, "too long")
        self.check_refused(["snapshot", self.socket, ""], FAILED)
        machine.runs()

    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount a small file system")
    def test_full_disk(self):
        place = self.directory / "small"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "small", place],
                              stderr=subprocess.PIPE)
        if done.returncode:
            self.skipTest(f"mount: {text(done.stderr).strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", place])
        machine = self.start()
        number, count = machine.runs()
        self.check_taken(snap=place / "snap")
        old = (place / "snap/state").read_bytes()
        machine.fill()
        for _ in range(2):
            self.check_refused(["snapshot", self.socket, place / "snap"], FAILED, "No space left")
            self.assertEqual([path.name for path in place.iterdir()], ["snap"])
            self.assertEqual((place / "snap/state").read_bytes(), old)
            machine.runs()
        self.check_continues(self.restore(snap=place / "snap"), number, count)

    def test_client_is_killed(self):
        """The old snapshot is whole, or the new one; the machine does not care."""
        machine = self.start()
        machine.fill()
        chance = random.Random(1)
        for number in range(KILLS):
            client = subprocess.Popen([MINIVMM, "snapshot", self.socket, self.snap],
                                      stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(chance.random() * 0.04)
            client.kill()
            client.wait()
            machine.runs(2)
            if self.snap.exists():
                self.check_whole()
        wait_until(lambda: self.take().returncode == 0, "a snapshot after those of killed clients")
        self.check_whole()
        machine.runs()
        restored = self.restore()
        restored.runs()
        restored.fill()

    def test_interrupted_client_leaves_nothing(self):
        machine = self.start()
        machine.fill()
        chance = random.Random(3)
        for number in range(KILLS):
            client = subprocess.Popen([MINIVMM, "snapshot", self.socket, self.snap],
                                      stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(chance.random() * 0.04)
            client.send_signal([signal.SIGINT, signal.SIGTERM, signal.SIGHUP][number % 3])
            client.wait(TIME_LIMIT)
            self.assertLessEqual(self.names(), {"s", "snap"})
            machine.runs(2)
        self.assertIn("s", self.names())

    def test_machine_is_killed(self):
        chance = random.Random(2)
        for number in range(KILLS // 2):
            machine = self.start()
            machine.fill()
            client = subprocess.Popen([MINIVMM, "snapshot", self.socket, self.snap],
                                      stderr=subprocess.PIPE)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(chance.random() * 0.04)
            machine.end()
            _, error = client.communicate(timeout=TIME_LIMIT)
            if client.returncode:
                self.assertEqual(client.returncode, FAILED)
                self.check_one_line(error)
            wait_until(lambda: not self.socket.exists(), "the socket's end")
            self.assertLessEqual(self.names(), {"snap"})
            if self.snap.exists():
                self.check_whole()

    def test_show(self):
        self.saved("--disk", f"{self.disk()},ro")
        done = self.run_vmm([str(MINIVMM), "snapshot", "--show", str(self.snap)])
        self.check_status(done, 0)
        said = text(done.stdout)
        self.assertRegex(said, r"\Aconfig, version \d+\n  kernel: /")
        for words in ("\n  memory: 33554432\n", "disk.img\n", "\ndisks, version 1\n"):
            self.assertIn(words, said)
        for name in State(self.snap / "state").fields():
            self.assertIn(f"  {name.partition('.')[2].partition('#')[0]}: ", said)
        with open("/dev/full", "wb") as full:
            done = self.run_vmm([str(MINIVMM), "snapshot", "--show", str(self.snap)], stdout=full)
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "No space left")

    def test_what_is_shown_cannot_command_a_terminal(self):
        self.saved()
        state = State(self.snap / "state")
        first = state.sections[0]
        state.sections[0] = first.replace(b"\x06kernel", b"\x06\x1b[31mk", 1)
        state.write(self.snap / "state")
        done = self.run_vmm([str(MINIVMM), "snapshot", "--show", str(self.snap)])
        self.check_status(done, 0)
        self.assertNotIn(b"\x1b", done.stdout + done.stderr)

    @only_on("x86_64", "the payload is for x86")
    def test_registers_and_timers(self):
        """At random moments of a guest that looks at its registers and waits for timers."""
        ours, theirs = socket.socketpair()
        said = bytearray()
        reader = threading.Thread(target=lambda: [said.extend(more) for more in
                                                  iter(lambda: ours.recv(65536), b"")])
        reader.start()
        back = os.dup(ours.fileno())
        words = command("kept", "--cpus", 2, "--memory", "32M", "--sandbox", "off",
                        "--serial", f"fd={theirs.fileno()}")
        moves = MOVES * 3 // 5
        words[0:1] = [str(MOVING), str(moves), str(SEED), str(back)]
        try:
            done = self.run_vmm(words, pass_fds=[theirs.fileno(), back], timeout=TIME_LIMIT + moves)
        finally:
            os.close(back)
            theirs.close()
            reader.join(TIME_LIMIT)
            ours.close()
        self.assertEqual(done.returncode, 0, text(bytes(said[-500:])) + text(done.stderr))
        self.assertRegex(text(bytes(said)), r"\A(AVX|SSE), \w+\n(\d+\n)*rounds [1-9]\d*\n\Z")
        self.assertRegex(text(done.stderr), rf"\Amoved {moves} times")


class Refusals(SnapshotTest):
    """What cannot be restored: one line, and nothing is started."""

    def test_words(self):
        self.saved()
        for words, said in ((["restore"], "expected a snapshot's directory"),
                            (["restore", "--net", "user,hostfwd=tcp::1-:1", self.snap], "first"),
                            (["restore", "--control", "x", self.snap], "first"),
                            (["restore", self.snap, self.snap], "unexpected argument"),
                            (["restore", self.snap, "--kernel", "x"], "--kernel"),
                            (["restore", self.snap, "--disk", "0:x"], "no disk 0"),
                            (["restore", self.snap, "--disk", "x"], "N:FILE"),
                            (["restore", self.snap, "--disk", "0:"], "N:FILE"),
                            (["restore", self.snap, "--disk", "-1:x"], "N:FILE"),
                            (["restore", self.snap, "--share", "a:b"], "no share 'a'"),
                            (["restore", self.snap, "--share", "a"], "TAG:DIR"),
                            (["restore", self.snap, "--net", "user"], "has 0 NICs"),
                            (["restore", self.snap, "--clock", "virtual"], "--clock"),
                            (["restore", self.snap, "--serial", "pipe"], "--serial"),
                            (["snapshot"], "expected a socket and a directory"),
                            (["snapshot", self.socket], "expected"),
                            (["snapshot", self.socket, self.snap, "x"], "expected"),
                            (["snapshot", "--show", self.snap, self.snap], "expected"),
                            (["snapshot", "--show", "--stop", self.snap], "expected"),
                            (["snapshot", "--show", "--check", self.snap], "expected"),
                            (["snapshot", "--start", self.socket, self.snap], "--start")):
            with self.subTest(words=words):
                self.check_refused(words, USAGE, said)
        for command in ("restore", "snapshot"):
            for word in ("--help", "-h"):
                done = self.run_vmm([str(MINIVMM), command, word])
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertIn(f"minivmm {command}", text(done.stdout))

    def test_no_snapshot(self):
        place = self.directory / "place"
        for words in (["restore", place], ["snapshot", "--show", place], ["snapshot", "--check", place]):
            self.check_refused(words, FAILED, "open", "place: No such file")
        place.mkdir()
        (place / "state").write_bytes(b"hello")
        self.check_refused(["restore", place], FAILED, "place/memory", "No such file")
        (place / "memory").write_bytes(b"hello")
        self.check_refused(["restore", place], FAILED, "not the state of a machine")
        (place / "state").unlink()
        os.mkfifo(place / "state", 0o600)
        self.check_refused(["restore", place], FAILED, "not the state of a machine")

    def test_damaged_state(self):
        """Any changed byte is noticed; any other truncation, too."""
        self.saved()
        path = self.snap / "state"
        data = path.read_bytes()
        places = [*range(HEADER.size), *random.Random(1).sample(range(HEADER.size, len(data)), MUTATIONS)]
        for at in places:
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:])
            self.check_not_restored("state: ")
            path.write_bytes(data[:at])
            self.check_not_restored("state: ")
        path.write_bytes(data + b"x")
        self.check_not_restored("state: ")

    def test_forged_state(self):
        """With checksums that are right it is refused, or a guest that may do anything runs."""
        self.saved("--disk", f"{self.disk()},ro", "--console", "file=console", "--cpus", 2)
        state = State(self.snap / "state")
        chance = random.Random(5)
        for _ in range(MUTATIONS):
            number = chance.randrange(len(state.sections))
            was = state.sections[number]
            at = chance.randrange(4, len(was))
            state.sections[number] = (was[:at] + bytes([chance.choice([0, 1, 0x7f, 0x80, 0xff])])
                                      + was[at + 1:])
            state.write(self.snap / "state")
            state.sections[number] = was
            done = self.run_vmm([str(MINIVMM), "restore", str(self.snap), "--timeout", "50ms"])
            self.assertGreaterEqual(done.returncode, 0, f"section {number}, byte {at}: {done.stderr}")
            if done.returncode == FAILED:
                self.check_one_line(done.stderr.replace(b"minivmm: the guest", b"the guest"))

    def test_state_of_a_newer_minivmm(self):
        self.saved()
        state = State(self.snap / "state")
        first = state.sections[0]
        state.sections[0] = first[:4] + struct.pack("<H", 77) + first[6:]
        state.write(self.snap / "state")
        self.check_not_restored("state: config: version 77 was made by a newer minivmm")
        done = self.run_vmm([str(MINIVMM), "snapshot", "--show", str(self.snap)])
        self.check_status(done, 0)

    def forge(self, change):
        """Changes the sections of the saved state, by their names."""
        state = State(self.snap / "state")
        for number, section in enumerate(state.sections):
            name = section[7:7 + section[6]].decode()
            state.sections[number] = change(name, section)
        state.write(self.snap / "state")

    def forge_boot(self):
        """As if the host had been started anew, or were another."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        self.forge(lambda name, section: section.replace(boot, boot[::-1]))

    @only_on("x86_64", "CPUID is x86's")
    def test_host_without_a_feature(self):
        number, count = self.saved("--cpus", 2)
        self.forge_boot()
        self.check_continues(self.restore(), number, count)
        features = struct.Struct("<7I12x") # function, index, flags, EAX, EBX, ECX, EDX

        def add(name: str, section: bytes) -> bytes:
            at = section.find(b"\x06\x05cpuid")
            if not name.startswith("vcpu"):
                return section
            at += 2 + len("cpuid") + 4
            while features.unpack_from(section, at)[0] != 1:
                at += features.size
            words = list(features.unpack_from(section, at))
            words[6] |= 1 << 30 # which no CPU has that runs this
            return section[:at] + features.pack(*words) + section[at + features.size:]
        self.forge(add)
        self.check_not_restored("state: vcpu0: the host lacks ia64, which the guest uses")

    @only_on("aarch64", "the register is Arm's")
    def test_host_without_a_feature_of_arm(self):
        self.saved()
        head = struct.pack("<Q", 0x603000000013c030) + b"\x06\x05value" + struct.pack("<I", 8)  # ID_AA64ISAR0_EL1

        def add(name: str, section: bytes) -> bytes:
            last = section.find(head) + len(head) + 7
            return section[:last] + b"\xff" + section[last + 1:] if head in section else section
        self.forge(add)
        self.check_not_restored("state: vcpu0: the host lacks ", "rng, which the guest uses")

    @only_on("x86_64", "the time stamp counter is x86's")
    def test_host_with_another_frequency(self):
        number, count = self.saved()
        field = b"\x03\x07tsc_khz"

        def change(factor: float):
            def of(name: str, section: bytes) -> bytes:
                at = section.find(field) + len(field)
                khz = struct.unpack_from("<I", section, at)[0] if name == "host" else 0
                return section[:at] + struct.pack("<I", int(khz * factor)) + section[at + 4:] if khz else section
            self.forge(of)
        change(1.0001) # that is how exactly it is measured
        self.check_continues(self.restore(), number, count)
        change(1.25)
        done = self.run_vmm([str(MINIVMM), "restore", str(self.snap), "--timeout", "2s"])
        if done.returncode == FAILED: # else the CPU scales it
            self.check_one_line(done.stderr, "state: host: the time stamp counter runs at", "kHz here, and ran at",
                                "cannot scale it")
            self.assertEqual(done.stdout, b"")
        else:
            self.assertEqual(text(done.stderr).count("\n"), 1) # of the time limit

    def test_memory_of_another(self):
        self.saved()
        memory = self.snap / "memory"
        first = memory.read_bytes()
        self.saved()
        second = memory.read_bytes()
        memory.write_bytes(first)
        self.check_not_restored("state: the memory beside it is another snapshot's")
        self.check_refused(["snapshot", "--check", self.snap], FAILED, "another snapshot's")
        for damaged in (second[:-1], second[:-4096], second + b"x", second[:4096], b""):
            memory.write_bytes(damaged)
            self.check_not_restored("state: the memory beside it is damaged or truncated")
            self.check_refused(["snapshot", "--check", self.snap], FAILED, "truncated")
        memory.unlink()
        self.check_not_restored("snap/memory", "No such file")
        memory.mkdir()
        self.check_not_restored("memory")
        memory.rmdir()
        memory.write_bytes(second)
        self.restore().runs()

    def test_more_memory_than_there_is(self):
        self.saved()
        state = State(self.snap / "state")
        state.sections[0] = state.sections[0].replace(b"\x06memory" + struct.pack("<Q", 32 * MIB),
                                                      b"\x06memory" + struct.pack("<Q", 64 * MIB))
        state.write(self.snap / "state")
        self.check_not_restored("damaged or truncated")

    def test_other_peoples_files(self):
        number, count = self.saved("--disk", self.disk())
        for path in (*self.snap.iterdir(), self.snap):
            mode = path.stat().st_mode
            for writable in (0o20, 0o2, 0o22):
                path.chmod(mode | writable)
                self.check_not_restored(f"/{path.name}: another user may have written it")
                path.chmod(mode & ~0o222)
        self.check_continues(self.restore(), number, count)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to give files away")
    def test_files_of_another_owner(self):
        self.saved("--disk", self.disk())
        for path in (*self.snap.iterdir(), self.snap):
            os.chown(path, 12345, -1)
            self.check_not_restored(f"/{path.name}: another user may have written it")
            os.chown(path, 0, -1)
        self.restore().runs()

    def test_read_only_disk(self):
        disk = self.disk()
        number, count = self.saved("--disk", f"{disk},ro")
        data = disk.read_bytes()
        self.assertEqual({path.name for path in self.snap.iterdir()}, {"state", "memory"})
        times = disk.stat()
        self.check_continues(self.restore(), number, count)
        disk.write_bytes(data)
        self.check_not_restored("a read-only disk has changed", "--disk N:FILE")
        self.check_continues(self.restore("--disk", f"0:{disk}"), number, count)
        os.utime(disk, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.check_continues(self.restore(), number, count)
        disk.write_bytes(data[:-SECTOR])
        self.check_not_restored("a disk has 1048064 bytes, and had 1048576")
        self.check_not_restored("a disk has 1048064 bytes", options=["--disk", f"0:{disk}"])
        disk.unlink()
        self.check_not_restored("disk.img", "No such file")
        self.check_not_restored("no disk 1", options=["--disk", f"1:{disk}"], status=USAGE)

    def test_copy_of_a_disk(self):
        disk = self.disk()
        number, count = self.saved("--disk", disk)
        copy = self.snap / "disk-0"
        self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        self.assertEqual(copy.read_bytes(), disk.read_bytes())
        disk.write_bytes(b"it is used by others") # and may be
        data = copy.read_bytes()
        for machine in [self.restore() for _ in range(2)]:
            self.check_continues(machine, number, count)
        copy.write_bytes(data[:SECTOR])
        self.check_not_restored("a disk has 512 bytes, and had 1048576")
        copy.unlink()
        self.check_not_restored("snap/disk-0: No such file")
        self.check_refused(["snapshot", "--check", self.snap], FAILED, "snap/state: the copy of a disk is missing")
        disk.write_bytes(data)
        self.check_continues(self.restore("--disk", f"0:{disk}"), number, count)

    def test_nics(self):
        self.saved("--net", "user", "--net", "user")
        for nics in (["--net", "user"], ["--net", "none"], ["--net", "user"] * 3):
            self.check_not_restored("the machine has 2 NICs", options=nics, status=USAGE)
        self.restore("--net", "user", "--net", "user").runs()
        self.restore().runs()
        mac = "52:54:00:00:00:07"
        self.saved("--net", f"user,mac={mac}")
        for nic in ("user", f"user,mac={mac}"):
            self.restore("--net", nic).runs()
        self.check_not_restored(f"knows NIC 0 by {mac}", options=["--net", "user,mac=52:54:00:00:00:08"], status=USAGE)

    def test_share_that_is_gone(self):
        share = self.directory / "share"
        share.mkdir()
        number, count = self.saved("--share", share)
        share.rename(self.directory / "elsewhere")
        self.check_not_restored("share", "No such file")
        self.check_continues(self.restore("--share", f"share:{self.directory / 'elsewhere'}"),
                             number, count)


class Resets(SnapshotTest):
    def test_reset_after_restore_is_a_true_one(self):
        kernel = self.file("kernel", payload("count").read_bytes())
        machine = Machine(self, command(None, "--kernel", kernel, "--control", self.socket,
                                        "--memory", "32M"))
        machine.fill()
        number, _ = machine.runs()
        self.check_taken("--stop")
        restored = self.restore()
        restored.runs()
        restored.send("r")
        restored.wait(lambda: restored.counts()[-1][0] != number, "another number after the reset")
        self.assertIn(0, [count for found, count in restored.counts() if found != number])
        restored.fill() # memory is zero again
        restored.fill()
        kernel.write_bytes(payload("hello").read_bytes())
        restored = self.restore()
        restored.runs()
        restored.send("r")
        lines, error = restored.finish(0)
        self.assertEqual(lines[-1], "hello from the guest")
        self.assertEqual(error, "")

    def test_without_the_kernel(self):
        kernel = self.file("kernel", payload("count").read_bytes())
        machine = Machine(self, command(None, "--kernel", kernel, "--control", self.socket,
                                        "--memory", "32M"))
        number, count = machine.runs()
        self.check_taken("--stop")
        kernel.unlink()
        restored = self.restore()
        self.check_continues(restored, number, count)
        restored.send("r")
        _, error = restored.finish(FAILED)
        self.assertRegex(error, r"\Aminivmm: open /[^\n]*/kernel: No such file or directory\n"
                                r"minivmm: continuing without the kernel: a reset will end the machine\n"
                                r"minivmm: the machine cannot be reset: [^\n]*\n\Z")
        restored = self.restore("--no-reboot") # which needs none
        restored.runs()
        restored.send("r")
        _, error = restored.finish()
        self.assertEqual(error, "")


class Memory(SnapshotTest):
    def private_kib(self, process: subprocess.Popen) -> int:
        """What the process has of guest RAM for itself."""
        total, inside = 0, False
        for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
            words = line.split()
            if re.match(r"[0-9a-f]+-", words[0]):
                inside = words[-1].endswith("snap/memory")
            elif inside and words[0] == "Private_Dirty:":
                total += int(words[1])
        return total

    def test_idle_machine_keeps_little(self):
        machine = Machine(self, command("idle", "--control", self.socket, "--memory", "512M",
                                        cmdline="rng"))
        machine.wait(lambda: "idle" in machine.lines, "the guest to be idle")
        self.check_taken()
        self.assertLess(self.snap.joinpath("memory").stat().st_blocks * 512, 8 * MIB)
        restored = [self.restore("--control", self.directory / f"s{i}", "--sandbox", "off")
                    for i in range(3)]
        for number, each in enumerate(restored):
            control = self.directory / f"s{number}"
            wait_until(lambda: control.exists() and ask(control, "GET", "/")[0] == 200, "an answer")
            state = json.loads(ask(control, "GET", "/")[1])["state"]
            wait_until(lambda: json.loads(ask(control, "GET", "/")[1])["state"] == "Running", state)
            self.assertLessEqual(self.private_kib(each.process), 256)


def waiting_bytes(pipe: int) -> int:
    """What nobody has read yet."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"    "))[0]


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))  # waits for a place in the backlog, which it does not with a timeout
    connection.settimeout(TIME_LIMIT)
    return connection


def request(method: str, target: str, body: str = "", more: str = "") -> bytes:
    return (f"{method} {target} HTTP/1.1\r\nHost: x\r\n{more}"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


def answer(connection: socket.socket, left: bytes = b"") -> tuple[int, str, bytes]:
    """Status and body of the next answer, and what was received after it."""
    data = left
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    size = int(length.group(1)) if length else 0
    while len(body) < size:
        body += connection.recv(65536)
    return int(head.split()[1]), text(body[:size]), body[size:]


def ask(path: Path, method: str, target: str, body: str = "") -> tuple[int, str]:
    with connect(path) as connection:
        connection.sendall(request(method, target, body))
        return answer(connection)[:2]


class Control(SnapshotTest):
    def files(self, count: int = 2) -> list[int]:
        """Empty files for a snapshot that nobody keeps."""
        found = [os.memfd_create("file") for _ in range(count)]
        for fd in found:
            self.addCleanup(os.close, fd)
        return found

    def ask_snapshot(self, connection: socket.socket, body: str = "{}", fds: list[int] | None = None):
        socket.send_fds(connection, [request("PUT", "/snapshot/create", body)],
                        self.files() if fds is None else fds)

    def state(self) -> str:
        status, body = ask(self.socket, "GET", "/")
        self.assertEqual(status, 200)
        return json.loads(body)["state"]

    def check_fault(self, got: tuple, *words: str):
        self.assertEqual(got[0], 400, got)
        for word in words:
            self.assertIn(word, json.loads(got[1])["fault_message"])

    def test_requests(self):
        disks = [self.disk("a b.img"), self.disk("c.img")]
        machine = self.start("--disk", disks[0], "--disk", f"{disks[1]},ro")
        self.assertEqual(self.state(), "Running")
        status, body = ask(self.socket, "GET", "/vm/config")
        config = json.loads(body)
        self.assertEqual(config["machine-config"], {"vcpu_count": 1, "mem_size_mib": 32})
        self.assertEqual(config["drives"], [{"path_on_host": str(disks[0]), "is_read_only": False},
                                            {"path_on_host": str(disks[1]), "is_read_only": True}])
        for _ in range(2): # what is so already is no fault
            self.assertEqual(ask(self.socket, "PATCH", "/vm", '{"state":"Resumed"}'), (204, ""))
        machine.runs()
        for _ in range(2):
            self.assertEqual(ask(self.socket, "PATCH", "/vm", '{"state":"Paused"}'), (204, ""))
            self.assertEqual(self.state(), "Paused")
        before = len(machine.lines)
        self.check_taken()
        self.assertEqual(self.state(), "Paused") # as before
        self.assertLessEqual(len(machine.lines), before + 1)
        self.assertEqual(ask(self.socket, "PATCH", "/vm", '{"state":"Resumed"}'), (204, ""))
        machine.runs()

    def test_what_is_no_request(self):
        machine = self.start()
        for method, target, body, said in (
                ("GET", "/none", "", "Invalid request method and/or path"),
                ("POST", "/vm", "{}", "Invalid request method"),
                ("PUT", "/vm", "{}", "Invalid request method"),
                ("PATCH", "/vm", "", "not JSON"),
                ("PATCH", "/vm", "{", "not JSON"),
                ("PATCH", "/vm", "[]", "not an object"),
                ("PATCH", "/vm", "null", "not JSON"),
                ("PATCH", "/vm", "{}", "state"),
                ("PATCH", "/vm", '{"state":null}', "state"),
                ("PATCH", "/vm", '{"state":7}', "state"),
                ("PATCH", "/vm", '{"state":"paused"}', "state"),
                ("PATCH", "/vm", '{"state":"Paused","state":"Resumed"}', "not JSON"),
                ("PATCH", "/vm", '{"state":"Paused","more":1}', "more"),
                ("PATCH", "/vm", '{"' + "x" * 5000 + '":1}', "unknown field"),
                ("PUT", "/snapshot/create", '{"stop":"yes"}', "stop"),
                ("PUT", "/snapshot/create", '{"stop":1}', "stop"),
                ("PUT", "/snapshot/create", '{"snapshot_type":"Diff"}', "snapshot_type"),
                ("PUT", "/snapshot/create", '{"snapshot_type":7}', "snapshot_type"),
                ("PUT", "/snapshot/create", "{}", "descriptors")):
            with self.subTest(method=method, target=target, body=body[:50]):
                self.check_fault(ask(self.socket, method, target, body), said)
        self.check_fault(ask(self.socket, "PATCH", "/vm", "\udcff".encode("utf-8", "surrogateescape")
                             .decode("latin-1")), "not JSON")
        for data in (b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", b"x" * 9000,
                     b"PUT / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n"):
            with connect(self.socket) as connection:
                connection.sendall(data)
                self.check_fault(answer(connection))
                self.assertEqual(connection.recv(1), b"")
        machine.runs()
        self.assertEqual(self.state(), "Running")

    def test_requests_in_pieces_and_at_once(self):
        machine = self.start()
        with connect(self.socket) as connection:
            for byte in request("GET", "/"):
                connection.send(bytes([byte]))
            self.assertEqual(answer(connection)[0], 200)
            connection.sendall(request("PATCH", "/vm", '{"state":"Paused"}') + request("GET", "/")
                               + request("PATCH", "/vm", '{"state":"Resumed"}') + request("GET", "/"))
            left, got = b"", []
            for _ in range(4):
                status, body, left = answer(connection, left)
                got.append((status, json.loads(body)["state"] if body else ""))
            self.assertEqual(got, [(204, ""), (200, "Paused"), (204, ""), (200, "Running")])
            connection.sendall(request("GET", "/", more="Connection: close\r\n"))
            self.assertEqual(answer(connection)[0], 200)
            self.assertEqual(connection.recv(1), b"")
        machine.runs()

    def test_snapshots_one_after_the_other_at_once(self):
        """Each pauses the machine anew, and it runs on after each."""
        machine = self.start()
        with connect(self.socket) as connection:
            for _ in range(4):
                self.ask_snapshot(connection)
            left = b""
            for _ in range(4):
                status, body, left = answer(connection, left)
                self.assertEqual((status, body), (204, ""))
        self.assertEqual(self.state(), "Running")
        machine.runs()

    def test_descriptors(self):
        machine = self.start("--disk", self.disk())
        before = len(os.listdir(f"/proc/{machine.process.pid}/fd")) if os.geteuid() == 0 else 0
        with connect(self.socket) as connection:
            for fds in (self.files(1), self.files(2), self.files(4), self.files(18), self.files(200)):
                self.ask_snapshot(connection, fds=fds)
                self.check_fault(answer(connection), "descriptors")
            pipes = os.pipe()
            for fd in pipes:
                self.addCleanup(os.close, fd)
            for bad in ([pipes[1]] * 3, [os.open("/dev/full", os.O_WRONLY)] * 3,
                        [os.open("/dev/null", os.O_RDONLY)] * 3):
                self.ask_snapshot(connection, fds=list(bad))
                self.check_fault(answer(connection), "write the state")
                machine.runs(2)
            self.ask_snapshot(connection, fds=self.files(3))
            self.assertEqual(answer(connection)[0], 204)
        for _ in range(5):
            with connect(self.socket) as connection: # leaves with descriptors on the way
                socket.send_fds(connection, [b"PUT"], self.files(9))
        wait_until(lambda: not before or len(os.listdir(f"/proc/{machine.process.pid}/fd")) == before,
                   "descriptors to be closed")
        machine.runs()

    def test_path(self):
        machine = self.start()
        self.assertEqual(stat.S_IMODE(self.socket.stat().st_mode), 0o600)
        done = self.run_vmm(command("count", "--control", self.socket))
        self.check_status(done, FAILED)
        self.check_one_line(done.stderr, "another process serves it")
        self.assertEqual(self.state(), "Running")
        machine.end()
        wait_until(lambda: not self.socket.exists(), "the socket's end")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.socket))
        machine = self.start() # replaces what is dead
        self.assertEqual(self.state(), "Running")
        machine.send("e")
        machine.finish(0)
        wait_until(lambda: not self.socket.exists(), "the socket's end")
        for place, said in ((self.file("file", b"x"), "no socket"), (self.directory, "no socket"),
                            (self.directory / "none" / "s", "No such file"), ("x" * 200, "107 bytes")):
            done = self.run_vmm(command("count", "--control", place))
            self.check_status(done, FAILED)
            self.check_one_line(done.stderr, said)
        self.assertEqual(self.directory.joinpath("file").read_bytes(), b"x")
        self.assertEqual(self.run_vmm(command("count", "--control", "")).returncode, USAGE)

    def test_path_of_a_successor_stays(self):
        """The first machine's end removes its own socket only."""
        first = self.start()
        self.socket.unlink()
        second = self.start()
        first.send("e")
        first.finish(0)
        self.assertEqual(self.state(), "Running")
        second.runs()

    def remover_of(self, parent: int) -> int:
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words = path.read_text().split()
                if (words[1], words[3]) == ("(minivmm-remover)", str(parent)):
                    return int(words[0])
        raise AssertionError("no remover")

    def test_path_of_a_successor_stays_though_the_first_was_killed(self):
        """What removes the path of a killed machine may be late; file numbers are used again."""
        first = self.start()
        pid = self.remover_of(first.process.pid)
        os.kill(pid, signal.SIGSTOP)
        first.end()
        second = self.start()
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), "the remover's end")
        self.assertEqual(self.state(), "Running")
        second.runs()

    def test_nobody_listens(self):
        for place, said in ((self.socket, "No such file"), (self.file("file"), "Connection refused"),
                            ("x" * 200, "107 bytes")):
            self.check_refused(["snapshot", place, self.snap], FAILED, said)
        self.assertFalse(self.snap.exists())

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be another user")
    def test_other_users(self):
        place = Path(tempfile.mkdtemp(dir="/var/tmp"))  # the lane's directories are the user's own
        self.addCleanup(shutil.rmtree, place)
        place.chmod(0o755)
        program, socket_path, snap = shutil.copy(MINIVMM, place), place / "s", Path("/tmp/snap-of-another")
        machine = self.start(control=socket_path)
        for mode in 0o600, 0o666:  # a fault of its owner's does not help them either
            socket_path.chmod(mode)
            asked = subprocess.run([program, "snapshot", socket_path, snap],
                                   stderr=subprocess.PIPE, user=12345, group=12345)
            self.assertEqual(asked.returncode, FAILED)
            self.check_one_line(asked.stderr, *["Permission denied"][:mode == 0o600])
        self.assertFalse(snap.exists())
        machine.runs()

    def test_many_clients(self):
        """More than are served at a time; some say nothing."""
        machine = self.start()
        silent = [connect(self.socket) for _ in range(10)]
        results = []
        threads = [threading.Thread(target=lambda: results.append(ask(self.socket, "GET", "/")[0]))
                   for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIME_LIMIT)
        self.assertEqual(results, [200] * 20)
        more = [connect(self.socket) for _ in range(10)]
        machine.runs()
        for connection in silent + more:
            connection.close()
        self.check_taken()
        machine.runs()

    def test_client_that_does_not_read(self):
        machine = self.start()
        with connect(self.socket) as connection:
            connection.settimeout(None)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                for _ in range(100000):
                    connection.send(request("GET", "/vm/config"))
            machine.runs()
            self.assertEqual(self.state(), "Running")
        machine.runs()

    def test_client_that_goes_away(self):
        machine = self.start()
        machine.fill()
        for _ in range(5):
            with connect(self.socket) as connection:
                self.ask_snapshot(connection)
        machine.runs()
        wait_until(lambda: self.take().returncode == 0, "a snapshot of another client")
        self.assertEqual(self.state(), "Running")
        machine.runs()

    def test_second_request_meanwhile(self):
        machine = self.start()
        machine.fill()
        with connect(self.socket) as first, connect(self.socket) as second:
            self.ask_snapshot(first)
            self.ask_snapshot(second)
            got = [answer(each)[:2] for each in (first, second)]
        self.assertIn((204, ""), got)
        for each in got:
            if each[0] != 204:
                self.check_fault(each, "another request is being carried out")
        machine.runs()

    def test_guest_ends_or_resets_meanwhile(self):
        for command in "eor":
            machine = self.start()
            machine.fill()
            with connect(self.socket) as connection:
                machine.send(command)
                self.ask_snapshot(connection)
                try:
                    status, body, _ = answer(connection)
                except (EOFError, ConnectionResetError):
                    status = 0
                self.assertIn(status, (0, 204, 400))
            if command == "r":
                machine.runs()
                self.assertEqual(self.state(), "Running")
                machine.end()
            else:
                machine.finish(0)
            wait_until(lambda: not self.socket.exists(), "the socket's end")

    def test_guest_that_resets_all_the_time(self):
        """A pause outlives a reset."""
        machine = Machine(self, command("interrupts", "--control", self.socket, "--memory", "32M",
                                        cmdline="rng again"))
        machine.wait(lambda: len(machine.lines) > 3, "resets")
        for _ in range(20):
            self.check_taken()
            before = len(machine.lines)
            machine.wait(lambda: len(machine.lines) > before, "further resets")
        self.assertEqual(self.state(), "Running")

    def test_signal_meanwhile(self):
        for _ in range(4):
            machine = self.start("--grace", "0s")
            machine.fill()
            with connect(self.socket) as connection:
                self.ask_snapshot(connection)
                machine.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(EOFError, ConnectionResetError):
                    self.assertIn(answer(connection)[0], (204, 400))
            machine.finish(128 + signal.SIGTERM)
            wait_until(lambda: not self.socket.exists(), "the socket's end")

    def test_power_off_meanwhile(self):
        """The guest hears of it after the snapshot, and ends in order."""
        disk = self.file("full.img", random.Random(4).randbytes(64 * MIB))
        machine = self.start("--disk", disk, name="button")
        machine.wait(lambda: "ready" in machine.lines, "the guest")
        with connect(self.socket) as connection:
            self.ask_snapshot(connection, fds=self.files(3))
            wait_until(lambda: self.state() == "Paused", "the snapshot's pause")
            machine.process.send_signal(signal.SIGTERM)
            self.assertEqual(answer(connection)[0], 204)
        lines, _ = machine.finish(0)
        self.assertEqual(lines, ["ready", "pressed"])

    def test_more_clients_than_descriptors(self):
        """They wait until there is one, and meanwhile minivmm does nothing."""
        machine = self.start("--sandbox", "off")
        pid = machine.process.pid
        held = len(os.listdir(f"/proc/{pid}/fd"))
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (held, hard))
        main = Path(f"/proc/{pid}/task/{pid}/stat")
        with connect(self.socket) as connection:
            connection.sendall(request("GET", "/"))
            before = main.read_text().split()[13:15]
            machine.runs(100)
            spent = sum(map(int, main.read_text().split()[13:15])) - sum(map(int, before))
            self.assertLess(spent, 5) # hundredths of a second, of at least half a second
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 1, hard))
            self.assertEqual(answer(connection)[0], 200)
        machine.runs()

    def test_socket_without_a_place(self):
        """Neither a client nor another machine waits for ever."""
        with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
            busy.bind(str(self.socket))
            busy.listen(0)
            with contextlib.suppress(BlockingIOError):
                for _ in range(10):
                    client = stack.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)
                    client.connect(str(self.socket))
            self.check_refused(["snapshot", self.socket, self.snap], FAILED, "does not answer")
            done = self.boot("count", "--control", self.socket)
            self.check_status(done, FAILED)
            self.check_one_line(done.stderr, "another process serves it")

    def test_machine_that_does_not_answer(self):
        """A client can be interrupted, and leaves nothing."""
        machine = self.start()
        machine.process.send_signal(signal.SIGSTOP)
        for number in (signal.SIGINT, signal.SIGTERM):
            client = subprocess.Popen([MINIVMM, "snapshot", self.socket, self.snap],
                                      stderr=subprocess.PIPE)
            wait_until(lambda: self.names() - {"s"}, "the directory aside")
            client.send_signal(number)
            _, error = client.communicate(timeout=TIME_LIMIT)
            self.assertEqual((client.returncode, error), (-number, b""))
            self.assertEqual(self.names(), {"s"})
        machine.process.send_signal(signal.SIGCONT)
        machine.runs()
        self.check_taken()

    def test_name_that_is_not_utf8(self):
        disk = self.directory / os.fsdecode(b"latin-\xe4\"\\.img")
        disk.write_bytes(bytes(SECTOR * 8))
        machine = self.start("--disk", disk)
        self.check_taken()
        machine.runs()
        self.restore().runs()


class Forks(SnapshotTest):
    def fork(self, control: Path, *options: object, status=0, error="") -> list[Path]:
        """Sockets of the forks, which end with the test. ERROR: a pattern."""
        with open(self.directory / "errors", "w+b") as errors: # of the forks, too, as long as they run
            done = self.run_vmm([str(word) for word in (MINIVMM, "fork", control, *options)],
                                stderr=errors)
            errors.seek(0)
            said = text(errors.read())
        self.assertEqual(done.returncode, status, said)
        self.assertRegex(said, rf"\A{error}\Z")
        found = [Path(line) for line in text(done.stdout).splitlines()]
        for path in found:
            wait_until(path.exists, "a fork's socket")
            pid = int(json.loads(ask(path, "GET", "/")[1])["id"])
            self.addCleanup(self.kill, pid)
        return found

    def kill(self, pid: int):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def check_lines(self, path: Path, number: str, count: int):
        """They go on from the moment of the fork. The first may be the rest of one."""
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") > 5, "a fork's lines")
        lines = [line.split() for line in text(path.read_bytes()).splitlines()[1:5]]
        self.assertEqual([line[0] for line in lines], [number] * 4)
        self.assertGreaterEqual(int(lines[0][1]), count)

    def test_forks(self):
        machine = self.start("--disk", self.disk())
        machine.fill()
        number, count = machine.runs()
        first = self.fork(self.socket, "--", "--serial", "file=first")
        self.assertEqual(first, [Path(f"{self.socket}.1")])
        self.check_lines(self.directory / "first", number, count)
        second = self.fork(first[0], "--", "--serial", "file=second") # of a fork
        self.check_lines(self.directory / "second", number, count)
        machine.end() # they do not need it
        more = self.fork(second[0], "-n", 3)
        self.assertEqual(len(set(more)), 3)
        for path in [*first, *second, *more]:
            wait_until(lambda: json.loads(ask(path, "GET", "/")[1])["state"] == "Running", "a fork to run")
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.check_taken("--stop", control=more[0])
        self.check_continues(self.restore("--serial", "stdio"), number, count)

    def test_words(self):
        machine = self.start()
        for words, said in (([], "expected a socket"), ([self.socket, "x"], "unexpected argument"),
                            (["-n", "0", self.socket], "--number"),
                            (["-n", "1025", self.socket], "--number")):
            self.check_refused(["fork", *words], USAGE, said)
        self.check_refused(["fork", self.directory / "none"], FAILED, "No such file")
        self.assertEqual(self.names(), {"s"})
        machine.runs()

    def test_fork_that_cannot_start(self):
        """It says why, and leaves nothing; the machine runs on."""
        machine = self.start()
        done = self.run_vmm([str(word) for word in (MINIVMM, "fork", self.socket, "--", "--disk", "7:x")])
        self.assertEqual(done.returncode, FAILED)
        self.check_one_line(done.stderr, "the machine has no disk 7")
        wait_until(lambda: self.names() == {"s"}, "the fork's end")
        machine.runs()

    def test_tap_serves_one(self):
        for name in (TAP, f"{TAP}b"):
            add_tap(name, self.addCleanup)
        machine = self.start("--net", f"tap,name={TAP}")
        self.fork(self.socket, status=FAILED, error=f"minivmm: tap {TAP} is in use by another program[^\n]*\n")
        forks = self.fork(self.socket, "-n", 2, "--", "--net", f"tap,name={TAP}b", status=FAILED,
                          error=f"minivmm: tap {TAP}b is in use by another program[^\n]*\n")
        self.assertEqual(forks, [Path(f"{self.socket}.1")])
        machine.runs()


class Rewinds(SnapshotTest):
    """A machine in its own process is again what it was when it was restored."""
    TIMES = int(os.environ.get("REWINDS", 100))

    def setUp(self):
        super().setUp()
        self.again = self.directory / "again" # the restored machine's socket

    def rewind(self, connection: socket.socket):
        connection.sendall(request("PUT", "/snapshot/rewind", "{}"))
        self.assertEqual(answer(connection)[:2], (204, ""))

    def check_refused_here(self, *said: str, control: Path | None = None):
        self.check_refused(["rewind", control or self.again], FAILED, "the machine refused", *said)

    def after(self, machine: Machine, before: int, lines: int) -> list[str]:
        """The first whole lines after those."""
        machine.wait(lambda: len(machine.lines) >= before + lines + 2, "further lines")
        return machine.lines[before + 2:before + lines + 2]

    def test_series(self):
        """Memory, registers, the clock and the serial port, each time from the beginning."""
        self.saved("--cpus", 2)
        machine = self.restore("--control", self.again)
        first = self.after(machine, 0, 3)
        with connect(self.again) as connection:
            for number in range(self.TIMES):
                if number % 10 == 0:
                    machine.fill() # which checks what was there
                self.rewind(connection)
                before = len(machine.lines)
                again = self.after(machine, before, 3)
                # Its first line may be the rest of one, and lines of before may still have come.
                self.assertTrue(set(again) & set(first), (number, first, again))
        machine.fill()
        machine.send("e")
        _, error = machine.finish(0)
        self.assertEqual(error, "")

    def test_command(self):
        number, count = self.saved()
        machine = self.restore("--control", self.again)
        machine.runs(50)
        done = self.run_vmm([str(MINIVMM), "rewind", str(self.again)])
        self.assertEqual((done.returncode, text(done.stderr), done.stdout), (0, "", b""))
        before = len(machine.counts())
        machine.runs(10)
        self.assertLess(machine.counts()[before + 2][1], count + 40)
        self.assertEqual(machine.counts()[-1][0], number)
        self.check_taken(control=self.again) # which replaces what it was restored from
        self.rewind_once()
        self.check_continues(self.restore(), number, count)

    def rewind_once(self):
        with connect(self.again) as connection:
            self.rewind(connection)

    def test_disks_and_consoles(self):
        """Two CPUs that use a disk and its consoles, and check it all."""
        options = ["--serial", "file=serial", "--console", "stdio"]
        steady = Machine(self, command("steady", "--control", self.socket, "--memory", "32M", "--cpus", 2,
                                       "--disk", self.disk(), *options, cmdline="alone"))
        steady.wait(lambda: len(steady.lines) > 100, "rounds")
        self.check_taken("--stop")
        steady.finish(0)
        steady = self.restore("--control", self.again, *options)
        steady.wait(lambda: len(steady.lines) > 100, "rounds")
        first = int(steady.lines[1])
        with connect(self.again) as connection:
            for _ in range(self.TIMES // 5):
                self.rewind(connection)
                before = len(steady.lines)
                steady.wait(lambda: len(steady.lines) > before + 20, "further rounds")
                self.assertLess(int(steady.lines[before + 5]), first + 10)
        steady.send("e")
        _, error = steady.finish(0)
        self.assertEqual(error, "")

    @only_on("x86_64", "the payload kept is of x86")
    def test_registers_and_timers(self):
        """At random moments of a guest that looks at its registers and waits for timers. Its TSC must
        not leap by 20 seconds, and some KVMs that interpret ring 0 let it have the host's."""
        kept = Machine(self, command("kept", "--control", self.socket, "--memory", "32M", "--cpus", 2))
        kept.wait(lambda: len(kept.lines) > 3, "rounds")
        began = time.monotonic()
        self.check_taken("--stop")
        kept.finish(0)
        kept = self.restore("--control", self.again)
        kept.wait(lambda: len(kept.lines) > 3, "rounds")
        chance = random.Random(7)
        with connect(self.again) as connection:
            for _ in range(self.TIMES):
                time.sleep(chance.random() / 20)
                if time.monotonic() > began + 8:
                    break
                self.rewind(connection)
        before = len(kept.lines)
        kept.wait(lambda: len(kept.lines) > before + 3, "further rounds")
        kept.send("e")
        _, error = kept.finish(0)
        self.assertEqual(error, "")

    def test_paused_machine_remains_so(self):
        self.saved()
        machine = self.restore("--control", self.again)
        machine.runs()
        ask(self.again, "PATCH", "/vm", '{"state":"Paused"}')
        self.rewind_once()
        self.assertEqual(json.loads(ask(self.again, "GET", "/")[1])["state"], "Paused")
        ask(self.again, "PATCH", "/vm", '{"state":"Resumed"}')
        machine.runs()

    def test_what_cannot_be_rewound(self):
        """It is refused with the remedy, and runs on."""
        machine = self.start("--disk", self.disk())
        self.check_refused_here("it was not restored", "minivmm restore", control=self.socket)
        machine.runs()
        self.check_taken("--stop")
        machine.finish(0)
        machine = self.restore("--control", self.again, "--disk", f"0:{self.snap / 'disk-0'}")
        machine.runs()
        self.check_refused_here("restore it without --disk")
        machine.runs()
        machine.end()
        machine = self.restore("--control", self.again)
        machine.runs()
        machine.send("r")
        number = machine.counts()[-1][0]
        machine.wait(lambda: machine.counts()[-1][0] != number, "the reset")
        self.check_refused_here("has been reset")
        machine.runs()

    def test_what_would_go_on(self):
        for number, (options, said) in enumerate([(["--share", self.directory], "a shared directory"),
                                                  (["--net", "user"], "a NIC")]):
            with self.subTest(said):
                self.socket = self.directory / f"s{number}"
                self.saved(*options)
                machine = self.restore("--control", self.again)
                machine.runs()
                self.check_refused_here(said, "minivmm restore")
                machine.runs()
                machine.end()

    def test_words(self):
        for words, said in (([], "expected a socket"), (["a", "b"], "expected a socket"),
                            (["--x"], "unknown option")):
            self.check_refused(["rewind", *words], USAGE, said)
        self.check_refused(["rewind", self.directory / "none"], FAILED, "No such file")


class Traffic(SnapshotTest):
    """What the guest asks its devices is done once, in generations of machines."""

    def test_output(self):
        """A machine that is saved and ends prints nothing that the next one prints."""
        options = ["--console", "stdio", "--serial", "none"]
        process = subprocess.Popen(command("output", "--control", self.socket, "--memory", "32M", *options,
                                           cmdline=f"console {LINES}"),
                                   cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        said = b""
        for generation in range(4):
            stdout = process.stdout.fileno()
            room = fcntl.fcntl(stdout, fcntl.F_GETPIPE_SZ)
            wait_until(lambda: waiting_bytes(stdout) > room - 4096, "a guest that waits for its reader")
            snap = self.directory / f"snap{generation}"
            client = subprocess.Popen([MINIVMM, "snapshot", "--stop", self.directory / (
                f"s{generation}" if generation else "s"), snap], stderr=subprocess.PIPE)
            wait_until(lambda: snap.exists() or list(self.directory.glob(f"{snap.name}.*"))
                       or client.poll() is not None, "the client")
            output, error = process.communicate(timeout=TIME_LIMIT)
            said += output
            self.assertEqual((process.returncode, text(error)), (0, ""))
            _, error = client.communicate(timeout=TIME_LIMIT)
            self.assertEqual((client.returncode, text(error)), (0, ""))
            process = subprocess.Popen([MINIVMM, "restore", snap, "--control",
                                        self.directory / f"s{generation + 1}"],
                                       cwd=self.directory, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, error = process.communicate(timeout=TIME_LIMIT)
        self.assertEqual((process.returncode, text(error)), (0, ""))
        self.assertTrue(said + output == output_lines(LINES))

    def test_disks(self):
        disk = self.disk()
        options = ["--serial", "file=serial", "--console", "stdio"]
        steady = Machine(self, command("steady", "--control", self.socket, "--memory", "32M", "--cpus", 2,
                                       "--disk", disk, *options, cmdline="alone"))
        steady.wait(lambda: len(steady.lines) > 100, "rounds")
        for generation in range(3):
            snap = self.directory / f"snap{generation}"
            control = self.directory / f"s{generation}"
            self.check_taken(control=control if generation else self.socket, snap=snap)
            before = len(steady.lines)
            steady.wait(lambda: len(steady.lines) > before + 10, "further rounds")
            steady.send("e")
            lines, error = steady.finish(0)
            self.assertEqual(error, "")
            steady = self.restore("--control", self.directory / f"s{generation + 1}", *options, snap=snap)
            steady.wait(lambda: len(steady.lines) > 100, "rounds")
            self.assertEqual([int(line) for line in steady.lines[:100]],
                             list(range(int(steady.lines[0]), int(steady.lines[0]) + 100)))
            self.assertLessEqual(int(steady.lines[0]), int(lines[-1]) + 1)
        steady.send("e")
        steady.finish(0)
