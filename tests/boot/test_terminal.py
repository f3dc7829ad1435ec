# SPDX-License-Identifier: MIT
"""What somebody at a terminal does with a guest."""

import unittest

from machine import FILES, GuestTest

PROMPT = r"^minivmm:\S+# (\x1b\[6n)?\Z"


class Terminal(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        machine = cls.boot("--kernel", FILES / "vmlinuz-cloud", "--initrd",
                           FILES / "initrd-cloud.img", "--memory", "128M", "--net", "none",
                           "--cmdline", "console=ttyS0 quiet", terminal=True)
        for typed in ("echo $((6 * 7))\r", "sleep 1000\r", "echo after\r"):
            machine.wait_for(PROMPT)
            machine.send(typed)
            if typed.startswith("sleep"):
                machine.wait_for("sleep 1000\n")
                machine.send("\x03")
        machine.wait_for(PROMPT)
        machine.send("\x01h")
        machine.wait_for("Ctrl-A x")
        machine.send("\x01x")
        cls.status = machine.finish()

    def test_command(self):
        self.assertIn("\n42\n", self.machine.text())

    def test_ctrl_c_reaches_the_guest(self):
        self.assertRegex(self.machine.text(), r"sleep 1000\n\^C\n")
        self.assertIn("\nafter\n", self.machine.text())

    def test_ctrl_a_x_leaves(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))

    def test_terminal_is_as_before(self):
        self.assertTrue(self.machine.restored)
