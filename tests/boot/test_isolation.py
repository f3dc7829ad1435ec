# SPDX-License-Identifier: MIT
"""Forks of a warm machine: nothing of one is in another, and a cache that fails only costs time."""

import json
import os
import re
import shutil
import subprocess
import time
import unittest
from pathlib import Path

from machine import MACHINE, MINIVMM, GuestTest
from test_run import LIMIT, MIB, children, run, start

FORKS = int(os.environ.get("MINIVMM_FORKS", "10")) if MACHINE == "x86_64" else 3

# What the first run has, and nobody else should.
SECRETS = {name: f"{name} of the first run" for name in ("argument", "environment", "input", "file",
                                                         "directory")}
# Three draws, then the clocks; the last is the time since the boot.
DRAW = """
    cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id
    head -c 16 /dev/urandom | od -An -tx1
    date +%s.%N
    read -r up _ </proc/uptime; echo "$up"
"""
HOLD = "echo ready; read -r _; head -c 32M /dev/zero >/dev/shm/file; sha256sum /dev/shm/file"
ZEROS = "83ee47245398adee79bd9c0a8bc57b821e92aba10f5f9ade8a5d1fae4d8c4302"  # 32 MiB


def ram(pid: int) -> bytes:
    """The guest's memory, as this process has it."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = [(int(begin, 16), int(end, 16)) for begin, end in
             re.findall(r"^(\w+)-(\w+) rw", maps, re.MULTILINE)]
    begin, end = max(found, key=lambda each: each[1] - each[0])
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(begin)
        return memory.read(end - begin)


class Forks(GuestTest):
    """One machine is made, with secrets; the tests fork it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cache = cls.directory / "cache"
        cls.environment = os.environ | {"XDG_CACHE_HOME": str(cls.cache)}
        shared, cls.other = cls.directory / SECRETS["directory"], cls.directory / "other"
        for each in (shared, cls.other):  # the next runs must have one, too: it is a device
            each.mkdir()
        secret = shared / "secret"
        secret.write_text(SECRETS["file"])
        cls.first = cls.warm("--rw", shared, "--env", f"SECRET={SECRETS['environment']}", "--", "sh",
                             "-c", f'cat - "$0"; echo; {DRAW}', secret, SECRETS["argument"],
                             data=SECRETS["input"].encode())
        cls.keep()

    @classmethod
    def warm(cls, *arguments: object, data: bytes = b"") -> subprocess.CompletedProcess:
        return run("--warm", *arguments, data=data, env=cls.environment)

    @classmethod
    def keep(cls):
        """Waits for the process that keeps the machine."""
        deadline = time.monotonic() + LIMIT
        while not (cls.entries() and all(len(path.name) == 16 for path in cls.entries())):
            if time.monotonic() > deadline:
                raise AssertionError("no warm machine is kept")
            time.sleep(0.05)

    @classmethod
    def entries(cls) -> list[Path]:
        return list((cls.cache / "minivmm/warm").glob("*"))

    def check_first(self):
        self.assertEqual((self.first.returncode, self.first.stderr), (0, b""))
        self.assertTrue(self.first.stdout.startswith(
            f"{SECRETS['input']}{SECRETS['file']}\n".encode()), self.first.stdout)

    def test_nothing_of_a_run_is_in_the_next(self):
        self.check_first()
        template = (self.entries()[0] / "memory").read_bytes()
        with start("--warm", "--rw", self.other, "--env", "OWN=of the second run", "--", "sh", "-c", HOLD,
                   stdin=subprocess.PIPE, env=self.environment) as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            memory = ram(children(process.pid)[0])
            output, errors = process.communicate(b"\n", LIMIT)
        self.assertEqual((process.returncode, output.split()[0], errors), (0, ZEROS.encode(), b""))
        self.assertGreaterEqual(len(memory), 256 * MIB)
        self.assertIn(b"OWN=of the second run", memory)  # so the others would be found
        for secret in SECRETS.values():
            self.assertNotIn(secret.encode(), memory)
            self.assertNotIn(secret.encode(), template)
        self.assertEqual((self.entries()[0] / "memory").read_bytes(), template)

    def test_each_draws_its_own_and_has_the_time(self):
        """The clock that counts from the boot does not leap over the time between two runs."""
        self.check_first()
        lines = self.first.stdout.decode().splitlines()[1:]
        drawn, boot = set(lines[:3]), float(lines[4])
        for _ in range(FORKS):
            before = time.time()
            done = self.warm("--rw", self.other, "--", "sh", "-c", DRAW)
            after = time.time()
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            lines = done.stdout.decode().splitlines()
            drawn.update(lines[:3])
            self.assertTrue(before - 0.01 < float(lines[3]) < after + 0.01, (before, lines[3], after))
            self.assertLess(float(lines[4]), boot + after - before + 0.05)
        self.assertEqual(len(drawn), 3 + 3 * FORKS)

    def test_dropped_while_a_fork_runs(self):
        self.check_first()
        copy, report = self.directory / "copy", self.directory / "report"
        shutil.copytree(self.cache, copy)
        environment = self.environment | {"XDG_CACHE_HOME": str(copy)}
        with start("--warm", "--rw", self.other, "--json", report, "--", "sh", "-c", HOLD,
                   stdin=subprocess.PIPE, env=environment) as process:
            self.assertEqual(process.stdout.readline(), b"ready\n")
            subprocess.run([MINIVMM, "warm", "--drop", "all"], env=environment, check=True)
            self.assertEqual(list((copy / "minivmm/warm").iterdir()), [])
            output, errors = process.communicate(b"\n", LIMIT)
        self.assertEqual((process.returncode, output.split()[0], errors), (0, ZEROS.encode(), b""))
        self.assertIsNone(json.loads(report.read_text())["ms"]["kernel"])  # it was a fork


class Caches(GuestTest):
    def check_boots(self, cache: Path):
        done = run("--warm", "--", "echo", "text", env=os.environ | {"XDG_CACHE_HOME": str(cache)})
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"text\n", b""))

    def test_one_that_cannot_be_written(self):
        self.check_boots(Path("/proc/cache"))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount a small file system")
    def test_full_one(self):
        place = self.directory / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "small", place], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", place])
        self.check_boots(place)
        self.assertEqual(list((place / "minivmm/warm").iterdir()), [])
