# SPDX-License-Identifier: MIT
"""The user can end any machine: with a flood of requests, or a dead disk."""

import os
import signal
import subprocess
import time

from vmm import GUESTS, GuestTest, preloads, text

TIMED_OUT = 124
GRACE = 1  # second
FORCE = 3  # seconds: how long a machine may take to stop
SLACK = 5 + float(os.environ.get("TL") or 120) / 12  # seconds: a lane may be slow
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
