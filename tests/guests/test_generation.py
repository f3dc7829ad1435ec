# SPDX-License-Identifier: MIT
"""A machine that starts from a snapshot has a generation ID of its own, and is told so."""

import contextlib
import re
import subprocess

from vmm import LANE, MINIVMM, GuestTest, text

RESTORES = 20 if LANE == "nested" else 200
AT_ONCE = 10


class Generation(GuestTest):
    @contextlib.contextmanager
    def restored(self):
        process = subprocess.Popen([MINIVMM, "restore", "snapshot"], cwd=self.directory,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def read(self, process: subprocess.Popen, what: str) -> str:
        return self.parse(process.stdout.readline(), what)

    def parse(self, line: bytes, what: str) -> str:
        found = re.fullmatch(rf"{what} ([0-9a-f]+ [0-9a-f]+)\n", text(line))
        self.assertTrue(found, line)
        return found[1]

    def take_snapshot(self) -> str:
        with self.running("generation", "--control", "socket") as process:
            self.check_status(self.run_vmm([str(MINIVMM), "snapshot", "socket", "snapshot",
                                            "--stop"]), 0)
            return self.parse(process.first_line, "booted")

    def test_each_has_its_own(self):
        saved = self.take_snapshot()
        self.assertNotEqual(saved, "0 0")
        ids = {saved}
        for _ in range(RESTORES // AT_ONCE):
            with contextlib.ExitStack() as stack:
                processes = [stack.enter_context(self.restored()) for _ in range(AT_ONCE)]
                ids.update(self.read(process, "restored") for process in processes)
        self.assertEqual(len(ids), 1 + RESTORES)

    def test_a_reset_keeps_it(self):
        self.take_snapshot()
        with self.restored() as process:
            before = self.read(process, "restored")
            process.stdin.write(b"r")
            process.stdin.flush()
            self.assertEqual(self.read(process, "booted"), before)
