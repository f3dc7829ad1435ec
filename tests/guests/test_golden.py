# SPDX-License-Identifier: MIT
"""Snapshots that an older minivmm has made, on one emulated CPU: golden.py makes them."""

import tarfile
from pathlib import Path

from golden import SNAPSHOTS, make_tap
from test_snapshot import SnapshotTest
from vmm import MACHINE


class Golden(SnapshotTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_tap()

    def check_loads(self, archive: Path):
        self.snap = self.directory / archive.name
        self.snap.mkdir()
        with tarfile.open(archive) as packed:
            packed.extractall(self.snap)
        self.check_whole()
        share = self.directory / "share"
        share.mkdir(exist_ok=True)
        machine = self.restore("--share", f"golden:{share}", "--console", "none", "--control", self.socket)
        machine.fill() # its memory is what it was
        number, count = machine.runs()
        newer = self.directory / "newer"
        self.check_taken("--stop", snap=newer)
        machine.finish(0)
        machine = self.restore(snap=newer)
        self.check_continues(machine, number, count)
        machine.fill()
        machine.send("e")
        machine.finish(0)

    def test_older_snapshots(self):
        archives = sorted(SNAPSHOTS.glob(f"*-{MACHINE}.tar.xz"))
        self.assertTrue(archives)
        for archive in archives:
            with self.subTest(archive.name):
                self.check_loads(archive)
