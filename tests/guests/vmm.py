# SPDX-License-Identifier: MIT
"""Starts minivmm with a payload: shared by the tests in this folder."""

import contextlib
import os
import platform
import re
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = os.environ.get("LAB_FILES")
LANE = os.environ.get("LAB_LANE", "")
MINIVMM = Path(os.environ.get("MINIVMM")
               or (f"{FILES}/minivmm" if FILES else ROOT / "build/minivmm")).absolute()
GUESTS = Path(os.environ.get("GUESTS") or FILES or ROOT / "build/tests/guests").absolute()

# Sanitizers make system calls that the sandbox would deny: it is left out of such builds.
CONFINED = not re.search(rb"__[at]san_init", MINIVMM.read_bytes())

TIME_LIMIT = 120  # seconds: enough for a slow and busy lane; only a hang takes longer
MACHINE = platform.machine()
SUFFIX = {"x86_64": "elf", "aarch64": "img"}[MACHINE]  # of a payload's file
# To be tried in this order: on a busy host a guest may not have printed when the first expires.
TIMEOUTS_MS = (300, 3000, 30000)
SECTOR = 512
LINE = 4096  # bytes per line of the payload output


def only_on(machine: str, why: str):
    """Marks a test that does not apply to other architectures."""
    return unittest.skipUnless(MACHINE == machine, why)


def preloads(test):
    """Marks a test that preloads stuck.so into minivmm."""
    return unittest.skipUnless((GUESTS / "stuck.so").exists(), "a static minivmm loads nothing")(test)


def payload(name: str) -> Path:
    return GUESTS / f"{name}.{SUFFIX}"


def command(name: str | None, *options: object, cmdline: str = "") -> list[str]:
    """A command line; without a network device unless the options add one."""
    words = [MINIVMM, "--net", "none"]
    if name:
        words += ["--kernel", payload(name), "--cmdline", cmdline]
    return [str(word) for word in [*words, *options]]


def add_tap(name: str, add_cleanup):
    """Makes a tap whose host answers for 10.0.2.2. ADD_CLEANUP: of a test or its class."""
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.W_OK):
        raise unittest.SkipTest("a tap needs root and /dev/net/tun")
    subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    add_cleanup(subprocess.run, ["ip", "link", "delete", name], check=True)
    subprocess.run(["ip", "address", "add", "10.0.2.2/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)


def needs_vhost():
    if not os.access("/dev/vhost-net", os.W_OK) and LANE != "nested":
        raise unittest.SkipTest("no /dev/vhost-net")


def output_lines(count: int) -> bytes:
    """The lines that the payload output writes."""
    return b"".join(b"%08d" % i + b"-" * (LINE - 9) + b"\n" for i in range(count))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition, what: str):
    deadline = time.monotonic() + TIME_LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(0.005)


def wait_until_noticed(process: subprocess.Popen):
    """Waits until no signal is pending, so that the next one is not merged with it."""
    def pending() -> int:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1], 16) for line in lines
                   if line.startswith(("SigPnd:", "ShdPnd:")))
    wait_until(lambda: not pending(), "signals to be delivered")


class GuestTest(unittest.TestCase):
    """Each test has a temporary directory, in which minivmm runs."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="guests-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def file(self, name: str, content: bytes = b"") -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def disk(self, name: str = "disk.img", sectors: int = 2048) -> Path:
        return self.file(name, bytes(sectors * SECTOR))

    def run_vmm(self, words: list[str], **more) -> subprocess.CompletedProcess:
        more.setdefault("stdin", None if "input" in more else subprocess.DEVNULL)
        for stream in ("stdout", "stderr"):
            more.setdefault(stream, subprocess.PIPE)
        more.setdefault("timeout", TIME_LIMIT)
        return subprocess.run(words, cwd=self.directory, **more)

    def boot(self, name: str, *options: object, cmdline: str = "", **more):
        return self.run_vmm(command(name, *options, cmdline=cmdline), **more)

    @contextlib.contextmanager
    def running(self, name: str, *options: object, cmdline: str = "", **more):
        """Runs a guest and reads its first line; kills it at the end if it still runs."""
        more.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(command(name, *options, cmdline=cmdline), cwd=self.directory,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        try:
            process.first_line = process.stdout.readline()
            yield process
        finally:
            process.kill()
            process.communicate()

    def check_status(self, done, status: int):
        if done.returncode != status:
            raise AssertionError(f"exit status {done.returncode}, not {status}\n"
                                 f"{text(done.stdout)}{text(done.stderr)}")

    def check_passes(self, name: str, *options: object, cmdline: str = "", **more) -> str:
        """Boots a payload that checks everything itself. Returns its output."""
        done = self.boot(name, *options, cmdline=cmdline, **more)
        self.check_status(done, 0)
        return text(done.stdout)

    def check_one_line(self, stderr: bytes, *words: str):
        """Checks that it is one line of minivmm's that contains these words."""
        said = text(stderr)
        self.assertRegex(said, r"\Aminivmm: [^\n]*\n\Z")
        for word in words:
            self.assertIn(word, said)


def text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
