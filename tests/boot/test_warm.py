# SPDX-License-Identifier: MIT
"""minivmm run --warm: later runs go on from a machine that has booted once."""

import json
import os
import struct
import subprocess
import time

from machine import GuestTest, MINIVMM
from test_run import run

# What a machine draws: from the kernel, for its programs, and the host's clock beside the guest's.
DRAW = ("cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id; "
        "head -c 16 /dev/urandom | od -An -tx1; date +%s.%N; echo $NAME $0 $*; cat")


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli)."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def spoil_section(state: bytearray, name: bytes):
    """Makes a section of a state file one of a later version; its checksum is right."""
    count, at = *struct.unpack_from("<I", state, 40), 48
    for number in range(count):
        size = 4 + struct.unpack_from("<I", state, at)[0]
        if state[at + 7:at + 7 + len(name)] == name and state[at + 6] == len(name):
            struct.pack_into("<H", state, at + 4, 999)
            struct.pack_into("<I", state, len(state) - 4 * (count - number),
                             crc32c(state[at:at + size]))
        at += size


class Warm(GuestTest):
    def setUp(self):
        super().setUp()
        self.cache = self.directory / self.id()
        self.environment = os.environ | {"XDG_CACHE_HOME": str(self.cache)}

    def warm(self, *arguments: object, data: bytes = b"") -> tuple[subprocess.CompletedProcess, dict]:
        """Runs a command. Returns its end and the report."""
        report = self.directory / "report"
        done = run("--warm", "--json", report, *arguments, data=data, env=self.environment)
        return done, json.loads(report.read_text())["ms"]

    def kept(self) -> list:
        """The warm machines; the process that keeps them may still be at it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            kept = list((self.cache / "minivmm/warm").glob("*"))
            if kept and all(len(path.name) == 16 for path in kept):
                return kept
            time.sleep(0.05)
        return kept

    def test_forks(self):
        (self.directory / "shared").mkdir()
        (self.directory / "shared/file").write_text("shared\n")
        first, boot = self.warm("--rw", self.directory / "shared", "--env", "NAME=one", "--",
                                "sh", "-c", DRAW, "a", data=b"from standard input\n")
        self.assertEqual((first.returncode, first.stderr), (0, b""))
        self.assertIsNotNone(boot["kernel"])
        (entry,) = self.kept()
        memory = (entry / "memory").read_bytes()
        self.assertNotIn(b"from standard input", memory)
        self.assertNotIn(b"NAME=one", memory)
        seen = set()
        for number in range(3):
            before = time.time()
            done, fork = self.warm("--rw", self.directory / "shared", "--env", f"NAME={number}",
                                   "--", "sh", "-c", f"{DRAW}; echo {number} >>file; exit {number}",
                                   "b", "c", "--cwd", data=b"more input\n")
            after = time.time()
            self.assertEqual((done.returncode, done.stderr), (number, b""), done)
            self.assertIsNone(fork["kernel"])  # it did not boot
            lines = done.stdout.decode().splitlines()
            self.assertEqual(lines[4:], [f"{number} b c --cwd", "more input"])
            self.assertLess(before - 0.1, float(lines[3]))
            self.assertLess(float(lines[3]), after + 0.1)
            seen.update(lines[:3])
        self.assertEqual(len(seen), 9)
        self.assertEqual((entry / "memory").read_bytes(), memory)
        self.assertEqual(self.kept(), [entry])

    def test_another_kind_of_machine_boots(self):
        self.warm("--", "true")
        _, report = self.warm("--memory", "300M", "--", "true")
        self.assertIsNotNone(report["kernel"])
        self.assertEqual(len(self.kept()), 2)
        listed = subprocess.run([MINIVMM, "warm", "--list"], env=self.environment,
                                capture_output=True, text=True, check=True)
        self.assertEqual(len(listed.stdout.splitlines()), 2)
        subprocess.run([MINIVMM, "warm", "--drop", "all"], env=self.environment, check=True)
        self.assertEqual(list((self.cache / "minivmm/warm").iterdir()), [])

    def test_a_damaged_one_is_not_used(self):
        self.warm("--", "true")
        (entry,) = self.kept()
        state = bytearray((entry / "state").read_bytes())
        state[len(state) // 2] ^= 1
        (entry / "state").unlink()
        (entry / "state").write_bytes(state)
        done, report = self.warm("--", "echo", "text")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"text\n", b""))
        self.assertIsNotNone(report["kernel"])

    def test_one_that_does_not_load_is_made_anew(self):
        self.warm("--", "true")
        (entry,) = self.kept()
        state = bytearray((entry / "state").read_bytes())
        spoil_section(state, b"clock")
        (entry / "state").unlink()
        (entry / "state").write_bytes(state)
        done, report = self.warm("--", "cat", data=b"text\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"text\n", b""))
        self.assertIsNotNone(report["kernel"])
        deadline = time.monotonic() + 60
        while (entry / "state").read_bytes() == state and time.monotonic() < deadline:
            time.sleep(0.05)
        done, report = self.warm("--", "cat", data=b"text\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"text\n", b""))
        self.assertIsNone(report["kernel"])
