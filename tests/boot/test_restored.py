# SPDX-License-Identifier: MIT
"""Linux learns that its machine was restored from a snapshot, and seeds its generator anew."""

import re
import subprocess

from machine import FILES, MINIVMM, SERIAL, GuestTest, Machine, only_on

SCRIPT = ("dmesg -n 1; echo waiting; until dmesg | grep m[a]chine.fork; do usleep 50000; done; "
          "head -c 16 /dev/urandom | sha256sum")


@only_on("x86_64", "the driver knows device trees since Linux 6.10")
class Restored(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        socket, snapshot = cls.directory / "socket", cls.directory / "snapshot"
        machine = cls.boot("--kernel", FILES / "vmlinuz-generic", "--initrd",
                           FILES / "initrd-generic.img", "--memory", "128M", "--net", "none",
                           "--control", socket, "--cmdline",
                           f'console={SERIAL} quiet panic=-1 minivmm.test="{SCRIPT}"')
        machine.wait_for("^waiting$")
        subprocess.run([MINIVMM, "snapshot", socket, snapshot, "--stop"], check=True)
        machine.finish()
        cls.restored = [Machine(program=[MINIVMM, "restore", snapshot]) for _ in range(2)]
        for machine in cls.restored:
            cls.addClassCleanup(machine.close)
        cls.statuses = [machine.finish() for machine in cls.restored]

    def test_the_kernel_is_told(self):
        self.assertEqual(self.statuses, [0, 0])
        self.assertNotIn("machine fork", self.machine.text())
        for machine in self.restored:
            self.assertIn("random: crng reseeded due to virtual machine fork", machine.text())

    def test_each_draws_other_random_numbers(self):
        drawn = [re.findall(r"^([0-9a-f]{64})  -$", machine.text(), re.MULTILINE)
                 for machine in self.restored]
        self.assertEqual([len(sums) for sums in drawn], [1, 1])
        self.assertNotEqual(*drawn)
