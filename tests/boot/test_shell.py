# SPDX-License-Identifier: MIT
"""An interactive session at a terminal."""

import unittest

from machine import FILES, SERIAL, GuestTest

PROMPT = r"^minivmm:\S+# (\x1b\[6n)?\Z"


class Terminal(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        machine = cls.boot("--kernel", FILES / "vmlinuz-cloud", "--initrd",
                           FILES / "initrd-cloud.img", "--memory", "128M", "--net", "none",
                           "--cmdline", f"console={SERIAL} quiet", terminal=(24, 80))
        machine.wait_for(PROMPT)
        machine.send("sh -c 'echo $((6 * 7)); exec sleep 1000'\r")
        machine.wait_for("^42\n")  # the command is in the foreground now and gets the Ctrl-C
        machine.send("\x03")
        machine.wait_for(PROMPT)
        machine.send("echo after\r")
        machine.wait_for(PROMPT)
        machine.send("\x01h")
        machine.wait_for("Ctrl-A x")
        machine.send("\x01x")
        cls.status = machine.finish()

    def test_ctrl_c_reaches_the_guest(self):
        self.assertRegex(self.machine.text(), r"\n42\n\^C\n")
        self.assertIn("\nafter\n", self.machine.text())

    def test_ctrl_a_x_leaves(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))

    def test_terminal_is_restored(self):
        self.assertTrue(self.machine.restored)
