# SPDX-License-Identifier: MIT
"""A small machine: Debian's cloud kernel, one CPU, 128 MiB, three disks, user-mode network."""

import base64
import contextlib
import ctypes
import errno
import os
import shutil
import time
import unittest
from pathlib import Path

from machine import (FILES, MACHINE, NO_STRAY_INTERRUPTS, SERIAL, GuestTest, only_on,
                     reserved_port, run_tool, sha256, web_server)

MIB = 1 << 20

# Messages of a kernel that waits for, or calibrates by, missing hardware.
WAITING = ("calibrat", "PIT", "i8042: Can't", "hpet", "Fast TSC", "unstable")

CLOCKS = {
    "x86_64": ("Calibrating delay loop .skipped. preset value", "TSC deadline timer available",
               "i8042: PNP: No PS/2 controller found"),
    "aarch64": ("Calibrating delay loop .skipped., value calculated using timer frequency",
                r"arch_timer: cp15 timer\(s\) running at [0-9.]+MHz"),
}
CLOCKSOURCE = {"x86_64": "kvm-clock", "aarch64": "arch_sys_counter"}
RAM = {"x86_64": "^00100000-07ffffff : System RAM", "aarch64": "^40000000-47feffff : System RAM"}
INTERRUPT = {"x86_64": r" [1-9]\d* +IO-APIC +\d+-edge", "aarch64": r" [1-9]\d* +GICv\d +\d+ Edge"}
# The PL011's driver sends without interrupts while the FIFO has room, which it always has.
SERIAL_INTERRUPT = {"x86_64": r" [1-9]\d* +IO-APIC +4-edge +ttyS0",
                    "aarch64": r" \d+ +GICv\d +33 Level +uart-pl011"}
# With a structure at address 0 io_uring_setup() returns EFAULT, unless it is forbidden.
IO_URING = (ctypes.CDLL(None, use_errno=True).syscall(425, 1, 0) < 0
            and ctypes.get_errno() == errno.EFAULT)
POWER_BUTTON = {"x86_64": [], "aarch64": [18]}  # as a virtio device


class Cloud(GuestTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_files()
        port = cls.enterClassContext(reserved_port())
        server = cls.enterClassContext(web_server(cls.directory / "www"))
        script = f'minivmm.test="sh /test/cloud.sh http://10.0.2.2:{server}/page"'
        cls.before = int(time.time())
        machine = cls.boot(
            "--kernel", FILES / "vmlinuz-cloud", "--initrd", FILES / "initrd-cloud.img",
            "--memory", "128M", "--disk", cls.directory / "root.img",
            "--disk", f"{cls.directory}/second.img,ro",
            "--disk", f"{cls.directory}/third.img,serial=THIRD-DISK{',engine=io_uring' * IO_URING}",
            "--net", f"user,host-loopback,hostfwd=tcp:127.0.0.1:{port}-:80",
            "--cmdline", f"console={SERIAL} quiet root=/dev/vda rw panic=-1 {script}")
        machine.wait_for("^guest: serving$")
        cls.fetched = machine.fetch(f"http://127.0.0.1:{port}/random")
        cls.rings = cls.count_rings(machine.process.pid)
        machine.send("an answer\n")
        cls.status = machine.finish()
        cls.after = int(time.time())

    @staticmethod
    def count_rings(process: int) -> int:
        rings = 0
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # connections come and go
                rings += os.readlink(link) == "anon_inode:[io_uring]"
        return rings

    @classmethod
    def make_files(cls):
        cls.copy("root.img")
        (cls.directory / "www").mkdir()
        cls.page = os.urandom(MIB)
        (cls.directory / "www/page").write_bytes(cls.page)
        cls.second = os.urandom(MIB)
        (cls.directory / "second.img").write_bytes(cls.second)
        with open(cls.directory / "third.img", "wb") as third:
            third.truncate(16 * MIB)

    def test_powers_off_and_minivmm_is_silent(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))

    def test_command_line(self):
        self.assert_has("cmdline", rf"^console={SERIAL} quiet root=/dev/vda rw panic=-1 minivmm\.test=")

    def test_no_unusual_warning(self):
        self.assert_no_warning("warnings")
        self.assert_no_warning("again.warnings")

    def test_kernel_waits_for_no_missing_hardware(self):
        self.assert_has("log", *CLOCKS[MACHINE])
        lines = [line for line in self.section("log").lines()
                 if any(text in line for text in WAITING) and "(skipped)" not in line]
        self.assertEqual(lines, [])

    @only_on("aarch64", "a PC is described by ACPI")
    def test_device_tree(self):
        self.assert_has("log", "Machine model: minivmm", r"psci: PSCIv1\.\d detected",
                        r"GICv[23]: ", "rtc-pl031 9010000.rtc: setting system clock")

    @only_on("x86_64", "an Arm board is described by a device tree")
    def test_acpi(self):
        self.assert_has("log", r"ACPI: PM: \(supports S0 S5\)", "ACPI: Using IOAPIC",
                        r"ACPI: button: Power Button \[PWRB\]")
        self.assert_has("modules", "LNRO0005:00", "PNP0B00:00", "PNP0501:00", "PNP0C0C:00", "ACPI0013:00")

    @only_on("x86_64", "unit tests have dtc read the device tree")
    @unittest.skipUnless(shutil.which("iasl"), "iasl is not here")
    def test_iasl_accepts_the_tables(self):
        for line in self.section("tables").lines():
            name, data = line.split()
            table = self.directory / f"{name}.aml"
            table.write_bytes(base64.b64decode(data))
            done = run_tool("iasl", "-d", table)
            said = done.stdout + done.stderr + table.with_suffix(".dsl").read_text()
            with self.subTest(table=name):
                self.assertEqual(done.returncode, 0, said)
                self.assertNotRegex(said, r"(?i)\b(error|warning|unknown|invalid|incorrect)\b")

    def test_memory(self):
        self.assert_has("memory", RAM[MACHINE])
        self.assertNotIn("48000000" if MACHINE == "aarch64" else "08000000",
                         self.section("memory").text)
        total = int(self.section("memory").values()["MemTotal"].split()[0])
        self.assertTrue(75 * 1024 < total < 128 * 1024, total)

    @only_on("x86_64", "an Arm CPU is what the host has")
    def test_cpu(self):
        self.assert_has("cpu", "hypervisor", "x2apic", "tsc_known_freq", "tsc_deadline_timer")
        self.assertEqual(self.section("cpu").text.count("processor\t"), 1)
        self.assert_has("log", "x2apic enabled", "Switched APIC routing to:? physical x2apic",
                        "Hypervisor detected: KVM")

    def test_seed_starts_the_random_generator(self):
        self.assert_has("log", r"^\[    0\.0000\d\d\] random: crng init done")

    def test_clock(self):
        self.assert_has("clock", f"current_clocksource:{CLOCKSOURCE[MACHINE]}")

    def test_real_time_clock(self):
        rtc, date = map(int, self.section("rtc").lines())
        self.assertTrue(self.before <= rtc <= self.after, (self.before, rtc, self.after))
        self.assertLess(abs(date - rtc), 5)

    def test_interrupts(self):
        for number in range(5):  # three disks, a NIC, the entropy device
            self.assert_has("interrupts", INTERRUPT[MACHINE] + rf" +virtio{number}\n")
        self.assert_has("interrupts", SERIAL_INTERRUPT[MACHINE], *NO_STRAY_INTERRUPTS)

    def test_features(self):
        negotiated = [line.split() for line in self.section("features").lines()]
        self.assertEqual([int(kind, 16) for kind, _ in negotiated], [2, 2, 2, 1, 4] + POWER_BUTTON[MACHINE])
        wanted = {"indirect": 28, "event index": 29, "version 1": 32}
        blk = {"seg_max": 2, "blk_size": 6, "flush": 9, "topology": 10, "discard": 13,
               "write zeroes": 14}
        for number, (kind, bits) in enumerate(negotiated):
            bits_wanted = wanted | (blk if number in (0, 2) else {})
            for name, bit in bits_wanted.items():
                with self.subTest(device=f"virtio{number}", feature=name):
                    self.assertEqual(bits[bit], "1")

    def test_root_is_the_first_disk(self):
        self.assert_has("mounts", r"^/dev/vda / ext4 rw")

    def test_disks_come_in_order(self):
        root_size = (FILES / "root.img").stat().st_size
        sizes = {"vda": root_size, "vdb": MIB, "vdc": 16 * MIB}
        values = self.section("disks").values()
        self.assertEqual({name: int(values[f"{name}/size"]) * 512 for name in sizes}, sizes)
        self.assertEqual([values[f"{name}/ro"] for name in sizes], ["0", "1", "0"])
        self.assertEqual(values["vdc/serial"], "THIRD-DISK")

    def test_disks_have_a_cache_to_flush(self):
        self.assertEqual(self.section("disks").values()["vda/cache_type"], "write back")

    @unittest.skipUnless(IO_URING, "the host forbids io_uring")
    def test_io_uring_is_used_if_requested(self):
        self.assertGreaterEqual(self.rings, 1)  # files on tmpfs use engine=thread by default

    def test_limits(self):
        values = self.section("limits").values()
        for name in ("discard_max_bytes", "write_zeroes_max_bytes"):
            self.assertGreaterEqual(int(values[f"vdc/queue/{name}"]), 16 * MIB)
            self.assertEqual(values[f"vdb/queue/{name}"], "0")
        self.assertEqual(values["vda/queue/logical_block_size"], "512")

    def test_read_only_disk(self):
        section = self.section("read-only")
        self.assertIn(sha256(self.second), section.text)
        self.assertNotEqual(section.status, 0)
        self.assertEqual((self.directory / "second.img").read_bytes(), self.second)

    def test_discard(self):
        third = self.directory / "third.img"
        ones = b"\xff" * 262144
        wanted = ones + bytes(524288) + ones
        self.assertIn(sha256(wanted), self.section("discard").text)
        with open(third, "rb") as file:
            self.assertEqual(file.read(MIB), wanted)
        self.assertLessEqual(third.stat().st_blocks * 512, 524288 + 65536)

    def test_files_are_there_after_a_reboot(self):
        for name in ("write", "read", "again.files"):
            self.assertEqual(self.section(name).status, 0, name)
        self.assertEqual(self.section("read").text, self.section("again.files").text)
        self.assert_has("again.files", "^random: OK$")

    def test_disk_from_outside(self):
        image = self.directory / "root.img"
        check = run_tool("e2fsck", "-fn", image)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        copy = self.directory / "random"
        run_tool("debugfs", "-R", f"dump /kept/random {copy}", image)
        self.assertEqual(self.section("read").text.split()[0], sha256(copy.read_bytes()))

    def test_entropy(self):
        source, first, second = self.section("entropy").lines()
        self.assertRegex(source, "^virtio_rng")
        self.assertNotEqual(first, second)
        self.assertNotIn(sha256(b""), first + second)

    def test_address_by_dhcp(self):
        self.assert_has("net", "inet 10.0.2.15/24", "default via 10.0.2.2", "nameserver 10.0.2.3")
        self.assert_has("again.net", "inet 10.0.2.15/24")

    def test_mac_address(self):
        self.assert_has("mac", "^52:54:00:12:34:56$")

    def test_fetch_from_the_host(self):
        self.assert_has("fetch", sha256(self.page))

    def test_host_fetches_through_hostfwd(self):
        self.assertEqual(self.section("read").text.split()[0],
                         sha256(self.fetched))

    def test_serial_input(self):
        self.assertEqual(self.section("answer").text, "an answer\n")
