# SPDX-License-Identifier: MIT
"""minivmm run --warm, minivmm warm NAME: later runs go on from a machine that has booted once."""

import json
import os
import struct
import subprocess
import time
from pathlib import Path

from machine import GuestTest, MINIVMM, Machine
from test_run import LIMIT, run, version, words

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
        deadline = time.monotonic() + LIMIT
        while (entry / "state").read_bytes() == state and time.monotonic() < deadline:
            time.sleep(0.05)
        done, report = self.warm("--", "cat", data=b"text\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"text\n", b""))
        self.assertIsNone(report["kernel"])


# What a machine with a name is made with: its process and what it has written live on.
PREPARE = ("head -c 5; echo prepared >/root/state; echo made >>list; test ! -e /var/tmp/later; "
           "(trap 'echo noise' USR1; while :; do sleep 1000 & wait $!; done) & echo $! >/root/pid")
USE = ("kill -USR1 $(cat /root/pid); cat /root/state /etc/machine-id /var/tmp/later; ls /root/mine; "
       "echo $NAME >/root/mine; kill -0 $(cat /root/pid) && echo alive; cat; pwd; "
       "echo $NAME >>list; date +%s.%N; exit 3")


class Named(GuestTest):
    FROM = (MINIVMM, "run", "--from", "pg", "--boot-timeout", f"{2 * LIMIT}s")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.environment = os.environ | {"XDG_CACHE_HOME": str(cls.directory / "cache")}
        cls.shared = cls.directory / "shared"
        cls.shared.mkdir()
        cls.made = cls.run_words(
            MINIVMM, "warm", "pg", *words("--rw", cls.shared, "--cwd", cls.shared, "--net", "user",
                                          "--on-fork", "cat /proc/sys/kernel/random/uuid "
                                          ">/etc/machine-id; echo hooked")[2:],
            "--", "sh", "-c", PREPARE, data=b"12345 is read, and this is not\n")

    @classmethod
    def run_words(cls, *arguments: object, data: bytes = b"") -> subprocess.CompletedProcess:
        began = time.monotonic()
        done = subprocess.run(list(map(str, arguments)), input=data, capture_output=True,
                              env=cls.environment, timeout=LIMIT)
        print(f"# {time.monotonic() - began:.1f} s: {done}", flush=True)
        return done

    def test_each_run_is_a_fork_of_its_own(self):
        self.assertEqual((self.made.returncode, self.made.stdout, self.made.stderr),
                         (0, b"12345", b""))
        later = Path("/var/tmp/later")  # the guest has looked for it before
        self.addCleanup(later.unlink)
        later.write_text("later\n")
        report = self.directory / "report"
        identities = set()
        for number in range(3):
            before = time.time()
            done = self.run_words(*self.FROM, "--env", f"NAME={number}", "--json", report,
                                  "--", "sh", "-c", USE, data=b"input\n")
            after = time.time()
            self.assertEqual(done.returncode, 3, done)
            self.assertRegex(done.stderr, rb"\Ahooked\nls: [^\n]*No such file[^\n]*\n\Z")
            lines = done.stdout.decode().splitlines()
            self.assertEqual(lines[:1] + lines[2:6], ["prepared", "later", "alive", "input",
                                                      str(self.shared)])
            self.assertLess(before - 0.1, float(lines[6]))
            self.assertLess(float(lines[6]), after + 0.1)
            self.assertEqual(len(lines), 7)
            identities.add(lines[1])
            times = json.loads(report.read_text())
            self.assertIsNone(times["ms"]["kernel"])
            self.assertEqual(times["version"], version())
        self.assertEqual(len(identities), 3)
        self.assertEqual((self.shared / "list").read_text(), "made\n0\n1\n2\n")

    def test_a_terminal_that_the_first_command_had_not(self):
        machine = Machine("--", "sh", "-c", "stty size; tty; test -t 2 || echo stream",
                          program=["env", f"XDG_CACHE_HOME={self.environment['XDG_CACHE_HOME']}",
                                   *self.FROM], terminal=(33, 99))
        self.addCleanup(machine.close)
        self.assertEqual((machine.finish(LIMIT), machine.stderr()), (0, "hooked\n"))
        self.assertEqual(machine.text().splitlines(), ["33 99", "/dev/hvc0", "stream"])

    def test_a_command_that_fails_leaves_none(self):
        done = self.run_words(MINIVMM, "warm", "bad", *words()[2:], "--", "sh", "-c", "exit 9")
        self.assertEqual((done.returncode, done.stderr),
                         (9, b"minivmm: bad is not kept: the command did not exit with 0\n"))
        listed = self.run_words(MINIVMM, "warm", "--list").stdout.decode().splitlines()
        self.assertEqual(len(listed), 1)
        self.assertRegex(listed[0], rf"\Apg .* kernel {version()}; root /; sh -c head -c 5")
        done = self.run_words(MINIVMM, "run", "--from", "bad", "true")
        self.assertEqual((done.returncode, done.stderr),
                         (125, b"minivmm: there is no warm machine 'bad'; see minivmm warm --list\n"))

    def test_a_directory_must_be_absolute(self):
        done = self.run_words(*self.FROM, "--cwd", "tmp", "true")
        self.assertEqual((done.returncode, done.stderr),
                         (125, b"minivmm: --cwd tmp: must be an absolute path without '..'\n"))
