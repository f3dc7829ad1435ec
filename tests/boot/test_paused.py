# SPDX-License-Identifier: MIT
"""Debian's cloud kernel in a machine that is paused and resumed a thousand times."""

import os
import re
from pathlib import Path

from machine import FILES, HERE, SERIAL, GuestTest, sha256, web_server

PAUSING = Path(os.environ.get("PAUSING", HERE / "pausing")).resolve()
PAUSES = 1000


class Paused(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.copy("root.img")
        (cls.directory / "www").mkdir()
        cls.page = os.urandom(1 << 20)
        (cls.directory / "www/page").write_bytes(cls.page)
        server = cls.enterClassContext(web_server(cls.directory / "www"))
        script = f'minivmm.test="sh /test/paused.sh http://10.0.2.2:{server}/page"'
        cls.boot(
            "--kernel", FILES / "vmlinuz-cloud", "--initrd", FILES / "initrd-cloud.img",
            "--memory", "128M", "--cpus", 2, "--disk", cls.directory / "root.img",
            "--net", "user,host-loopback",
            "--cmdline", f"console={SERIAL} quiet root=/dev/vda rw panic=-1 {script}",
            program=[PAUSING, PAUSES, -1])
        cls.status = cls.machine.finish()

    def test_powers_off_after_many_pauses(self):
        self.assertEqual(self.status, 0)
        self.assertRegex(self.machine.stderr(), r"\Apaused 1000 times, [^\n]*\n\Z")
        print(f"# {self.machine.stderr().strip()}")

    def test_fetched_pages_are_on_the_disk(self):
        digest = sha256(self.page)
        self.assertEqual(self.section("copies").lines(),
                         [f"{digest}  /root/page{copy}" for copy in (1, 2, 3)])

    def test_every_line_of_the_console(self):
        self.assertEqual(self.section("numbers").lines(), [str(n) for n in range(1, 5001)])
