# SPDX-License-Identifier: MIT
"""The output of --stats for guests whose requests and exits are known."""

import re

from vmm import GuestTest, text

PHASES = ["begin", "memory", "kvm", "devices", "vm", "slots", "irqchip", "vcpus", "sandbox", "image",
          "threads", "entry", "first-exit"]
SLEEPS = "poll=0"  # adaptive polling would save system calls, depending on timing


def tables(stderr: bytes) -> dict[str, dict[str, dict[str, float]]]:
    """Parses the tables: name, row, column."""
    found: dict = {}
    for line in text(stderr).splitlines():
        name, *words = line.removeprefix("minivmm: ").split()
        if not re.fullmatch(r"[\d.]+|-", words[0]):
            columns, rows = words, found.setdefault(name, {})
        else:
            rows[name] = {column: float(word) for column, word in zip(columns, words, strict=True)
                          if word != "-"}
    return found


class Stats(GuestTest):
    def stats(self, payload: str, *options: object, cmdline: str = "") -> dict:
        done = self.boot(payload, "--stats", *options, cmdline=cmdline)
        self.check_status(done, 0)
        found = tables(done.stderr)
        self.said = len(done.stdout)
        return found

    def test_silent_unless_asked(self):
        self.assertEqual(self.boot("hello").stderr, b"")

    def check_requests(self, count: int, *options: object) -> dict[str, float]:
        disk = self.stats("requests", *options, cmdline=str(count))["device"]["blk0"]
        self.assertEqual((disk["requests"], disk["interrupts"]), (count, count))
        self.assertTrue(0 < disk["kicks"] <= count)
        return disk

    def test_disk_requests(self):
        few, many = (self.check_requests(count, "--disk", f"{self.disk()},{SLEEPS}")
                     for count in (10, 400))
        self.assertEqual(few["exits"], many["exits"])  # all of them before the first request
        self.assertAlmostEqual(many["exits/request"], many["exits"] / 400, delta=0.001)
        self.assertGreaterEqual(many["calls/request"], 3)  # kick, submission, interrupt

    def test_requests_with_blocking_calls(self):
        disk = self.check_requests(50, "--disk", f"{self.disk()},engine=thread,{SLEEPS}")
        self.assertGreaterEqual(disk["calls/request"], 3)  # kick, the read itself, interrupt

    def test_sums_over_a_reset(self):
        once = self.check_requests(20, "--disk", self.disk())
        twice = self.stats("requests", "--disk", self.disk(), cmdline="20 twice")["device"]["blk0"]
        self.assertEqual(twice["requests"], 41)
        self.assertEqual(twice["exits"], 2 * once["exits"])

    def test_console(self):
        found = self.stats("output", cmdline="serial 2")
        (row,) = found["console"].values()
        self.assertEqual(row["bytes"], self.said)
        self.assertGreaterEqual(row["writes"], 1)
        self.assertGreaterEqual(row["exits/byte"], 1)

    def test_virtio_console(self):
        done = self.boot("console", "--stats", "--console", "stdio", input=b"0123456789.")
        row = tables(done.stderr)["console"]["console0"]
        self.assertEqual(row["bytes"], len(done.stdout))

    def test_exits_of_each_cpu(self):
        found = self.stats("smp", "--cpus", "3", cmdline="3")["vcpu"]
        self.assertEqual(list(found), ["vcpu0", "vcpu1", "vcpu2"])
        for row in found.values():
            self.assertGreater(row["exits"], 0)
            self.assertEqual(row.pop("exits"), sum(row.values()))

    def test_exits_add_up(self):
        found = self.stats("requests", "--disk", self.disk(), cmdline="5")
        accesses = sum(found["vcpu"]["vcpu0"][column]
                       for column in ("mmio-read", "mmio-write", "port-in", "port-out"))
        of_devices = sum(row["exits"] for row in found["device"].values())
        self.assertLessEqual(of_devices, accesses)
        self.assertGreater(of_devices, 0)

    def test_phases_follow_each_other(self):
        phases = self.stats("hello")["phase"]
        self.assertEqual(list(phases), PHASES)
        moments = [row["monotonic-s"] for row in phases.values()]
        self.assertEqual(moments, sorted(moments))
        total = sum(row["took-us"] for row in phases.values())
        self.assertAlmostEqual(total, (moments[-1] - moments[0]) * 1e6, delta=3)

    def test_nothing_to_count(self):
        done = self.boot(None, "--stats", "--kernel", "missing")
        self.check_status(done, 125)
        self.check_one_line(done.stderr, "missing")
