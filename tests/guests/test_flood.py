# SPDX-License-Identifier: MIT
"""The user can end any machine: with a flood of requests, or a dead disk."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from vmm import GUESTS, TIME_LIMIT, GuestTest, preloads, text, wait_until

TIMED_OUT = 124
GRACE = 1  # second
FORCE = 3  # seconds: how long a machine may take to stop
SLACK = 5 + float(os.environ.get("TL") or 120) / 12  # seconds: a lane may be slow
NETWORK_MIB = 64  # far below the process's limit: nothing of the flood is kept
LOG_LINES = 10  # at most, for each device
DEAD = b"the disk is dead\n"  # stuck.so's


class Ends(GuestTest):
    def check_ends(self, name: str, status: int, limit: float, *options: object, cmdline: str = "",
                   sigterm: bool = True, begin=lambda process: None, **more) -> str:
        """It ends by SIGTERM or by itself within `limit` seconds. Returns what it logged."""
        with self.running(name, *options, "--grace", f"{GRACE}s", cmdline=cmdline,
                          **more) as process:
            begin(process)
            time.sleep(1)
            start = time.monotonic()
            if sigterm:
                process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(limit + SLACK), status)
            self.assertLess(time.monotonic() - start, limit + SLACK)
            return text(process.stderr.read())


class Flood(Ends):
    """Every CPU floods every device, and the output is not read."""

    def check_flood(self, cmdline: str):
        logged = self.check_ends("flood", 128 + signal.SIGTERM, GRACE + FORCE, "--cpus", 4,
                                 "--disk", self.disk(), "--console", "file=console",
                                 cmdline=cmdline)
        for device in "blk0", "console0", "rng0":
            self.assertLessEqual(logged.count(f" {device}: "), LOG_LINES)

    def test_sigterm_while_every_device_is_flooded(self):
        self.check_flood("4")

    def test_sigterm_while_every_device_is_flooded_and_reset(self):
        self.check_flood("4 reset")


class Network(GuestTest):
    """A guest of 32 MiB floods the user-mode network, whose process then ends."""

    def child_of(self, pid: int) -> int:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not words:
            self.skipTest("minivmm-net does not run: no libslirp")
        child, = words
        return int(child)

    def most_memory(self, pid: int) -> int:
        """MiB, so far."""
        status = Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) // 1024

    def test_flood_and_end_of_the_process(self):
        with self.running("link", "--memory", "32M", "--net", "user", cmdline="3000") as process:
            self.assertEqual(process.first_line, b"up\n")
            child = self.child_of(process.pid)
            self.assertLess(self.most_memory(process.pid), 32 + 16)
            self.assertLess(self.most_memory(child), NETWORK_MIB)
            os.kill(child, signal.SIGKILL)
            self.assertEqual(process.stdout.readline(), b"down\n")
            wait_until(lambda: not Path(f"/proc/{child}").exists(), "the end of the zombie")
            self.assertEqual(process.wait(TIME_LIMIT), 0)
            self.check_one_line(process.stderr.read(), "minivmm-net", "signal 9", "no network")

    def test_ctrl_c_is_not_for_the_network(self):
        with self.running("link", "--net", "user", cmdline="0", start_new_session=True) as process:
            self.assertEqual(process.first_line, b"up\n")
            child = self.child_of(process.pid)
            self.assertNotEqual(os.getsid(child), os.getsid(process.pid))
            process.kill()
            wait_until(lambda: not Path(f"/proc/{child}").exists(), "the end of minivmm-net")


@preloads
class DeadDisk(Ends):
    """A request never completes, and the guest resets or powers off."""

    def leave(self, process: subprocess.Popen):
        """Lets the guest proceed once the disk has its request, unless it times out before."""
        self.left = DEAD in iter(process.stderr.readline, b"")
        if self.left:
            process.stdin.write(b"!")
            process.stdin.flush()

    def logged(self, way: str, status: int, limit: float, *options: object, sigterm: bool) -> str:
        return self.check_ends(
            "leave", status, limit, *options, "--disk", f"{self.disk()},engine=thread",
            cmdline=way, sigterm=sigterm, begin=self.leave, stdin=subprocess.PIPE,
            env={**os.environ, "LD_PRELOAD": str(GUESTS / "stuck.so"),
                 "ASAN_OPTIONS": "verify_asan_link_order=0"})

    def test_sigterm(self):
        for way in "", "off":
            with self.subTest(way=way or "reset"):
                logged = self.logged(way, 128 + signal.SIGTERM, GRACE + FORCE, sigterm=True)
                self.assertIn("does not answer", logged)

    def test_timeout(self):
        for way in "", "off":
            with self.subTest(way=way or "reset"):
                for seconds in 2, 20, 60:  # a busy guest needs longer to make its request
                    logged = self.logged(way, TIMED_OUT, seconds + GRACE + FORCE,
                                         "--timeout", f"{seconds}s", sigterm=False)
                    if self.left:
                        break
                self.assertIn("does not answer", logged)

    def test_impatient_signals_do_not_prolong_it(self):
        with self.running("leave", "--grace", f"{GRACE}s",
                          "--disk", f"{self.disk()},engine=thread", stdin=subprocess.PIPE,
                          env={**os.environ, "LD_PRELOAD": str(GUESTS / "stuck.so"),
                               "ASAN_OPTIONS": "verify_asan_link_order=0"}) as process:
            self.leave(process)
            for _ in range(60):  # each within the time that the one before has given it
                process.send_signal(signal.SIGTERM)
                try:
                    self.assertEqual(process.wait(FORCE / 2), 128 + signal.SIGTERM)
                    return
                except subprocess.TimeoutExpired:
                    pass
            self.fail("it goes on as long as somebody asks it to end")
