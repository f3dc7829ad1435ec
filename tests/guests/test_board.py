# SPDX-License-Identifier: MIT
"""The board: memory, CPUs, registers and ports, interrupts, the serial port."""

import calendar
import re
import time
from pathlib import Path

from vmm import MACHINE, GuestTest, only_on

# Values of --memory and where RAM then ends, in MiB: a PC has a hole, an Arm board has none.
RAM_ENDS = {
    "x86_64": ((16, 16), (512, 512), (3072, 3072), (3073, 4097), (6144, 7168)),
    "aarch64": ((16, 1040), (512, 1536), (3072, 4096), (6144, 7168)),
}


def host_caches() -> list[str]:
    """The caches of the first CPU, as the payload prints them."""
    types = {"Data": 1, "Instruction": 2, "Unified": 3}
    caches = [{name: (index / name).read_text().strip() for name in ("level", "type", "size")}
              for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")]
    return [f"cache L{c['level']} type {types[c['type']]}: {c['size'].removesuffix('K')} KiB" for c in caches]


class Board(GuestTest):
    def test_dry_run_prints_it(self):
        done = self.boot("hello", "--memory", "6G", "--disk", "no-such-disk", "--dry-run")
        self.check_status(done, 0)
        cpus, kernel, cmdline, memory, *lines = done.stdout.decode().splitlines()
        ranges = lines[:lines.index("devices")]
        devices = lines[len(ranges) + 1:]
        self.assertEqual((cpus, memory), ("cpus     1", "memory"))
        self.assertTrue(kernel.startswith("kernel   ") and cmdline.startswith("cmdline  "))
        for line in ranges:
            self.assertRegex(line, r"\A  0x[0-9a-f]{10} - 0x[0-9a-f]{10}  \d+ MiB\Z")
        for line in devices:
            self.assertRegex(line, r"\A  0x[0-9a-f]{10}  (\w+|(?=.{11} )\w+ +irq \d+)\Z")
        self.assertEqual(sum(int(line.split()[-2]) for line in ranges), 6144)
        self.assertIn("blk0", [line.split()[1] for line in devices])

    def test_memory(self):
        for mib, end in RAM_ENDS[MACHINE]:
            with self.subTest(mib=mib):
                said = self.check_passes("memory", "--memory", f"{mib}M", cmdline=str(mib))
                self.assertEqual(said, f"end {end << 20:x}\n")

    def test_cpus(self):
        for cpus in (1, 2, 3, 4):
            with self.subTest(cpus=cpus):
                said = self.check_passes("smp", "--cpus", cpus, cmdline=str(cpus))
                self.assertEqual(said, "".join(f"cpu {i} of {cpus}\n" for i in range(cpus)))

    @only_on("x86_64", "an Arm CPU has registers for its counter's frequency and its identity")
    def test_cpuid(self):
        tsc, name, *caches = self.check_passes("cpuid", "--cpus", "2").splitlines()
        self.assertRegex(tsc, r"\Atsc \d+ kHz\Z")
        host = Path("/proc/cpuinfo").read_text()
        model = re.search(r"^model name\s*: (.*)$", host, re.MULTILINE)[1]
        self.assertEqual(" ".join(name.split()), f"name {' '.join(model.split())}")
        if "AuthenticAMD" in host and "topoext" in host:
            self.assertEqual(sorted(caches), sorted(host_caches()))

    @only_on("x86_64", "on Arm KVM does not offer it")
    def test_guests_of_the_guest_only_if_asked_for(self):
        """By default: test_cpuid."""
        done = self.boot("cpuid", "--cpus", "1,nested,pmu", cmdline="nested")
        if b"nested: this host's KVM does not offer it" in done.stderr:
            self.check_one_line(done.stderr, "modprobe")
            self.skipTest("this host's KVM does not offer it")
        self.check_status(done, 0)

    @only_on("x86_64", "an Arm CPU has registers for its counter's frequency, and another clock")
    def test_clocks_without_kvmclock(self):
        before = int(time.time())
        *timers, date = self.check_passes("clocks").splitlines()
        self.assertEqual(timers, ["PM timer agrees with CPUID", "interval timer agrees with CPUID"])
        century, year, *rest = map(int, date.split()[1:])
        shown = calendar.timegm((century * 100 + year, *rest))
        self.assertTrue(before <= shown <= time.time(), f"{date} at {before}")

    @only_on("x86_64", "only x86 has ports")
    def test_every_width_at_every_port(self):
        said = self.check_passes("ports")
        self.assertIn("acpi_power\nstring output\n", said)

    @only_on("aarch64", "on x86 the platform's chips are at ports")
    def test_every_width_at_every_register(self):
        self.assertEqual(self.check_passes("chips"), "pl011\npl031\npvpanic\ndebug_exit\n")

    @only_on("aarch64", "on x86 such accesses are KVM failures: see test_ends.py")
    def test_accesses_that_cannot_be_decoded(self):
        self.assertEqual(self.check_passes("fault"), "10 aborts\n")

    def test_interrupts(self):
        self.assertEqual(self.check_passes("interrupts", cmdline="rng"), "!\n")

    def test_interrupts_after_a_reset(self):
        with self.running("interrupts", cmdline="rng again") as process:
            self.assertEqual([process.first_line, process.stdout.readline(),
                              process.stdout.readline()], [b"!\n"] * 3)

    def test_interrupts_of_a_later_device(self):
        self.check_passes("interrupts", "--disk", self.disk(), "--disk",
                          self.disk("second.img"), cmdline="rng")


class Serial(GuestTest):
    def test_input_from_a_pipe(self):
        self.assertEqual(self.check_passes("echo", input=b"one line\x03\x1a\x01x."),
                         "ready\none line\x03\x1a\x01x.")

    def test_input_from_a_file(self):
        with self.file("input", b"from a file.").open("rb") as file:
            self.assertEqual(self.check_passes("echo", stdin=file), "ready\nfrom a file.")

    def test_more_input_than_the_fifo(self):
        line = b"0123456789abcdef" * 64 + b"."
        self.assertEqual(self.check_passes("echo", input=line), "ready\n" + line.decode())
