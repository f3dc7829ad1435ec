# SPDX-License-Identifier: MIT
"""A guest that must not use kvmclock: it runs on its TSC, and takes the date from the real-time clock."""

import time
from unittest import SkipTest

from machine import FILES, MACHINE, GuestTest


class WithoutKvmclock(GuestTest):
    @classmethod
    def setUpClass(cls):
        if MACHINE != "x86_64":
            raise SkipTest("an Arm CPU has registers for its counter's frequency")
        super().setUpClass()
        # A busy host loses ticks, by which Linux would otherwise judge the TSC to be unstable.
        clocks = "no-kvmclock tsc=nowatchdog"
        cls.before = int(time.time())
        cls.boot("--kernel", FILES / "vmlinuz-cloud", "--initrd", FILES / "initrd-cloud.img",
                 "--memory", "128M", "--net", "none", "--disk", cls.copy("root.img"), "--cmdline",
                 f"console=ttyS0 {clocks} root=/dev/vda rw panic=-1 "
                 "minivmm.test=\"sh /test/clocks.sh\"")
        cls.status = cls.machine.finish()
        cls.after = int(time.time())

    def test_powers_off(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))

    def test_clock(self):
        self.assert_has("log", "tsc: Detected [0-9.]+ MHz")
        self.assert_has("source", r"/current_clocksource:tsc$")

    def test_date_at_the_start(self):
        date, rtc = map(int, self.section("epoch").lines())
        self.assertTrue(self.before <= rtc <= self.after, (self.before, rtc, self.after))
        self.assertLess(abs(date - rtc), 5)

    def test_hwclock(self):
        day, read = self.section("read").lines()
        self.assertIn(day[:4], read)
        self.assertEqual(self.section("set").status, 0)
        self.assertRegex(self.section("set").lines()[-1], "Feb  ?3 04:05:0.* 2031")
