# SPDX-License-Identifier: MIT
"""Whatever the guest does and its disk does not, the user can end it."""

import os
import signal
import time

from vmm import GUESTS, GuestTest, text

TIMED_OUT = 124
GRACE = 1  # second
FORCE = 3  # seconds: how long a machine may take to stop
SLACK = 5 + float(os.environ.get("TL") or 120) / 12  # seconds: a lane may be slow
LOG_LINES = 10  # about one device


class Ends(GuestTest):
    def check_ends(self, name: str, status: int, limit: float, *options: object, cmdline: str = "",
                   sigterm: bool = True, **more) -> str:
        """Ends by SIGTERM or by itself within `limit` seconds; what it logged."""
        with self.running(name, *options, "--grace", f"{GRACE}s", cmdline=cmdline,
                          **more) as process:
            time.sleep(1)
            start = time.monotonic()
            if sigterm:
                process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(limit + SLACK), status)
            self.assertLess(time.monotonic() - start, limit + SLACK)
            return text(process.stderr.read())


class Flood(Ends):
    """Every CPU gives every device all it has, and nobody reads the output."""

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


class DeadDisk(Ends):
    """A request is in flight for ever when the guest resets or powers off."""

    def check_dead(self, status: int, *options: object, sigterm: bool):
        for way in "", "off":
            with self.subTest(way=way or "reset"):
                logged = self.check_ends(
                    "leave", status, GRACE + FORCE, *options,
                    "--disk", f"{self.disk()},engine=thread", cmdline=way, sigterm=sigterm,
                    env={**os.environ, "LD_PRELOAD": str(GUESTS / "stuck.so"),
                         "ASAN_OPTIONS": "verify_asan_link_order=0"})
                self.assertIn("does not come to its end", logged)

    def test_sigterm(self):
        self.check_dead(128 + signal.SIGTERM, sigterm=True)

    def test_timeout(self):
        self.check_dead(TIMED_OUT, "--timeout", "2s", sigterm=False)
