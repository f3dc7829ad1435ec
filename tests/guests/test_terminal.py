# SPDX-License-Identifier: MIT
"""The terminal: raw while a guest runs, and restored however it ends."""

import contextlib
import ctypes
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from pathlib import Path

import vmm
from vmm import MACHINE, TIMEOUTS_MS, GuestTest, command, only_on, wait_until

ESCAPE = b"\x01"
TGKILL = {"x86_64": 234, "aarch64": 131}[MACHINE]


class Terminal(GuestTest):
    def setUp(self):
        super().setUp()
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""

    @contextlib.contextmanager
    def session(self, name: str | None, *options: object, cmdline: str = ""):
        """Runs minivmm with the terminal as its controlling terminal, as a shell does."""
        process = subprocess.Popen(
            command(name, *options, cmdline=cmdline), cwd=self.directory, stdin=self.slave,
            stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def sees(self, what: bytes) -> bool:
        os.set_blocking(self.master, False)
        with contextlib.suppress(BlockingIOError):
            self.shown += os.read(self.master, 4096)
        return what in self.shown

    def expect(self, what: bytes):
        """Reads until WHAT was shown; drops it and all output before it."""
        wait_until(lambda: self.sees(what), repr(what))
        self.shown = self.shown.partition(what)[2]

    def type(self, keys: bytes):
        os.write(self.master, keys)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def check_end(self, process, status: int):
        self.assertEqual(process.wait(vmm.TIME_LIMIT), status)
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    @contextlib.contextmanager
    def guest(self, name: str, *options: object, cmdline: str = "", says: bytes):
        with self.session(name, *options, cmdline=cmdline) as process:
            self.expect(says)
            self.assertTrue(self.is_raw())
            yield process

    def test_restored_after_power_off(self):
        with self.session("hello") as process:
            self.expect(b"hello from the guest")
            self.check_end(process, 0)

    def test_restored_after_an_error(self):
        with self.session(None, "--kernel", "missing") as process:
            self.expect(b"No such file")
            self.check_end(process, 125)

    def test_restored_after_a_late_error(self):
        with self.session("hello", "--disk", "missing") as process:
            self.expect(b"No such file")
            self.check_end(process, 125)

    @only_on("x86_64", "on Arm KVM does not decode instructions")
    def test_restored_after_kvm_failure(self):
        with self.session("fault", cmdline="execute-device") as process:
            self.expect(b"code at rip")
            self.check_end(process, 123)

    def test_restored_after_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with (self.subTest(number),
                  self.guest("end", "--grace", "50ms", cmdline="stop", says=b"stop") as process):
                process.send_signal(number)
                self.check_end(process, 128 + number)

    def test_restored_after_a_crash(self):
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGQUIT):
            with (self.subTest(number),
                  self.guest("end", cmdline="stop", says=b"stop") as process):
                process.send_signal(number)
                process.wait(vmm.TIME_LIMIT)
                self.assertNotEqual(process.returncode, 0)
                self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def test_restored_after_a_crash_of_any_thread(self):
        """Each may make only the system calls that it needs."""
        (self.directory / "shared").mkdir()
        options = ["--disk", self.disk(), "--share", "shared,tag=a,rw", "--net", "user",
                   "--cpus", "2", "--console", "none"]
        names, tried = [""], set()
        while names:
            with self.guest("end", *options, cmdline="stop", says=b"stop") as process:
                tasks = Path(f"/proc/{process.pid}/task")
                threads = {(tasks / number / "comm").read_text().strip(): int(number)
                           for number in os.listdir(tasks)}
                names = sorted(name for name in threads
                               if name not in tried and not name.startswith("kvm-"))
                if not names:
                    break
                tried.add(names[0])
                with self.subTest(thread=names[0]):
                    ctypes.CDLL(None).syscall(TGKILL, process.pid, threads[names[0]],
                                              signal.SIGSEGV)
                    self.assertEqual(process.wait(vmm.TIME_LIMIT), -signal.SIGSEGV)
                    self.assertEqual(termios.tcgetattr(self.slave), self.before)
        self.assertLessEqual({"vcpu0", "vcpu1", "blk0", "net0", "fs0"}, tried)

    def test_restored_after_timeout(self):
        for ms in TIMEOUTS_MS:
            self.shown = b""
            with self.session("end", "--timeout", f"{ms}ms", cmdline="spin") as process:
                wait_until(lambda: self.sees(b"spin") or process.poll() is not None, "a word")
                was_raw = self.is_raw()
                self.check_end(process, 124)
            if was_raw:
                break
        self.assertTrue(was_raw)
        self.assertIn(b"spin", self.shown)

    def test_escape_x_leaves(self):
        for name, cmdline in (("end", "stop"), ("end", "spin"), ("echo", "")):
            with (self.subTest(name + cmdline),
                  self.guest(name, cmdline=cmdline, says=(cmdline or "ready").encode()) as process):
                self.type(ESCAPE + b"x")
                self.check_end(process, 0)

    def test_keys_reach_the_guest(self):
        """Control characters are passed on without effect; the escape key when it is doubled."""
        with self.guest("echo", says=b"ready\n") as process:
            self.type(b"a\x03\x1a\x04\x11\r" + ESCAPE + ESCAPE + ESCAPE + b"a" + b"z")
            self.expect(b"a\x03\x1a\x04\x11\r" + ESCAPE + ESCAPE + b"z")
            self.type(ESCAPE + b"h")
            self.expect(b"Ctrl-A x")
            self.type(b".")
            self.check_end(process, 0)

    def test_keys_reach_the_console(self):
        with self.guest("console", "--console", "stdio", says=b"E") as process:
            self.type(b"\x03one line.")
            self.expect(b"\x03one line.")
            self.check_end(process, 0)

    def test_typed_ahead(self):
        """Keys typed before the guest reads are not lost."""
        with self.session("echo") as process:
            wait_until(self.is_raw, "raw mode")
            self.type(b"early.")
            self.expect(b"early.")
            self.check_end(process, 0)
