# SPDX-License-Identifier: MIT
"""What ./scripts/bench does with a VMM that fails, never ends, or takes only some guests."""

import contextlib
import gzip
import io
import os
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import fs  # noqa: E402
import vmlinux  # noqa: E402
from contenders import Guest, contender  # noqa: E402
from measure import Failed, Figure, read_some, stopwatch, take_turns  # noqa: E402


def figure(name: str, value: float = 1) -> Figure:
    return Figure("table", "row", name, "ms", value)


class Scratch(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def file(self, name: str, content: bytes) -> Path:
        path = self.scratch / name
        path.write_bytes(content)
        return path


class Turns(unittest.TestCase):
    def take(self, turns: int, **contenders) -> list[str]:
        self.told = io.StringIO()
        with contextlib.redirect_stderr(self.told):
            return [each.contender for each in take_turns("4 disks", turns, contenders)]

    def test_a_peer_that_fails_loses_the_row(self):
        def fails():
            yield figure("peer")
            raise Failed("takes three disks")
        found = self.take(2, host=lambda: [figure("host")], peer=fails, qemu=lambda: [figure("qemu")])
        self.assertEqual(found, ["host", "host", "qemu", "qemu"])
        self.assertEqual(self.told.getvalue(),
                         "bench: peer loses the row '4 disks': takes three disks\n")

    def test_figures_of_earlier_turns_go_with_the_row(self):
        turns = iter([[figure("peer")]])
        def fails_later():
            try:
                return next(turns)
            except StopIteration:
                raise subprocess.TimeoutExpired("peer", 1)
        self.assertEqual(self.take(3, peer=fails_later), [])

    def test_a_program_that_cannot_be_started(self):
        self.assertEqual(self.take(1, peer=lambda: [subprocess.run("/nonexistent")]), [])

    def test_minivmm_ends_the_run(self):
        def fails():
            raise Failed("no output")
        with self.assertRaises(Failed):
            self.take(1, minivmm=fails)


class Contenders(Scratch):
    def setUp(self):
        super().setUp()
        tempfile.tempdir = str(self.scratch)
        self.addCleanup(setattr, tempfile, "tempdir", None)
        self.elf = self.file("vmlinux", b"\x7fELF")
        self.bzimage = self.file("bzImage", b"MZ")

    def test_formats(self):
        for name, kernel in (("firecracker", self.bzimage), ("kvmtool", self.elf)):
            with self.assertRaisesRegex(Failed, "boots no"):
                contender(name, "/vmm").command(Guest(kernel))
        for name in ("minivmm", "qemu", "cloud-hypervisor"):
            for kernel in (self.elf, self.bzimage):
                self.assertIn(str(kernel), contender(name, "/vmm").command(Guest(kernel)))

    def test_no_row_with_a_user_network_where_there_is_none(self):
        for name in ("firecracker", "cloud-hypervisor-old"):
            with self.assertRaisesRegex(Failed, "no user-mode network"):
                contender(name, "/vmm").command(Guest(self.elf, user_net=True))

    def test_firecracker_is_silent(self):
        command = " ".join(contender("firecracker", "/vmm").command(Guest(self.elf)))
        self.assertIn("--level Off", command)

    def test_each_guest_of_firecracker_has_its_own_configuration(self):
        files = {contender("firecracker", "/vmm").command(Guest(self.elf, memory=size))[-1]
                 for size in (128, 256)}
        self.assertEqual(len(files), 2)

    def test_ends(self):
        ends = {name: [contender(name, "/vmm").ends(Guest(self.elf, end=end))
                       for end in ("power-off", "reset")]
                for name in ("minivmm", "cloud-hypervisor", "firecracker", "kvmtool")}
        self.assertEqual(ends, {"minivmm": [True, True], "cloud-hypervisor": [True, False],
                                "firecracker": [False, True], "kvmtool": [False, True]})


class Stopwatch(Scratch):
    def setUp(self):
        super().setUp()
        self.program = self.scratch / "stopwatch"
        subprocess.run([os.environ.get("CC", "cc").split()[0], "-D_GNU_SOURCE", "-o", self.program,
                        BENCH / "stopwatch.c"], check=True)

    def watch(self, script: str, **more):
        return stopwatch(self.program, ["sh", "-c", script], "@init", **more)

    def test_waits_for_the_end(self):
        done = self.watch(f"echo log; echo @init; >{self.scratch}/ended")
        self.assertGreater(done.ended, done.seen)
        self.assertTrue((self.scratch / "ended").exists())

    def test_kills_what_reboots_for_ever(self):
        done = self.watch("while :; do echo @init; done", ends=False)
        self.assertIsNone(done.ended)

    def test_output_other_than_the_marker_does_not_count(self):
        with self.assertRaisesRegex(Failed, "no output '@init': a reason"):
            self.watch("echo log; echo a reason >&2")

    def test_what_does_not_end_has_failed(self):
        with self.assertRaisesRegex(Failed, "still runs after 5 s"):
            self.watch("echo @init; exec sleep 1000", seconds=5)


class Vmlinux(Scratch):
    def test_extract(self):
        elf = b"\x7fELF" + bytes(range(200))
        payload = gzip.compress(elf) + struct.pack("<I", len(elf))
        image = bytearray(1024)
        image[vmlinux.SETUP_SECTORS] = 1
        struct.pack_into("<II", image, vmlinux.PAYLOAD_OFFSET, 16, len(payload))
        kernel = self.file("bzImage", bytes(image) + bytes(16) + payload + b"the rest")
        self.assertEqual(vmlinux.extract(kernel, self.scratch / "vmlinux").read_bytes(), elf)


class Files(unittest.TestCase):
    def test_times_of_a_load(self):
        found = fs.run_load(["sh", "-c", r"printf 'log\n@a, b: 1500000\r\n@c: 2\r\n@done\r\n'; exec sleep 1000"])
        self.assertEqual(found, {"a, b": 1.5, "c": 2e-6})

    def test_a_guest_that_ends_early_has_failed(self):
        with self.assertRaisesRegex(Failed, "(?s)ended early: .*a reason"):
            fs.run_load(["sh", "-c", "echo @a: 1; echo a reason >&2"])

    def test_goals(self):
        self.assertEqual([fs.case_with_goal(case) for case in ("git status, again", "build, make", "find")],
                         ["git status, again (goal 3)", "build, make (goal 1.3)", "find"])

    def test_script(self):
        subprocess.run(["bash", "-n", "-c", fs.SCRIPT], check=True)


class Reading(unittest.TestCase):
    def test_deadline_and_end(self):
        reader, writer = os.pipe()
        self.assertEqual(read_some(reader, 0), b"")
        os.write(writer, b"some")
        self.assertEqual(read_some(reader, 0), b"some")
        os.close(writer)
        self.assertEqual(read_some(reader, 1e9), b"")
        os.close(reader)
