# SPDX-License-Identifier: MIT
"""Runs minivmm with a Linux guest for the boot tests, and reads its console."""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(os.environ.get("LAB_FILES", "."))
MINIVMM = Path(os.environ.get("MINIVMM", HERE / "minivmm")).resolve()
FILES = Path(os.environ.get("BOOT_FILES", HERE / "boot-files")).resolve()

if os.environ.get("LAB_LANE") == "nested":  # L1's root has little room for unpacked kernels
    os.environ["XDG_CACHE_HOME"] = "/dev/shm/cache"

MACHINE = platform.machine()
SERIAL = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}[MACHINE]
# The lines of /proc/interrupts for spurious interrupts, all zero.
NO_STRAY_INTERRUPTS = {"x86_64": ("^ *ERR: +0$", "^ *MIS: +0$"), "aarch64": ("^ *Err: +0$",)}[MACHINE]

WAIT = 800  # seconds: enough for the nested lane on a busy host; only a hang takes longer
SECTION = re.compile(r"^@@ (\S+)\n(.*?)^@@ end (\d+)$", re.MULTILINE | re.DOTALL)

# Warnings that stock kernels print on any machine of this kind, and why.
USUAL_WARNINGS = (
    "PCI: Fatal: No config space access function found",  # there is no PCI
    "PCI: System does not support PCI",
    "hrtimer: interrupt took",  # the lane is slow
    "clocksource: Long readout interval",  # the same
    "amd_pstate: the _CPC object is not present",  # ACPI describes no performance states
)


def only_on(machine: str, why: str):
    """Marks a test that does not apply to other architectures."""
    return unittest.skipUnless(MACHINE == machine, why)


@dataclass
class Section:
    text: str
    status: int

    def lines(self) -> list[str]:
        return self.text.splitlines()

    def values(self) -> dict[str, str]:
        """The lines NAME:VALUE as a dictionary."""
        return dict(line.split(":", 1) for line in self.lines() if ":" in line)


class Machine:
    """Runs from its creation to finish(); a thread reads its console."""

    def __init__(self, *arguments: object, terminal: tuple[int, int] | None = None,
                 inherit: tuple[int, ...] = (), program: list[object] = (MINIVMM,)):
        """TERMINAL: rows and columns of a pty, or None for pipes. INHERIT: descriptors to pass on.
        PROGRAM: the command to run with minivmm's arguments."""
        self.started = time.monotonic()
        self.output = bytearray()
        self.sent_at = 0  # length of the output at the last send()
        self.changed = threading.Condition()
        self.errors = tempfile.TemporaryFile("w+")
        self.terminal = self.settings = None
        self.restored = False
        if terminal:
            self.input, self.terminal = os.openpty()
            self.settings = termios.tcgetattr(self.terminal)
            self.resize(*terminal)
            ends = self.terminal
            session = ["setsid", "--ctty"]
        else:
            ends = subprocess.PIPE
            session = []
        self.process = subprocess.Popen(
            [*session, *map(str, program), "--timeout", "15m", *map(str, arguments)],
            stdin=ends, stdout=ends, stderr=self.errors, pass_fds=inherit)
        source = self.input if terminal else self.process.stdout.fileno()
        if not terminal:
            self.input = self.process.stdin.fileno()
        self.reader = threading.Thread(target=self.read, args=[source], daemon=True)
        self.reader.start()

    def read(self, source: int):
        data = b"start"
        while data:
            try:
                data = os.read(source, 65536)
            except OSError:  # a pty whose other end is closed
                data = b""
            with self.changed:
                self.output += data
                self.changed.notify_all()

    def text(self, start: int = 0) -> str:
        with self.changed:
            return self.output[start:].decode(errors="replace").replace("\r", "")

    def sections(self) -> dict[str, Section]:
        return {name: Section(text, int(status))
                for name, text, status in SECTION.findall(self.text())}

    def problem(self, what: str) -> AssertionError:
        tail = "\n".join(self.text().splitlines()[-60:])
        return AssertionError(f"{what}; stderr: {self.stderr()}\nthe console's end:\n{tail}")

    def wait_for(self, pattern: str, timeout: float = WAIT) -> re.Match:
        """Waits until the console's output since the last send() matches."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not (match := re.search(pattern, self.text(self.sent_at), re.MULTILINE)):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise self.problem(f"the console does not print {pattern!r}")
                self.changed.wait(1)
        return match

    def send(self, text: str):
        with self.changed:
            self.sent_at = len(self.output)
        os.write(self.input, text.encode())

    def resize(self, rows: int, columns: int):
        fcntl.ioctl(self.input, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def fetch(self, url: str) -> bytes:
        """Fetches a page from the guest's web server."""
        try:
            with urllib.request.urlopen(url, timeout=WAIT) as reply:
                return reply.read()
        except OSError as error:
            raise self.problem(f"{url}: {error}") from None

    def finish(self, timeout: float = WAIT) -> int:
        """Waits for the end of minivmm and of its output. Returns the exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.problem("minivmm does not end") from None
        finally:
            self.close()
        print(f"# {time.monotonic() - self.started:.1f} s: minivmm ended with {status}", flush=True)
        return status

    def close(self):
        """May be called at any time, and repeatedly."""
        self.process.kill()
        self.process.wait()
        if self.terminal is not None:
            self.restored = termios.tcgetattr(self.terminal) == self.settings
            os.close(self.terminal)
            self.terminal = None
        self.reader.join()

    def stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read()


class GuestTest(unittest.TestCase):
    """Boots once, in setUpClass; each test then checks a part of the guest's output."""

    machine: Machine
    directory: Path

    @classmethod
    def setUpClass(cls):
        cls.directory = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))

    @classmethod
    def boot(cls, *arguments: object, **options: object) -> Machine:
        cls.machine = Machine(*arguments, **options)
        cls.addClassCleanup(cls.machine.close)
        return cls.machine

    @classmethod
    def copy(cls, name: str) -> Path:
        """A private copy of a file, which the guest may write to."""
        return Path(shutil.copy(FILES / name, cls.directory))

    def section(self, name: str) -> Section:
        sections = self.machine.sections()
        if name not in sections:
            raise self.machine.problem(f"no section {name}")
        return sections[name]

    def assert_has(self, name: str, *wanted: str):
        text = self.section(name).text
        for pattern in wanted:
            with self.subTest(section=name, wanted=pattern):
                self.assertRegex(text, re.compile(pattern, re.MULTILINE))

    def assert_no_warning(self, name: str, *usual: str):
        """Checks that the kernel printed no warnings but the usual ones."""
        self.assertEqual([line for line in self.section(name).lines()
                          if not any(text in line for text in USUAL_WARNINGS + usual)], [])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run_tool(*command: object) -> subprocess.CompletedProcess:
    """Runs a command with Debian's sbin directories in PATH."""
    path = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    return subprocess.run(list(map(str, command)), env=path, capture_output=True, text=True,
                          errors="replace")


@contextmanager
def reserved_port():
    """A TCP port of 127.0.0.1 that only sockets with SO_REUSEADDR, such as minivmm's, can bind."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def web_server(directory: Path, address: str = "127.0.0.1"):
    """Serves DIRECTORY and yields the port."""
    handler = partial(QuietHandler, directory=str(directory))
    with ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
